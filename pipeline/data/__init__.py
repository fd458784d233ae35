"""Rows for stage two: stores of several encoders joined, rows matched, labels taken, doubles found.

`join` reads stores side by side, `matching` finds the same tweet in them, `labelled_rows` takes
what has a label, `conflicts` settles what becomes of texts with several labels, `near_duplicates`
groups texts that no fold may divide. Imports `pipeline.head`, `pipeline.solver` and
`features.store`; fits nothing.
"""
