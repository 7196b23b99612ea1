"""Words a number with its noun: `1 image`, `2 images`."""

from __future__ import annotations

_SINGULAR = {"boxes": "box", "classes": "class", "queries": "query"}
"""The plurals of names in this program that have more than an `s` at their end."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun; `plural` if that is not the noun with an `s`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def counted_name(number: int, name: str) -> str:
    """A number and a name that begins with a plural: `1 box clipped` for `boxes_clipped`."""
    noun, *rest = name.split("_")
    return " ".join([f"{number:,}", singular(noun) if number == 1 else noun, *rest])


def singular(plural: str) -> str:
    """The singular of a plural noun."""
    return _SINGULAR.get(plural, plural.removesuffix("s"))
