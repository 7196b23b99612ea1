"""Reads the settings, merges the places they come from, and parses database URLs."""
