"""`annotations.csv` byte by byte: columns, repeated cells of images, guards, polygons."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from autoexport.formats.annotations_csv import COLUMNS, AnnotationsTable
from tests.trees import Dataset, Project, built, sample

GOLDEN = Path(__file__).parents[1] / "golden"
HEADER = (
    "annotation_id,image_id,filename,project_id,project_name,dataset_id,dataset_name,split,type,label,label_id,"
    "confidence,x_min,y_min,x_max,y_max,polygon,is_auto_generated,is_verified,model_id,created_at,updated_at\n"
)


def rows_of(*images: dict[str, Any], guard: bool = True) -> list[dict[str, str]]:
    """The rows of one dataset, as `csv` reads them."""
    whole = built([Project({"id": 1, "name": "p"}, [], [Dataset({"id": 2, "name": "d"}, list(images))])])
    text = whole.written(AnnotationsTable(guard)).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_golden_files() -> None:
    """The bytes are those that were reviewed once; without guard and with a byte order mark as well."""
    whole = built(sample())
    assert whole.written(AnnotationsTable()) == (GOLDEN / "annotations.csv").read_bytes()
    bare = whole.written(AnnotationsTable(guard=False, bom=True))
    assert bare == (GOLDEN / "annotations.unguarded-bom.csv").read_bytes()


def test_the_header_stands_over_no_rows() -> None:
    """The columns of the contract, also if no image has an annotation."""
    assert built([]).written(AnnotationsTable()).decode() == HEADER
    bare = [Project({"id": 1}, [], [Dataset({"id": 1}, [{"id": 1}, {"id": 2}])])]
    assert built(bare).written(AnnotationsTable()).decode() == HEADER


def test_every_annotation_repeats_its_image() -> None:
    """Images without annotations have no row, wherever they are."""
    images = [{"id": n, "filename": f"{n}.jpg", "split": "train"} for n in range(5)]
    images[1]["annotations"] = [{"id": 10}, {"id": 11}]
    images[3]["annotations"] = [{"id": 12}]
    rows = rows_of(*images)
    repeated = [(row["annotation_id"], row["image_id"], row["filename"], row["split"]) for row in rows]
    assert repeated == [
        ("10", "1", "1.jpg", "train"), ("11", "1", "1.jpg", "train"), ("12", "3", "3.jpg", "train"),
    ]  # fmt: skip
    assert {(row["project_id"], row["project_name"], row["dataset_id"], row["dataset_name"]) for row in rows} == {
        ("1", "p", "2", "d")
    }


@pytest.mark.parametrize("polygon", ["[[1, 2.5], [3, 4]]", '[{"x": 1, "tag": "a,\\"b\\nc"}]', '"=1+1"'])
def test_polygons_are_json_in_a_cell(polygon: str) -> None:
    """JSON text opens no formula, so no `'` comes before it."""
    (row,) = rows_of({"id": 1, "annotations": [{"id": 1, "polygon": polygon}]})
    assert json.loads(row["polygon"]) == json.loads(polygon)


def test_boxes_and_missing_values() -> None:
    """A missing value is an empty cell, a box its four corners."""
    box = {"box_0": 1.0, "box_1": 2, "box_2": 3.25, "box_3": 4.0}
    first, second = rows_of({"id": 1, "annotations": [{"id": 1, **box}, {"id": 2}]})
    assert [first[name] for name in ("x_min", "y_min", "x_max", "y_max")] == ["1.0", "2", "3.25", "4.0"]
    assert [second[name] for name in COLUMNS[9:17]] == [""] * 8
    assert (first["type"], second["type"]) == ("bbox", "classification")


def test_guarded_cells_are_counted_in_each_row() -> None:
    """A guarded cell of an image, a dataset or a project counts once for each annotation of the image."""
    images: list[dict[str, Any]] = [
        {"id": "=1", "filename": "=a", "split": "-x", "annotations": [{"id": 1}, {"id": 2, "label": "+b"}]},
        {"id": "2", "filename": "=b"},
        {"id": "3", "filename": "c", "annotations": [{"id": "@", "model_id": "=m"}]},
    ]
    whole = built([Project({"id": 1, "name": "+p"}, [], [Dataset({"id": 1, "name": "@d"}, images)])])
    assert whole.guarded(AnnotationsTable()) == 2 * 3 + 1 + 2 + 2 * 3
    assert whole.guarded(AnnotationsTable(guard=False)) == 0
    written = whole.written(AnnotationsTable()).decode()
    opened = ("\"'=", "\"'+", "\"'-", "\"'@")
    assert sum(written.count(opener) for opener in opened) == whole.guarded(AnnotationsTable())


def test_the_image_of_a_byte() -> None:
    """The second cell of the row, also if cells before it hold commas, quotes and line ends."""
    images: list[dict[str, Any]] = [
        {"id": 'i,"\n1', "filename": "a\nb", "annotations": [{"id": 'k,"\n1'}, {"id": 2}]},
        {"id": "x", "annotations": [{"id": 3}]},
    ]
    (body,) = built([Project({"id": 1}, [], [Dataset({"id": 1}, images)])]).bodies(AnnotationsTable())
    first, last = body.index(b"\n2,"), body.index(b"\n3,")
    assert AnnotationsTable().image_at(body, 1) == '"i,""\n1"'
    assert AnnotationsTable().image_at(body, first + 1) == '"i,""\n1"'
    assert AnnotationsTable().image_at(body, last + 1) == '"x"'
