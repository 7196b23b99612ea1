"""Keeps the list of a project's classes: the place of a class in it never changes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import orjson

CLASSES_NAME = "classes.json"
"""The published list. It is an input of the next export, as a setting is: without it, places may change."""


def merged(pinned: Sequence[str], published: Sequence[str], labels: Iterable[str | None]) -> list[str]:
    """The classes in their order: the pinned ones, those published before, then new labels in the order of their
    ids. A class that no label has any more keeps its place."""
    names = (name for name in (*pinned, *published, *labels) if name is not None and name.strip())
    return list(dict.fromkeys(names))


def with_seen(classes: Sequence[str], seen: Iterable[str]) -> list[str]:
    """The classes, and after them, in the order of their names, those that only annotations have."""
    known = set(classes)
    return [*classes, *sorted({name for name in seen if name.strip()} - known)]


def pinned_classes(setting: str) -> list[str]:
    """The names in the setting `CLASSES`: separated by commas, or a JSON list. Raises ValueError."""
    text = setting.strip()
    if text.startswith("["):
        names = orjson.loads(text)
        if not all(isinstance(name, str) for name in names):
            raise ValueError("not a list of names")
    else:
        names = [name.strip() for name in text.split(",")]
    return list(dict.fromkeys(name for name in names if name.strip()))


def document(project: object, classes: Sequence[str]) -> bytes:
    """The bytes of `classes.json`: the project's id, and its classes, a line for each."""
    lines = ",\n    ".join(json.dumps(name) for name in classes)
    head = orjson.dumps(project).decode()
    listed = f"[\n    {lines}\n  ]" if classes else "[]"
    return f'{{\n  "project_id": {_ascii(head)},\n  "classes": {listed}\n}}\n'.encode()


def read_document(text: bytes) -> tuple[object, list[str]] | None:
    """The project and its classes; None if this is no such file."""
    try:
        record = orjson.loads(text)
        project, classes = record["project_id"], record["classes"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        return None
    return project, list(dict.fromkeys(classes))


def _ascii(text: str) -> str:
    return text if text.isascii() else json.dumps(json.loads(text))
