"""What all dialects need: shapes as published JSON, hulls, names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import orjson

from autoexport.values.json_columns import spaced
from autoexport.values.turned import direction

Box = tuple[float | None, float | None, float | None, float | None]
NO_BOX: Box = (None, None, None, None)


def written_points(points: Sequence[Sequence[float]]) -> bytes:
    """Points as published JSON."""
    return orjson.dumps(points).replace(b",", b", ")


def written(value: Any) -> bytes | None:
    """A value as published JSON; None if it is empty."""
    return spaced(orjson.dumps(value)) if value else None


def ellipse_hull(x: float, y: float, across: float, down: float, degrees: float) -> Box:
    """The box around an ellipse with these radii, turned about its centre."""
    if degrees:
        cosine, sine = direction(degrees)
        across, down = math.hypot(across * cosine, down * sine), math.hypot(across * sine, down * cosine)
    return x - across, y - down, x + across, y + down


def name_of(value: Any) -> str | None:
    """A label as text; None if it is null."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
