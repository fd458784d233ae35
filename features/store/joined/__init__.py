"""A store that is made in pieces: what lies in its folder, and how it is joined.

`layout` names the files, `receipt` says what a piece has become, `describe` makes a receipt of
finished shards, `fields` checks what a stranger may have written into any of them.
Imports the rest of `features.store`, `features.spec` and `features.base`.
"""
