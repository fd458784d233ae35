"""Files of tweets in, `Tweet` and `Reject` records out, one at a time and in input order.

`source` opens and decodes an input. `formats` has one reader a file format: `table` reads CSV and
TSV, `json_records` JSON, `parquet` Parquet and Arrow in a child process. `columns` chooses the
columns, `values` gives ids and labels one meaning, `reader` makes tweets of rows, `findings` says
what is odd about them, `rejects` writes down what could not be used. Imports `features.base`; knows
nothing of models and stores, and never imports torch, numpy or h5py.
"""
