"""Texts in, one matrix a view out, in input order: the frozen encoder.

`encoder` is the class that users see, `engine` a model that is ready to run, `loading` makes one
with torch, `batching` groups texts, `probe_texts` are what it is tried on, `transformer` is its
scikit-learn face. Imports `features.backends` and below; reads and writes no tweets and no stores.
"""
