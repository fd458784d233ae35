"""The parts of `pipeline/fit.py`: what it takes from files, and what it writes down of a fit.

`task` gathers rows, target and trials; `record` measures and makes the head's metadata; `changes`
measures a head against an earlier one, by models that stand in for both (`out_of_fold`). No file is
written here.
"""
