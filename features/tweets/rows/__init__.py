"""Rows of cells that come from tables in memory and data sets, as readers of files give them.

`row_source` says what such rows are, `arrow` reads cells of Arrow's columns, `frame` makes rows of
frames of pandas, polars and others, `data_set` of a data set of Hugging Face, and `inputs` tells
what an input is. Here too nothing is known of tweets: `features/tweets/reader.py` makes these.
"""
