"""The version of aigid, where the package's build and every module can read it."""

__version__ = "0.2.0"
