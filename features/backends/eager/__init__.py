"""Run the forward pass in torch: the stock transformers model, made fast with the same vectors.

`stock_model` loads it, `reference` runs it as it is, `forward` runs it packed and fused
(`packed_attention`, `fused_layers`), `int8` in 8-bit integers with the ranges of `int8_ranges`, and
`product_rates` measures matrix products. The only package that imports torch when it is imported.
"""
