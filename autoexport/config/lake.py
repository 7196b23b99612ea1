"""Reads the setting that names a lake: a folder, or a place in an object store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")

_PLAIN = re.compile(r"[A-Za-z0-9._~=/-]*")
"""Polars looks for a key with other signs, such as a space, under another name."""

ALLOWED = {
    "lake": "the path of a folder without %, or a URL such as s3://bucket/prefix, gs://… or az://…, without "
    "credentials, of letters, digits and - . _ ~ = /",
    "lake_file_rows": "a number from 1 to 100000000: the rows of a data file, about",
    "lake_keep_hours": "a number of hours from 0 to 87600: the time for which older versions can be read",
}
"""The allowed values of these settings, for error messages."""


def checked_lake(value: Any) -> Any:
    """The place of a lake, a path absolute; empty text stands for none. Raises `ValueError`."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text:
        return text
    if "%" in text:
        raise ValueError("deltalake reads %20 as a space")
    if "://" not in text:
        return os.path.abspath(os.path.expanduser(text))
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.query or parts.fragment or parts.password:
        raise ValueError("no lake")
    if not _PLAIN.fullmatch(parts.path):
        raise ValueError("signs that readers would encode twice")
    if "@" in parts.netloc and not parts.scheme.startswith("abfs"):
        raise ValueError("credentials")
    return text.rstrip("/")
