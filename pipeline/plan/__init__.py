"""What a run over many rows will take: a short measured run, the store's arithmetic, a simulation.

In go a sample of the input, or the figures of an earlier measured run; out goes a `Plan`. Torch is
loaded where something is measured, and nowhere else.
"""
