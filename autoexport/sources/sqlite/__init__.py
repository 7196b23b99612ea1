"""Reads SQLite."""
