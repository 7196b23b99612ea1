"""Finds the table and column of each logical field."""
