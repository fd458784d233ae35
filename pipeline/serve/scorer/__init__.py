"""Score the texts of many requests at a time: in token-budget batches, for all heads together.

`heads` says what heads make of vectors, `job` is a request at work, `lane` runs an encoder on the
texts of all jobs, and `scorer` takes texts in and gives the answers. Nothing here knows of HTTP.
"""
