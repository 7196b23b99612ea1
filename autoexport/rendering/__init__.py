"""Turns rows into the bytes of each output."""
