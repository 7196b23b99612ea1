"""The facts of a whole database that a format for training needs for each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoexport.values.integer_ids import IdRule

FACTS = "training_facts"
"""The name under which the facts are handed over, beside the options of the formats."""


_UNCHANGED = IdRule()


@dataclass(frozen=True, slots=True)
class Facts:
    """How the keys of images and of annotations become integer ids, and the images that have no label file.

    `doubled` are the dataset's and the image's key of each image whose label file is that of another image.
    """

    images: IdRule = _UNCHANGED
    annotations: IdRule = _UNCHANGED
    doubled: frozenset[tuple[Any, Any]] = frozenset()

    def plain(self) -> tuple[Any, ...]:
        """The facts in plain values, in a definite order."""
        return self.images.plain(), self.annotations.plain(), sorted(self.doubled, key=repr)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Facts:
        """The facts beside the options; those of an empty database if there are none."""
        images, annotations, doubled = options.get(FACTS, (_UNCHANGED.plain(), _UNCHANGED.plain(), ()))
        return cls(IdRule.from_plain(images), IdRule.from_plain(annotations), frozenset(map(tuple, doubled)))
