"""Runs the usual COCO exporter: all rows in one dictionary, then json.dump.

python -m tests.bench.peer_coco DATABASE DIRECTORY
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench.peer_exporter import load_sqlite


def document(path: str) -> dict[str, Any]:
    """The dictionary of a SQLite file: numbered images and annotations, with boxes and polygons as they are."""
    rows = load_sqlite(path)
    numbers = {image["id"]: number for number, image in enumerate(rows["images"], 1)}
    names = {label["name"]: label["id"] for label in rows["labels"]}
    images = [
        {
            "id": numbers[image["id"]],
            "file_name": image["file_path"],
            "width": image["width"],
            "height": image["height"],
        }
        for image in rows["images"]
    ]
    annotations = []
    for number, row in enumerate(rows["annotations"], 1):
        stored = row["segmentation"]
        points = json.loads(stored) if isinstance(stored, str) else stored
        ring = [value for x, y in map(_pair, points or ()) for value in (x, y)]
        left, top, right, bottom = (row[name] or 0.0 for name in ("x_min", "y_min", "x_max", "y_max"))
        annotations.append(
            {
                "id": number,
                "image_id": numbers.get(row["image_id"]),
                "category_id": names.get(row["class_name"], 0),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
                "segmentation": [ring] if ring else [],
            }
        )
    categories = [{"id": key, "name": name} for name, key in names.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _pair(point: Any) -> tuple[float, float]:
    return (point["x"], point["y"]) if isinstance(point, dict) else (point[0], point[1])


if __name__ == "__main__":
    with (Path(sys.argv[2]) / "instances.json").open("w") as file:
        json.dump(document(sys.argv[1]), file)
