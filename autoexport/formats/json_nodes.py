"""Reads the nodes above the images back from the text of `database_export.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# Neither can stand in a string: there, the quotes have a backslash.
_NO_IMAGES = re.compile(rb'"images": \[[\s,]*\]')
_HEAD_ENDS = b'"datasets":'


class _Digits(str):
    """A number as it is written, which no arithmetic changes."""

    __slots__ = ()


def nodes_in(text: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """The nodes of a section without its blocks: `RecordFormat.nodes_in` says what of each."""
    text = _NO_IMAGES.sub(b'"images": []', text).strip()
    if text.endswith(_HEAD_ENDS):
        text += b"[]}"
    # What the encoder writes for a lone surrogate can be read back.
    nodes = json.loads(b"[" + text + b"]", parse_int=_Digits, parse_float=_Digits)
    for node in nodes:
        if "project_id" in node:
            yield _dataset(node)
            continue
        datasets, labels = node.pop("datasets"), node.pop("labels")
        project = _plain(node["id"])
        yield "projects", project, _plain(node)
        for label in labels:
            own = _plain(label["name"] if label["id"] is None else label["id"])
            yield "labels", b"[%b,%b]" % (project, own), _plain(label)
        for dataset in datasets:
            yield _dataset(dataset)


def _dataset(node: dict[str, Any]) -> tuple[str, bytes, bytes]:
    del node["images"]
    return "datasets", _plain(node["id"]), _plain(node)


def _plain(value: Any) -> bytes:
    if isinstance(value, _Digits):
        return value.encode()
    if isinstance(value, dict):
        return (
            b"{" + b", ".join(json.dumps(key).encode() + b": " + _plain(own) for key, own in value.items()) + b"}"
        )
    return json.dumps(value).encode()
