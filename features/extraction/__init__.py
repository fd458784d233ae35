"""Stage one: files of tweets in, a feature store out, crash-safe.

`extract` is the stage on one screen, `check` looks at its input alone; `journal` keeps what is
encoded, `output` and `shard_builder` make the files, `resume` says what fits what is already there,
`encoding` runs the model in its thread. Imports all other packages of `features`; is imported by
the command line and `features` alone.
"""
