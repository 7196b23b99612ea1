"""Writes PostgreSQL's arrays, composites and geometric types as JSON whose numbers the value rules can judge.

`to_json` writes a number that JSON lacks as text, like `"NaN"`, and a point as `"(1,2)"`. The server changes the
first into a bare `NaN`, which the value rules count, and the second into `[1,2]`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func

from autoexport.model.catalog import Column, ColumnKind

JSON_KINDS: frozenset[ColumnKind] = frozenset({"array", "composite", "geometric", "box"})
"""The kinds that are read by `as_json`."""

_NUMBERS = frozenset({"float4", "float8", "numeric"})
_TIMES = frozenset({"date", "timestamp", "timestamptz"})
_POINTS = frozenset({"point", "lseg", "path", "polygon"})

_QUOTED = '([:,[])"(NaN|-?[Ii]nfinity)"(?!:)'
_COORDINATE = "(NaN|-?Infinity|-?[0-9][-+.e0-9]*)"
_POINT = rf"\({_COORDINATE},{_COORDINATE}\)"
_BOX = f"{_POINT},{_POINT}"
"""The upper right corner comes first (manual, "Boxes")."""

_CORNERS = r'{"x_min":\3,"y_min":\4,"x_max":\1,"y_max":\2}'


def as_json(column: Column, expression: ColumnElement[Any]) -> ColumnElement[Any]:
    """The text of a value as JSON. Points are `[x, y]`, and a box is an object of its four corners.

    In a composite that has a number, also a text that reads `NaN` or `Infinity` becomes a bare `NaN`.
    """
    base = frozenset(column.base)
    if column.kind == "box":
        return _replaced(cast(expression, Text()), _BOX, _CORNERS)
    if column.kind == "geometric":
        return _in_brackets(cast(expression, Text()))
    json: ColumnElement[Any] = cast(func.pg_catalog.to_json(expression), Text())
    if base <= _NUMBERS | _POINTS:
        # Nothing in it is text, so every quote surrounds a number or points.
        bare = func.pg_catalog.replace(json, '"', "")
        return _in_brackets(bare) if base & _POINTS else bare
    if "box" in base:
        json = _replaced(json, f'"{_BOX}"', _CORNERS)
    if "point" in base:
        json = _replaced(json, f'"{_POINT}"', r"[\1,\2]")
    return _replaced(json, _QUOTED, r"\1NaN") if base & (_NUMBERS | _TIMES) else json


def _in_brackets(points: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.pg_catalog.translate(points, "()", "[]")


def _replaced(text: ColumnElement[Any], pattern: str, replacement: str) -> ColumnElement[Any]:
    return func.pg_catalog.regexp_replace(text, pattern, replacement, "g")
