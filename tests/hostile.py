"""A database that is as hard as possible on the formats for training: names, sizes, boxes and polygons."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.applications import create_sqlite

PROJECTS = ("../..", "a/b", "a\\b", "CON", "twins", "TWINS", "", " ", "花", "x" * 300, "line\nend", ".hidden")
CLASSES = ("no", "~", "#x", "1", 'say "x"', "line\nend", "花", "a: b", "- c", "{d}", "'", "null", "\u2028", "a, b")
MANY = tuple(f"class {number}" for number in range(300))

SQUARE = [[10, 10], [60, 10], [60, 60], [10, 60]]
POLYGONS = (
    SQUARE,
    [{"x": x + 0.5, "y": y} for x, y in SQUARE],
    [SQUARE, [[20, 20], [40, 20], [40, 40], [20, 40]]],  # a hole
    [SQUARE, [[100, 100], [160, 100], [160, 160]]],  # two parts
    [[5, 5]],
    [[5, 5], [9, 9]],
    [[5, 5], [9, 9], [13, 13]],
    [[-50, -50], [700, -50], [700, 500], [-50, 500]],
    [[900, 900], [950, 900], [950, 950]],
    [],
    "text",
    {"x": 1},
    [[1, 2], [3, None], [5, 6]],
)
BOXES: tuple[tuple[object, object, object, object], ...] = (
    (10.0, 20.0, 110.5, 220.25),
    (0, 0, 640, 480),
    (10.0, 20.0, 10.0, 50.0),  # no width
    (10.0, 20.0, 50.0, 20.0),  # no height
    (50.0, 60.0, 10.0, 20.0),  # turned round
    (-20.0, -30.0, 700.0, 500.0),  # beyond all sides
    (630.0, 470.0, 700.0, 600.0),
    (700.0, 500.0, 800.0, 600.0),  # outside
    (1e-9, 1e-9, 2e-9, 2e-9),  # smaller than what YOLO can write
    (float("inf"), 1.0, 2.0, 3.0),
    ("NaN", 1.0, 2.0, 3.0),
    (None, None, None, None),
    (1.0, 2.0, None, 4.0),
    (1e300, 1.0, 2e300, 3.0),
    (0.1, 0.2, 0.3, 0.30000000000000004),
)
SIZES = (
    (640, 480),
    (640, 480),
    (640, 480),
    (None, None),
    (0, 480),
    (640, -1),
    (640.0, 480.0),
    (640.5, 480),
    ("wide", 480),
)
SPLITS = ("train", "val", "test", None, "validation", "spare", "")


def write_hostile(path: Path, *, text_keys: bool = True, images: int = 60) -> None:
    """Write the database. With `text_keys`, the keys of images and annotations are text, else integers."""
    with closing(create_sqlite(path, schema=_SCHEMA)) as db, db:
        for number, name in enumerate(PROJECTS, 1):
            db.execute("INSERT INTO projects (id, name) VALUES (?, ?)", (number, name))
            for half in (0, 1):
                db.execute("INSERT INTO datasets (id, name, project_id) VALUES (?, ?, ?)",
                           (f"d{number}-{half}", f"set {half}", number))  # fmt: skip
        names = [(1, name) for name in CLASSES] + [(2, name) for name in MANY] + [(3, "no"), (3, None), (3, "no")]
        for number, (project, name) in enumerate(names, 1):
            db.execute("INSERT INTO labels (id, name, project_id) VALUES (?, ?, ?)", (number, name, project))
        for number in range(images):
            _image(db, number, text_keys)


def _image(db: sqlite3.Connection, number: int, text_keys: bool) -> None:
    project = 1 + number // 2 % len(PROJECTS)
    width, height = SIZES[number // 7 % len(SIZES)]
    key = f"i-{number:04}" if text_keys else number + 1
    # The two halves of a project have files of the same names, some even the same path.
    file_path = (None, f"/data/{project}/{number // 2}.jpg", f"data/set {number % 2}/{number // 2}.png")[
        number // 4 % 3
    ]
    db.execute(
        "INSERT INTO images (id, filename, file_path, width, height, dataset_id, split_section, is_labeled)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, f"{number // 2}.jpg", file_path, width, height, f"d{project}-{number % 2}",
         SPLITS[number // 2 % len(SPLITS)], number % 11 != 0),
    )  # fmt: skip
    if number % 11 in (0, 1):
        return
    for place in range(15):
        shape = POLYGONS[(number + place) % len(POLYGONS)] if place % 3 == 0 else None
        box = BOXES[(2 * number + place) % len(BOXES)] if place % 6 else (None,) * 4
        label = (*CLASSES, *MANY[::40], None, "", "only here")[(number + 5 * place) % (len(CLASSES) + 11)]
        own = f"a-{number:04}-{place}" if text_keys else 100 * number + place + 1
        db.execute(
            "INSERT INTO annotations (id, image_id, class_name, x_min, y_min, x_max, y_max, segmentation)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (own, key, label, *box, json.dumps(shape) if shape is not None else None),
        )


_SCHEMA = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE datasets (id TEXT PRIMARY KEY, name TEXT, project_id INTEGER REFERENCES projects (id));
CREATE TABLE images (id PRIMARY KEY, filename TEXT, file_path TEXT, width, height,
    dataset_id TEXT REFERENCES datasets (id), split_section TEXT, is_labeled BOOLEAN);
CREATE TABLE annotations (id PRIMARY KEY, image_id REFERENCES images (id), class_name TEXT, x_min, y_min, x_max,
    y_max, segmentation TEXT);
CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, color TEXT, project_id INTEGER REFERENCES projects (id));
"""
