"""Runs the exporter for ever: detects changes, exports, recovers, reports."""
