"""State the version of frostline, in the one place that all read it from."""

__version__ = "0.1.0"
