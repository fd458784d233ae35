"""Run the frozen forward pass in every way that there is: token ids in, hidden states out.

`registry` is the table of backends, `devices` names what they run on, `choice` records what was
decided, `trial` measures which is fastest, `streams` runs batches on several cores. `eager` runs
the model in torch, `exported` in other runtimes. Imports `features.spec` and `features.base`; never
the store, tweets or extraction.
"""
