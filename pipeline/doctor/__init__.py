"""Examine this machine: what is there, and how fast each way to run a model is.

`examine` puts the facts together, `children` finds those that can crash or stand still, in child
processes, `diagnosis` is the record of all. Decides nothing. Imports `features` alone.
"""
