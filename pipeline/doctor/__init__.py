"""Examine this machine: what is there, and how fast each way to run a model is.

`examine` collects the facts; what can crash or stand still runs in child processes. Decides
nothing. Imports `features` alone.
"""
