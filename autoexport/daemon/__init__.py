"""Runs the exporter continuously: detects changes, exports, recovers, reports."""
