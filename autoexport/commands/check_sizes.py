"""Says which outputs suit so many rows, before their files are too large for their readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_JSON_BYTES = 500
"""Bytes of an image or of an annotation in the JSON tree, about. Measured: 650 MB for 1.3 million rows of both."""

_JSON_LOAD = 5
"""`json.load` takes about so many times the size of a file. Measured: 236 MB for 54 MB."""

LARGE_JSON_BYTES = 1_000_000_000
"""From this size on, a JSON file takes a reader gigabytes."""

LAKE_ROWS = 50_000_000
"""From so many rows on, a lake is worth it: any change replaces the whole of a Parquet file of 2 GB."""


def size_notes(live: Mapping[str, int], options: Mapping[str, Any], *, lake: bool) -> list[str]:
    """Notes about outputs that are too large for their readers. `live` is the number of rows by logical table."""
    rows = live.get("images", 0) + live.get("annotations", 0)
    size = rows * _JSON_BYTES
    notes = []
    if size >= LARGE_JSON_BYTES and options["export_json"]:
        notes.append(
            f"database_export.json will have about {size / 1e9:,.1f} GB, and json.load takes about "
            f"{_JSON_LOAD * size / 1e9:,.0f} GB of memory. DB_EXPORT_EXPORT_PARQUET=true writes the same rows, a "
            "twelfth of the size; DB_EXPORT_EXPORT_JSON=false leaves the tree out."
        )
    if rows >= LAKE_ROWS and not lake:
        notes.append(f"With {rows:,} rows, --lake suits better than single files: see autoexport/publishing.")
    return notes
