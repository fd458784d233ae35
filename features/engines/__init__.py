"""Run one piece of work on many tasks, on the cores and GPUs of this machine or of a cluster."""
