"""The version of the distribution."""

__version__ = "3.0.0.dev0"
