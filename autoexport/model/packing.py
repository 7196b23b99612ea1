"""Packs values of Python's built-in types into bytes, for this program alone.

Packed values never leave the memory, the nameless working files and the pipes of one export. So `marshal` may read
them: no other program writes them, and both ends are the same interpreter.
"""

from __future__ import annotations

import marshal
from typing import Any

_VERSION = 2
"""Later versions look for identical objects. This takes time, and the bytes depend on more than the values."""


def pack(value: Any) -> bytes:
    """Pack a value: numbers, text, bytes, None, and tuples, lists and dicts of these."""
    return marshal.dumps(value, _VERSION)


def unpack(data: bytes) -> Any:
    """The value that was packed. Never call it on bytes from elsewhere."""
    return marshal.loads(data)  # noqa: S302 - packed by this program
