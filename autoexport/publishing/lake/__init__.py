"""Keeps the rows of the Parquet files in a lake as well: two Delta tables, in a folder or in an object store."""
