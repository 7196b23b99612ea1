"""Reads PostgreSQL databases: snapshots, positions, changes."""
