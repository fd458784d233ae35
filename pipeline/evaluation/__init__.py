"""How good a head is: folds, cross-validation, metrics, and how sure their differences are.

`options` is what `fit` and `compare` are asked alike, `folds` cuts rows, `trials` says which rows
are learned from and which ones judge, `cross_validation` fits every C, a `jury` of rows judges
them, `held_out` is what the models of the best one said, `metrics` measures, `bootstrap` says how
sure a difference is. Without labels, `label_shift` estimates the shares of the classes from
probabilities by `mixture`, and `adjusted_counting` from counts. Imports `pipeline.solver` and
`pipeline.head`; reads no files.
"""
