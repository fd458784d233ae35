"""The version of frostline, in the one place that the build, the files and the CLI read it from."""

__version__ = "0.1.0"
