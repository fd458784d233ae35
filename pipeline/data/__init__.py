"""Rows for stage two: stores of several encoders joined, rows matched, labels taken, doubles found.

`join` reads stores side by side, `matching` finds the same tweet in them, `labelled_rows` takes
what has a label, `corrections` gives rows other labels, `conflicts` settles what becomes of texts
with several labels, `near_duplicates` groups texts that no fold may divide. Imports
`pipeline.head`, `pipeline.solver`, `features.store` and, for tables of corrections,
`features.tweets`; fits nothing.
"""
