"""Auto-Labeling-Tool, the application that this exporter was first written for: all its names are conventional."""

from __future__ import annotations

from autoexport.mapping.schemas.contract import ApplicationSchema

SCHEMA = ApplicationSchema(
    name="Auto-Labeling-Tool",
    signature={
        "images": {"split_type", "split_section", "is_auto_labeled"},
        "annotations": {"class_name", "segmentation", "is_auto_generated"},
    },
)
