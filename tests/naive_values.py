"""A second implementation of the value rules: simple, one value at a time, without package code."""

from __future__ import annotations

import base64
import json
import math
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

SPLITS = {"train": "train training", "val": "val valid validation", "test": "test testing"}
TRUE, FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[ Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?(?:(Z)|([+-])(\d\d):?(\d\d)?)?)?", re.ASCII
)
DEEPEST = 254


class Text(bytes):
    """A value that SQLite calls text, in the bytes it is stored in: not always valid UTF-8."""


class Naive:
    """Converts stored values and counts what had to be repaired."""

    def __init__(self) -> None:
        self.repaired = 0

    def _null(self) -> Any:
        self.repaired += 1
        return None

    def text(self, value: Any) -> Any:
        """Text as stored, invalid bytes as U+FFFD; bytes as base64; numbers as numbers."""
        if isinstance(value, Text):
            decoded = value.decode("utf-8", "replace")
            self.repaired += decoded.encode() != bytes(value)
            return decoded
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            return self._null()
        return value

    def name(self, value: Any) -> str | None:
        """Text; values of other types as JSON."""
        value = self.text(value)
        return value if value is None or isinstance(value, str) else json.dumps(value)

    def split(self, value: Any) -> str | None:
        """One of three words by their usual spellings, or the word as stored."""
        word = self.name(value)
        if word is None or not word.strip():
            return None
        for usual, spellings in SPLITS.items():
            if word.strip().lower() in spellings.split():
                return usual
        return word

    def number(self, value: Any) -> Any:
        """A number, also where it is stored as text."""
        self.repaired += isinstance(value, bytes) and not isinstance(value, Text)
        if not isinstance(value, Text):
            return self.text(value)
        word = value.decode("utf-8", "replace").strip()
        if NUMBER.fullmatch(word):
            number = float(word) if re.search(r"[.eE]", word) else int(word)
            return number if math.isfinite(number) else self._null()
        if word.lower().strip("+-") in ("nan", "inf", "infinity"):
            return self._null()
        self.repaired += 1
        return value.decode("utf-8", "replace")

    def flag(self, value: Any) -> bool | None:
        """True or false; null if the value is neither."""
        if value is None or isinstance(value, int | float):
            return None if value is None else self._null() if value != value else bool(value)
        word = value.decode("utf-8", "replace").strip().lower()
        return True if word in TRUE else False if word in FALSE else self._null()

    def time(self, value: Any) -> Any:
        """A datetime: naive as it is, aware in UTC; null if infinite; anything else as text, also a finer time."""
        found = TIME.fullmatch(value.decode("utf-8", "replace")) if isinstance(value, Text) else None
        if not found:
            word = value.decode("utf-8", "replace").strip().lower() if isinstance(value, Text) else ""
            return self._null() if re.fullmatch(r"[+-]*infinity", word) else self.text(value)
        *whole, fraction, zulu, sign, hours, minutes = found.groups()
        if fraction and fraction[6:].strip("0"):
            return self.text(value)  # a datetime has no nanoseconds
        try:
            year, month, day, hour, minute, second = (int(part or 0) for part in whole)
            microsecond = int((fraction or "0")[:6].ljust(6, "0"))
            moment = datetime(year, month, day, hour, minute, second, microsecond)  # noqa: DTZ001
            if zulu or sign:
                offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
                moment = moment.replace(tzinfo=timezone(-offset if sign == "-" else offset)).astimezone(UTC)
        except (ValueError, OverflowError):
            return self.text(value)
        return moment

    def document(self, value: Any) -> Any:
        """Parsed JSON; null for blank text and for numbers that JSON cannot hold; other text as it is."""
        if not isinstance(value, bytes):
            return self.text(value)
        before = self.repaired
        for read in (self._json,) if isinstance(value, Text) else (self._json, self._jsonb):
            try:
                return read(value)
            except (ValueError, RecursionError):
                self.repaired = before
        if not value.decode("utf-8", "replace").strip():
            return None
        self.repaired = before + 1
        return value.decode("utf-8", "replace") if isinstance(value, Text) else self.text(value)

    def _json(self, value: bytes) -> Any:
        parsed = self._finite(json.loads(value.decode(), parse_constant=lambda _: self._null()))
        json.dumps(parsed, ensure_ascii=False).encode()
        if _depth(parsed) > DEEPEST:
            raise ValueError
        return parsed

    def _jsonb(self, value: bytes) -> Any:
        """SQLite's binary JSON, without JSON5: a test makes none."""
        parsed, rest = _jsonb(value)
        if rest:
            raise ValueError
        return self._finite(parsed)

    def polygon(self, value: Any) -> Any:
        """As a document, but flat lists of six numbers or more, GeoJSON and objects of x and y become pairs."""
        before, parsed = self.repaired, self.document(value)
        if isinstance(value, Text) and isinstance(parsed, str) and self.repaired > before:
            words = value.decode("utf-8", "replace").replace(",", " ").replace(";", " ").split(" ")
            numbers = [word for word in words if word]
            if all(re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", word) for word in numbers) and len(numbers) > 5:
                self.repaired = before
                parsed = json.loads(f"[{','.join(numbers)}]")
        if isinstance(parsed, dict) and parsed.get("type") == "Polygon":
            points = [[point[:2] for point in ring] for ring in parsed["coordinates"]]
            return points[0] if len(points) == 1 else points
        if isinstance(parsed, list) and parsed and all(isinstance(point, dict) for point in parsed):
            pairs_ = [[point.get("x"), point.get("y")] for point in parsed]
            return pairs_ if all(map(_are_numbers, pairs_)) else parsed
        if isinstance(parsed, list) and parsed and all(map(_is_ring_of_objects, parsed)):
            rings_ = [[[point["x"], point["y"]] for point in ring] for ring in parsed]
            return rings_[0] if len(rings_) == 1 else rings_
        rings = parsed if isinstance(parsed, list) and parsed and isinstance(parsed[0], list) else [parsed]
        if not all(_is_flat(ring) for ring in rings):
            return parsed
        if any(len(ring) % 2 for ring in rings):
            self.repaired += 1
            return parsed
        pairs = [[list(pair) for pair in zip(ring[::2], ring[1::2], strict=True)] for ring in rings]
        return pairs[0] if len(pairs) == 1 else pairs

    def _finite(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self._finite(item) for item in node]
        if isinstance(node, dict):
            return {name: self._finite(item) for name, item in node.items()}
        if isinstance(node, int | float) and (abs(node) > 1.797e308 or node != node):
            return self._null()
        return node


def _is_ring_of_objects(ring: Any) -> bool:
    """Whether this is a list of one object or more, each with numbers x and y."""
    return (
        isinstance(ring, list)
        and bool(ring)
        and all(isinstance(point, dict) and _are_numbers([point.get("x"), point.get("y")]) for point in ring)
    )


def _is_flat(ring: Any) -> bool:
    """Whether this is a list of six or more numbers of up to 64 bits."""
    return isinstance(ring, list) and len(ring) >= 6 and _are_numbers(ring)


def _are_numbers(ring: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in ring)


def _depth(node: Any) -> int:
    below = node if isinstance(node, list) else list(node.values()) if isinstance(node, dict) else None
    return 0 if below is None else 1 + max(map(_depth, below), default=0)


def _jsonb(value: bytes) -> tuple[Any, bytes]:
    """The first element of a JSONB value, and the bytes after it."""
    if not value:
        raise ValueError
    head = value[:1].hex()
    start, length, kind = 1, int(head[0], 16), head[1]
    if length > 11:
        start += 2 ** (length - 12)
        length = int(value[1:start].hex(), 16)
    payload, rest = value[start : start + length], value[start + length :]
    if len(payload) < length or start > len(value):
        raise ValueError
    if kind in "012" and not payload:
        return (None, True, False)[int(kind)], rest
    if kind in "3456789a":
        return _jsonb_scalar(kind, payload.decode()), rest
    if kind not in "bc":
        raise ValueError
    items = []
    while payload:
        item, payload = _jsonb(payload)
        items.append(item)
    if kind == "b":
        return items, rest
    if len(items) % 2 or not all(isinstance(name, str) for name in items[::2]):
        raise ValueError
    return dict(zip(items[::2], items[1::2], strict=True)), rest


def _jsonb_scalar(kind: str, text: str) -> Any:
    if kind in "7a":
        return text
    if kind in "89":
        decoded = json.loads(f'"{text}"', strict=False)
        decoded.encode()
        return decoded
    patterns = {
        "3": r"-?\d+",
        "5": r"-?\d+(\.\d+)?([eE][+-]?\d+)?",
        "6": NUMBER.pattern,
        "4": r"[+-]?0[xX][\da-fA-F]+",
    }
    if not re.fullmatch(patterns[kind], text, re.ASCII):
        raise ValueError
    return int(text, 16) if kind == "4" else int(text) if kind == "3" else float(text)


def json_value(value: Any) -> Any:
    """The value as it is written in JSON."""
    if not isinstance(value, datetime):
        return value
    return value.replace(tzinfo=None).isoformat() + ("Z" if value.tzinfo else "")


def csv_text(value: Any, *, guard: bool) -> tuple[str | None, bool]:
    """The text of a CSV cell, None for nothing at all, and whether it is guarded."""
    if value is None:
        return None, False
    if isinstance(value, datetime):
        return json_value(value).replace("T", " "), False
    if not isinstance(value, str):
        return json.dumps(value), False
    risky = guard and value[:1] in tuple("=+-@\t\r\n\0\uff1d\uff0b\uff0d\uff20") and not NUMBER.fullmatch(value)
    return ("'" if risky else "") + value, risky
