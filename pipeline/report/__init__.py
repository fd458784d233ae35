"""Results in, text for a terminal out. Computes nothing.

`text` shows what fits, comparisons, stores, heads and machines are; `verification` what `verify`
found.
"""
