"""Keeps readable JSON and CSV copies of an image-annotation database current."""

__version__ = "0.1.0"
