"""The tables and rows of a small sample database of doccano, as far as its preset reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator

SCHEMA = """
CREATE TABLE projects_project (id integer NOT NULL PRIMARY KEY, name varchar(100) NOT NULL,
    description text NOT NULL, created_at datetime NOT NULL, updated_at datetime NOT NULL, project_type
    varchar(30) NOT NULL);
CREATE TABLE examples_example (id integer NOT NULL PRIMARY KEY, filename varchar(1024) NOT NULL,
    upload_name varchar(512) NOT NULL, project_id bigint NOT NULL REFERENCES projects_project (id),
    created_at datetime NOT NULL, updated_at datetime NOT NULL);
CREATE TABLE examples_examplestate (id integer NOT NULL PRIMARY KEY,
    example_id bigint NOT NULL REFERENCES examples_example (id), confirmed_at datetime NOT NULL);
CREATE TABLE label_types_categorytype (id integer NOT NULL PRIMARY KEY, text varchar(100) NOT NULL,
    background_color varchar(7) NOT NULL, project_id bigint NOT NULL REFERENCES projects_project (id));
CREATE TABLE labels_boundingbox (id integer NOT NULL PRIMARY KEY, prob real NOT NULL, created_at datetime NOT NULL,
    updated_at datetime NOT NULL, x real NOT NULL, y real NOT NULL, width real NOT NULL, height real NOT NULL,
    example_id bigint NOT NULL REFERENCES examples_example (id),
    label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_segmentation (id integer NOT NULL PRIMARY KEY, prob real NOT NULL,
    created_at datetime NOT NULL, updated_at datetime NOT NULL, points text NOT NULL,
    example_id bigint NOT NULL REFERENCES examples_example (id),
    label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_category (id integer NOT NULL PRIMARY KEY, prob real NOT NULL, created_at datetime NOT NULL,
    updated_at datetime NOT NULL, example_id bigint NOT NULL REFERENCES examples_example (id),
    label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_textlabel (id integer NOT NULL PRIMARY KEY, prob real NOT NULL, created_at datetime NOT NULL,
    updated_at datetime NOT NULL, text text NOT NULL, example_id bigint NOT NULL REFERENCES examples_example (id));
"""
_PROJECTS = (
    ("Flowers", "ImageClassification", ("rose", "tulip"), 8),
    ("Road Signs", "BoundingBox", ("stop", "yield"), 10),
    ("Leaves", "Segmentation", ("leaf",), 6),
    ("Captions", "ImageCaptioning", (), 4),
)
_TIME = "2024-01-15 09:{:02}:00.000000"

Row = tuple[str, tuple[object, ...]]


def rows() -> Iterator[Row]:
    """The rows by table, parents first: always the same."""
    example = label = 0
    for project, (name, kind, labels, count) in enumerate(_PROJECTS, start=1):
        yield "projects_project", (project, name, f"A sample: {kind}", _time(project), _time(project), kind)
        first_label = label + 1
        for text in labels:
            label += 1
            yield "label_types_categorytype", (label, text, ("#e6194b", "#3cb44b")[label % 2], project)
        for number in range(count):
            example += 1
            file = f"{name.lower().replace(' ', '_')}_{number:03}.jpg"
            yield "examples_example", (example, f"uploads/{file}", file, project, _time(number), _time(number))
            if number % 3 == 0:
                yield "examples_examplestate", (example, example, _time(number))
            if number % 4 != 3:
                yield _annotation(kind, example, first_label + number % max(1, len(labels)), number)


def _annotation(kind: str, example: int, label: int, number: int) -> Row:
    common = (example, 0.0 if number % 2 else 0.75, _time(number), _time(number + 1))
    if kind == "BoundingBox":
        return "labels_boundingbox", (*common, 40.5 + number, 30.0, 120.0, 90.25, example, label)
    if kind == "Segmentation":
        points = json.dumps([10 + number, 20, 60, 25.5, 35, 80])
        return "labels_segmentation", (*common, points, example, label)
    if kind == "ImageClassification":
        return "labels_category", (*common, example, label)
    return "labels_textlabel", (*common, f"a caption of image {number}", example)


def _time(minute: int) -> str:
    return _TIME.format(minute)
