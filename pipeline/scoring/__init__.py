"""A head at work: tweets or vectors scored, measured, counted and written.

`predict` streams scores, `evaluate` measures them where the truth is known, `estimated_prior` moves
them to the shares of their own rows, `novelty` warns of rows of another kind, `quantify` estimates
the shares of the classes. `score_columns` names the columns of scores, `output_files` writes them,
with `arrow_files` for Parquet and Arrow. `frames` scores the rows of a frame. Imports
`pipeline.data`, `pipeline.evaluation`, `pipeline.head` and, to encode texts, `features.encoder`.
"""
