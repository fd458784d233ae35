"""Files of tweets in, `Tweet` and `Reject` records out, one at a time and in input order.

`reader` finds the columns and checks the values, `formats` has one reader a file format, `parquet` reads
Parquet in a child process, `rejects` writes the rows that could not be used. Imports `features.base`;
knows nothing of models and stores, and never imports torch, numpy or h5py.
"""
