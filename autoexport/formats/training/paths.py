"""Turns stored paths of images into relative ones, for readers that open them below a root."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/*")
_DRIVE = re.compile(r"[A-Za-z]:")
_LINE_ENDS = re.compile(r"[\n\r\0\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""The ends of a line to Python's `splitlines`, by which ultralytics reads a list, and NUL, which no path holds."""

_SUFFIXES = (
    "avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpeg2000", "jpg", "mpo", "png", "tif", "tiff", "webp",
    "pfm",
)  # fmt: skip
"""The images that ultralytics opens (`IMG_FORMATS`, data/utils.py of 8.4); it skips all others."""

_MOST_BYTES = 240
"""The longest part of a path, below the 255 bytes of most file systems; a temp file adds to it elsewhere."""


def relative_paths(paths: Sequence[Any], names: Sequence[Any], root: str) -> list[str | None]:
    """The path of each image relative to `root`, with `/` between its parts; None if it has none.

    An image without a path has its file name. A path that does not begin with the root loses only what makes it
    absolute. No path leads out of the root.
    """
    base = _parts(root)
    if not base and _are_relative(paths):
        return list(paths)
    return [_relative(path, base) or _relative(name, ()) for path, name in zip(paths, names, strict=True)]


def _relative(path: Any, base: Sequence[str]) -> str | None:
    if not isinstance(path, str):
        return None
    if not base and path.isascii() and _PLAIN.fullmatch(path):
        return path
    parts = _parts(path)
    if base and parts[: len(base)] == base and len(parts) > len(base):
        parts = parts[len(base) :]
    return "/".join(parts) or None


_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_. -]*/)*[A-Za-z0-9_-][A-Za-z0-9_. -]*")
_ALL_PLAIN = re.compile(r"(?:(?:[A-Za-z0-9_-][A-Za-z0-9_. -]*+/)*+[A-Za-z0-9_-][A-Za-z0-9_. -]*+\n)*+")


def _are_relative(paths: Sequence[Any]) -> bool:
    """Whether all paths are plainly relative, judged in one call for the whole column."""
    try:
        lines = "\n".join([*paths, ""])
    except TypeError:
        return False
    return lines.count("\n") == len(paths) and _ALL_PLAIN.fullmatch(lines) is not None


def _parts(path: str) -> list[str]:
    """The parts of a path, without drive, scheme, and everything that leads upwards."""
    text = path.replace("\\", "/")
    scheme = _SCHEME.match(text)
    text = text[scheme.end() :] if scheme and "://" in scheme[0] else text
    text = text[2:] if _DRIVE.match(text) else text
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def label_path(path: str | None, *, rooted: bool) -> tuple[str, str] | None:
    """The path of an image below `images/`, and that of its label file below `labels/`; None if it can have none.

    ultralytics replaces the last `/images/` of the path. Without a root the folder `images` is the stored one, so
    that the path begins after it. With a root, a path with such a folder has no place.
    """
    if path is None or _LINE_ENDS.search(path) or path != path.strip():
        return None
    if "/images/" in f"/{path}":
        if rooted:
            return None
        path = f"/{path}".rsplit("/images/", 1)[1]
    folders, _, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if not dot or suffix.lower() not in _SUFFIXES or not stem.strip("."):
        return None
    if any(len(part.encode()) > _MOST_BYTES for part in path.split("/")):
        return None
    return path, f"{folders}/{stem}.txt" if folders else f"{stem}.txt"
