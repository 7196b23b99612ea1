"""Writes the places where ranges begin and end as JSON, and reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoexport.model.blocks import Place, Stretch
from autoexport.model.catalog import Key


def written(place: Place | None) -> list[Any] | None:
    """A place as JSON has it: bytes, and they alone, are an object."""
    return None if place is None else [{"bytes": key.hex()} if isinstance(key, bytes) else key for key in place]


def stretch_of(places: Sequence[Sequence[Any]], task: int) -> Stretch | None:
    """The range of a task, from the places between the ranges; None if there are fewer ranges than tasks."""
    if task > len(places):
        return None
    return Stretch(
        after=_read(places[task - 1]) if task else None, to=_read(places[task]) if task < len(places) else None
    )


def _read(place: Sequence[Any]) -> Place:
    dataset, image = place
    return _key(dataset), _key(image)


def _key(value: Any) -> Key:
    key: Key = bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value
    return key
