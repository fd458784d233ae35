"""Files in object storage, through fsspec: what `features/base/storage.py` asks of URLs.

The file system of a URL, and every way that it can fail as one line (`filesystem`).
"""
