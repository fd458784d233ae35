"""The head: a fitted classifier with what it fits, its joblib file, and its probabilities.

`head` is the record and its file, `safe_pickle` reads it without running anything, `compressed`
unpacks it before, `settings` says how it was fitted, `priors` moves probabilities to other class
shares, `calibration` finds a temperature and biases, `held_out_figures` is what shares are
estimated by, `novelty` tells tweets of another kind, `training_texts` those that it was fitted on.
Imports `pipeline.solver` and the store's and spec's records; never torch or scikit-learn's
internals.
"""
