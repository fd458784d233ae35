"""A head at work: tweets or vectors scored, measured and written.

`predict` streams scores, `evaluate` measures them where the truth is known, `output_files` writes
them. Imports `pipeline.data`, `pipeline.evaluation`, `pipeline.head` and, to encode texts,
`features.encoder`.
"""
