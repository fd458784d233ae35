"""Files in object storage, through fsspec: what `features/base/storage.py` asks of URLs.

The parts of a URL (`urls`), its file system and every way that this can fail (`filesystem`), files
that are read there (`objects`) and written (`uploads`), the paths here that stand for URLs
(`places`), and what is brought to them and sent from them (`copies`).
"""
