"""Decides by the types of the keys whether a later export can keep blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from autoexport.model.blocks import BlockRecord
from autoexport.model.catalog import Key

_ORDERED = ("int", "str", "bytes")
"""Python orders keys of these types as the databases do."""


def kinds(keys: Iterable[Key]) -> set[str]:
    """The names of the types of keys."""
    return {kind.__name__ for kind in set(map(type, keys))}


def incomparable(known: tuple[str, str], dataset: Any, image: Any) -> bool:
    """Whether these keys have no order with the keys of the ledger. `known` names the types of those."""
    return any(
        type(key).__name__ not in ((kind,) if kind else _ORDERED)
        for key, kind in zip((dataset, image), known, strict=True)
    )


def kinds_of(
    records: Iterable[BlockRecord], datasets: Collection[Key], kept: tuple[str, str]
) -> tuple[str, str] | None:
    """The types of the keys of datasets and images; None if a later export cannot keep the blocks.

    `obstacle` says which keys can be ordered. Every block must end before the next one of its dataset begins. The
    blocks of a dataset follow one another. `kept` are the types in the sections that are kept.
    """
    of_datasets, of_images = ({kind} - {""} for kind in kept)
    of_datasets |= kinds(datasets)
    dataset: Any = None
    end: Any = None
    texts: list[str] = []
    for record in records:
        first: Any = record.first
        last: Any = record.last
        of_images |= kinds((first, last))
        if record.dataset == dataset and end is not None and (type(first) is not type(end) or not end < first):
            return None
        if isinstance(first, str):
            texts += (first, str(last))
        of_datasets |= kinds((record.dataset,))
        dataset, end = record.dataset, last
    if _obstacle(of_datasets) or _obstacle(of_images):
        return None
    if of_datasets == {"str"}:
        texts += map(str, datasets)
    # The ledger cannot hold keys that are not valid UTF-8.
    if not _is_valid("".join(texts)):
        return None
    return min(of_datasets, default=""), min(of_images, default="")


def can_be_kept(records: Iterable[BlockRecord], datasets: Collection[Key]) -> bool:
    """Whether a later export can keep these blocks."""
    return kinds_of(records, datasets, ("", "")) is not None


def obstacle(key_types: Collection[type]) -> str:
    """The reason why no block with keys of these types can be kept; empty if blocks can be.

    Python must order the keys as the database does: all of a level are whole numbers, or text, or bytes.
    """
    return _obstacle({kind.__name__ for kind in key_types})


def _obstacle(named: Collection[str]) -> str:
    if len(named) > 1:
        return "the keys are of several types"
    return "" if set(named) <= set(_ORDERED) else "the keys are no whole numbers, texts or bytes"


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
