"""The version, read by the packaging and by the journal's header."""

__version__ = "0.1.0"
