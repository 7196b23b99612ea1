"""Fingerprints of the encoders: two versions of one may write the same value in other bytes.

orjson, for instance, writes `1e22` up to 3.11.6 and `1e+22` from 3.11.7 on. An incremental export would keep
blocks of the one beside blocks of the other, and its files would not be those of a full export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash

_NUMBERS = [
    0, 2**63, 2**64 - 1, -(2**63), 0.1, -0.0, 1e-4, 1e-5, 1e-7, 5e-324, 1e15, 1e16, 1e21, 1e22,
    123456789012345680.0, 1.7976931348623157e308,
]  # fmt: skip
_TIMES = [
    datetime(1, 1, 1),  # noqa: DTZ001 - naive times are stored, and published as such
    datetime(2025, 1, 2, 3, 4, 5, 600),  # noqa: DTZ001
    datetime(2025, 1, 2, 3, 4, 5, 600_000, UTC),
]
_TEXTS = ["\0\b\t\n\f\r\x1f\x7f\"'\\/<&>", "é\u2028\ud7ff\uffff\U0001f600", ""]
_NESTED = {"é": [], "a": {}, "b": [[1, None, True], {"c": "d"}], "fragment": orjson.Fragment(b"1.50")}
_READ = ["-0", "1.0", "1E5", "18446744073709551616", "0.30000000000000004", "1e400", "NaN", '"\\ud800"', "[1,]"]
_LEVELS = (254, 255, 256, 1024, 1025)
"""Near the deepest nesting that orjson writes and reads; what it refuses is published as text."""


def fingerprints() -> dict[str, str]:
    """A digest for each encoder by its name, of what it makes of values that its versions treat differently."""
    return {name: xxhash.xxh3_64_hexdigest(repr(probe()).encode()) for name, probe in _PROBES.items()}


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of the encoders that came, went, or have another fingerprint than before."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _json() -> list[Any]:
    values = [_NUMBERS, _TIMES, _TEXTS, _NESTED]
    written = [
        orjson.dumps(value, option=orjson.OPT_UTC_Z | layout)
        for value in values
        for layout in (0, orjson.OPT_INDENT_2)
    ]
    texts = [*_READ, *("[" * levels + "]" * levels for levels in _LEVELS)]
    return [*written, *map(_read_and_written, texts)]


def _read_and_written(text: str) -> bytes | None:
    """A JSON text as it comes back, or None where the encoder refuses it."""
    try:
        return orjson.dumps(orjson.loads(text))
    except (ValueError, TypeError):
        return None


_PROBES: Mapping[str, Callable[[], list[Any]]] = {"JSON": _json}
"""One line for each encoder of published bytes, by the name that a full export gives as its reason."""
