"""Tells the media type of a published file by its name."""

from __future__ import annotations

_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".txt": "text/plain; charset=utf-8",
    ".yaml": "application/yaml",
}


def media_type(name: str) -> str:
    """The media type for a Content-Type header."""
    _, dot, suffix = name.rpartition(".")
    return _TYPES.get(dot + suffix, "application/octet-stream")
