"""Token ids in, hidden states out: every way to run the frozen forward pass.

`registry` is the table of backends and devices, `choice` names what was decided, `trial` measures
which is fastest, `streams` runs batches on several cores. `eager` runs the model in torch,
`exported` in other runtimes. Imports `features.spec` and `features.base`; never the store, tweets
or extraction.
"""
