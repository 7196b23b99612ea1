"""Declares the options that the formats for training share."""

from __future__ import annotations

from autoexport.config.options import Option
from autoexport.formats.training.classes import pinned_classes

SHARED = (
    Option("image_root", default="", meaning="the folder that the paths of the images are relative to"),
    Option("box_units", default="pixels", choices=("pixels", "normalized", "percent")),
    Option("include_unlabeled", default=False),
    Option(
        "classes",
        default="",
        meaning='names in their order, such as car, person or ["a, b", "c"]',
        check=pinned_classes,
    ),
)
