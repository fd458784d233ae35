"""How good a head is: folds, cross-validation, metrics, and how sure their differences are.

`folds` cuts rows, `cross_validation` fits models that score rows they have not seen, `metrics` measures,
`bootstrap` says how sure a difference is. Imports `pipeline.solver` and `pipeline.head`; reads no files.
"""
