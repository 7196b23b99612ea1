"""Derives the file names of images that have only a path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def derive_names(images: dict[str, Sequence[Any]]) -> None:
    """Derive a missing file name from the last part of the path."""
    if None in images["filename"]:
        images["filename"] = [
            path.replace("\\", "/").rsplit("/", 1)[-1] if name is None and isinstance(path, str) else name
            for name, path in zip(images["filename"], images["file_path"], strict=True)
        ]
