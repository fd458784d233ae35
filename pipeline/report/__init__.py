"""Results in, text for a terminal out. Computes nothing.

`fits` shows what `fit` did, `comparison` the table of `compare`, `stores_and_heads` what files hold
and what was written, `input_check` what files of tweets hold, `machine` what `doctor` found,
`verification` what `verify` found, `label_shift` and `quantities` shares of classes. `metrics`
shows and names figures, `layout` has the tables and lists that all are made of.
"""
