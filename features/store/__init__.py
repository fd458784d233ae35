"""The feature store: HDF5 files between stage one and stage two, and all their checks.

`format` draws the layout, `reader` and `writer` use it, `shards` opens all shards of a store, and
`structure` and `row_checks` say what a file may hold. `checksum` covers every bit, `admission`
opens strangers' files in a child process first, `shard_folder` and `missing_shards` order the
shards of a folder, `verify` checks all of it. `joined` is for stores that are made in pieces, of
any number of shards. `arrow` gives rows to frames, `vector_dataset` to torch's `DataLoader`.
Imports `features.spec` and `features.base`; never torch, the encoder, tweets or extraction.
"""
