"""The parts of `pipeline/fit.py`: what it takes from files, and what it writes down of a fit.

`task` gathers rows, target and trials; `record` measures and makes the head's metadata. Neither
solves, and neither writes a file.
"""
