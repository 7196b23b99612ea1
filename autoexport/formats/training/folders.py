"""Names the folders of projects: safe on every file system, unique, and the same for the same project."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import xxhash

_UNSAFE = re.compile(r"[^\w.+@() -]+")
_MOST_BYTES = 100
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices ("Naming Files, Paths, and Namespaces")."""


def folders(projects: Iterable[tuple[Any, Any]]) -> dict[Any, str]:
    """The folder of each project, from its id and its name.

    A project has its name as folder if no other has the same one, in any case. Else its id follows.
    """
    plain = {key: safe_name(name) for key, name in projects}
    taken = Counter(map(_folded, plain.values()))
    named = {
        key: name if name and taken[_folded(name)] == 1 else with_id(name, key) for key, name in plain.items()
    }
    # A name may look like another one with its id. A digest of the id ends this.
    taken = Counter(map(_folded, named.values()))
    return {
        key: name if taken[_folded(name)] == 1 else _shortened(plain[key], f"{_digest(key)}")
        for key, name in named.items()
    }


def safe_name(name: object) -> str:
    """The name with letters, digits, spaces and a few signs; empty if nothing of it is safe."""
    text = unicodedata.normalize("NFC", str(name)) if name is not None else ""
    safe = _cut(_UNSAFE.sub("_", text).strip("._ "), _MOST_BYTES).strip("._ ")
    return f"{safe}_" if _DEVICES.fullmatch(safe) else safe


def with_id(name: str, key: object) -> str:
    """The name and the id, as a safe name."""
    return _shortened(name, safe_name(key) or _digest(key))


def _shortened(name: str, end: str) -> str:
    end = _cut(end, _MOST_BYTES // 2).strip("._ ")
    return "-".join(filter(None, (_cut(name, _MOST_BYTES - len(end.encode()) - 1).strip("._ "), end)))


def _cut(text: str, most_bytes: int) -> str:
    return text.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _digest(key: object) -> str:
    return xxhash.xxh3_64_hexdigest(repr(key).encode("utf-8", "surrogatepass"))
