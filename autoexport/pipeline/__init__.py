"""Runs one export. Its modules are the steps of the export."""
