"""Threads, files, logs and other services that know no row, table or format."""
