"""The SQLite source: a private copy of the file, its fingerprint, and the watch on the original."""
