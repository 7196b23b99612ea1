"""Notices boxes that are in another unit than the setting says."""

from __future__ import annotations

from dataclasses import dataclass

from autoexport.formats.training.samples import BoxUnits
from autoexport.model.blocks import Block
from autoexport.values.scalars import as_floats

_FEWEST = 20
"""Fewer boxes than this prove nothing."""

_MORE_THAN_ALL = 1.05
"""Boxes of fractions overrun their image a little."""


@dataclass(slots=True)
class Extent:
    """The number of boxes, their largest coordinate, and the smallest side of their images."""

    boxes: int = 0
    largest: float = 0.0
    side: float = float("inf")

    def add(self, block: Block) -> None:
        """Add the boxes of a block."""
        for name in ("x_max", "y_max"):
            present = [value for value in as_floats(block.annotations[name]) if value is not None]
            self.boxes += len(present)
            self.largest = max(self.largest, *present, 0.0)
        for name in ("width", "height"):
            sides = [value for value in as_floats(block.images[name]) if value]
            self.side = min([self.side, *sides])

    def likely(self) -> BoxUnits | None:
        """The unit that the boxes look like; None if they are too few, or too large for a proof."""
        if self.boxes < _FEWEST:
            return None
        if self.largest <= _MORE_THAN_ALL:
            return "normalized"
        if self.largest <= 100 * _MORE_THAN_ALL and self.side > 200:
            return "percent"
        return "pixels" if self.largest > 100 * _MORE_THAN_ALL else None

    def warning(self, units: BoxUnits) -> str:
        """The warning of `check` if the boxes look like another unit; empty if not."""
        likely = self.likely()
        if likely is None or likely == units:
            return ""
        return (
            f"The boxes look like {likely}: no coordinate is above {self.largest:g}. BOX_UNITS says {units}: "
            f"set DB_EXPORT_BOX_UNITS={likely} if that is right."
        )
