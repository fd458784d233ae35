"""A store that is made in pieces: what lies in its folder, and how it is joined.

`layout` names the files, and `place` reads them from wherever they lie. `order` is read for the
number of pieces; `receipt` says what a piece has become, and `describe` finds that out. `join`
makes `index` of all receipts, and `shard_files` opens shards by it when they are needed. `fields`
checks what a stranger may have written. Imports the rest of `features.store`, `features.spec` and
`features.base`.
"""
