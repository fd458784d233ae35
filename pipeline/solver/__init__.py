"""Vectors and classes in, weights and their certificates out: multinomial logistic regression.

`blocks` reads vectors, `centred` centres them and goes through them, `sums` adds up in a fixed
order, `objective` has loss and gradient, of blocks in `loss`, `lbfgs` descends, `solve` fits many
models at once, `estimator` is the scikit-learn face, `blas` takes the faster matrix library. Arrays
only: imports nothing of `features` but errors and `base`.
"""
