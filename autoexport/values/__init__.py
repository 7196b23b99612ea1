"""Turns stored values into published ones."""
