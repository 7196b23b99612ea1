"""SQLite's JSONB is read as SQLite reads it. SQLite 3.54 made the bytes of the JSON beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoexport.values.jsonb import json_text


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("00", None), ("01", True), ("02", False), ("0B", []), ("0C", {}), ("07", ""), ("1331", 1),
        (
            "CC1B17781331177935322E351777CB0D01020098615C6E5C7530306539",
            {"x": 1, "y": 2.5, "w": [True, False, None, "a\né"]},
        ),
        ("CB0D887261775C22715C6E35312E35", ['raw"q\n', 1.5]),
        (
            "CB2B4430783146262E3526352E1331442D307841A9615C7834315C2762226355396539393900652D3965393939",
            [31, 0.5, 5.0, 1, -10, "aA'b\"c", float("inf"), None, float("-inf")],
        ),
        ("9C176113312724621332", {"a": 1, "$b": 2}),
    ],
)  # fmt: skip
def test_values(stored: str, expected: Any) -> None:
    """Every type of element, with short and long headers."""
    assert json.loads(json_text(bytes.fromhex(stored))) == expected


@pytest.mark.parametrize(
    "stored",
    [
        "", "0D", "10", "CB", "CB05", "4B133113", "5B13311332", "4B1331133200", "1378", "2661E9", "2C1331", "1C00",
        "2C13311332", "37C3A9", "28225C", "FB7FFFFFFFFFFFFFFF", "12" * 400, "FC0000000000000001",
    ],
)  # fmt: skip
def test_other_bytes(stored: str) -> None:
    """Missing and superfluous bytes, reserved types, names that are no text, invalid text and numbers."""
    with pytest.raises(ValueError):  # noqa: PT011 - json and int raise it, too
        json_text(bytes.fromhex(stored))


def test_deep_values() -> None:
    """A value that is nested too deep is refused before the interpreter is."""
    blob = b"\x0b"
    for _ in range(2_000):
        blob = b"\xeb" + len(blob).to_bytes(4) + blob
    with pytest.raises(ValueError, match="too deep"):
        json_text(blob)
