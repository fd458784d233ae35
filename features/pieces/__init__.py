"""A large input in *pieces*, parts that are read and encoded by themselves, by one job or many.

`split` makes pieces of inputs: `row_size` tells about how many rows a file has, `file_index` and
`borders` cut large files between rows, `indexes` keeps where. `piece` is one of the pieces, and
reads it. `order` and `choice` are what all jobs agree on, `make_piece` makes a piece in the folder
that `scratch` gives it and commits it by one of the `receipts`, `part` is a job that does so for
its share of the pieces. `duplicates` finds the texts that several pieces have. Imports
`features.extraction` and what that imports; never torch.
"""
