"""Writes bytes to files, whole or not at all."""
