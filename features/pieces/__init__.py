"""A large input in *pieces*, parts that are read and encoded by themselves, by one job or many.

`split` makes pieces of inputs: `row_size` tells about how many rows a file has, `file_index` and
`borders` cut large files between rows. `piece` is one of the pieces, and reads it. `duplicates`
finds the texts that several pieces have. Imports `features.base`, `features.extraction`,
`features.spec`, `features.store` and `features.tweets`; never torch.
"""
