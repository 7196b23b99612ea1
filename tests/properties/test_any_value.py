"""Any value in any column is exported, and can be read back from every file."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pandas  # type: ignore[import-untyped]
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoexport.config.settings import Settings
from autoexport.pipeline.exporter import export_once
from autoexport.pipeline.job import opened_job
from autoexport.values import json_columns, scalars
from autoexport.values.polygons import polygons
from tests.naive_values import Naive, Text, csv_text, json_value
from tests.outputs import ALL_OUTPUTS
from tests.parquet_rows import expected_parquet, parquet_rows
from tests.population import COLUMNS, SCHEMA

# --- values --------------------------------------------------------------------------------------

NASTY = [
    b"", b" ", b"null", b"NULL", b"nan", b"NaN", b"-inf", b"1e999", b"0x1F", b"12", b"-1.5", b"+7", b"007",
    b"1.10",
    b"a\x00b", b"\x00", b"\x1b[31m", b"\r", b"\n", b"\r\n", b'"', b'""', b"'", b"\\", b'\\"', b",", b";", b"\t",
    b"=1+1", b"+1 2", b"-x", b"@sum", b"\t=1", b"\r=1", b"=", b"-", b"#N/A", b"NA", b"None", b"true", b"1E400",
    b"\n=1", b"\0=1", "\uff1d1".encode(), "\uff0b1".encode(), "\uff0d1".encode(), "\uff20a".encode(),
    "\uff1ea".encode(), "\u202eabc\u200f".encode(), "\ufeffbom".encode(),
    "\u2028\u2029\x85".encode(), "\U0001f600".encode(), b"\x7f",
    b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80", b"\xed\xb2\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82",
]  # fmt: skip
TIMES = [
    b"2024-01-15 09:00:00", b"2024-01-15T09:00:00.5", b"2024-01-15", b"2024-01-15 09:00", b"2024-01-15 09:00:00Z",
    b"2024-01-15 09:00:00+02", b"2024-01-15T09:00:00-05:30", b"0000-00-00", b"0000-00-00 00:00:00", b"24:00",
    b"2024-01-15 09:00:00.1234567", b"2024-01-15T09:00:00.12345678Z", b"1969-12-31 23:59:59.9999990",
    b"2024-01-15 09:00:60", b"2024-02-29", b"12024-01-15 09:00:00", b"0044-03-15 BC", b"2024-01-15 09:30.5",
    b"infinity", b"-infinity", b" Infinity",
    b"2024-01-15 24:00:00", b"2024-02-30 00:00:00", b"2024-01-15 25:00:00", b"9999-12-31T23:59:59-14:00",
    b"0001-01-01 00:00:00+01:00", b"1705312800", b"1705123112034", b"yesterday", b"2024-01-15 09:00:00.123456789",
]  # fmt: skip
DOCUMENTS = [
    b"null", b"[]", b"{}", b"[[1, 2], [3, 4.5]]", b'[{"x": 1, "y": 2.50}]', b"[NaN]", b"[1e999, -Infinity]", b"0",
    b"[12345678901234567890, 0.12345678901234567890, -0.0, -0]", b"[1,", b'"text"', b'"\\ud800"',
    b'{"a": "b\\u0000,:"}',     b"[" * 300 + b"]" * 300, b"[" * 3000 + b"]" * 3000,
    b"[" + b"9" * 400 + b"]", b'{"a": 1, "a": 2}', b"\xff[1]",
]  # fmt: skip
JSONB = [*map(bytes.fromhex, (
    "0B", "0C", "00", "4B13311332", "AC17781331177935352E35", "5B13311332", "6B553965393939", "2B1731"
))]  # fmt: skip
"""SQLite's binary JSON, and bytes that are almost that."""

POLYGONS = [
    b"[1, 2, 3.50, 4, 5, 6]", b"[[1,2,3,4,5,6],[1,2,3,4,5,6e1,7,8]]", b"[1,2,3,4,5,6,7]", b"1,2;3,4;-5.5,6",
    b"1 2 3",
    b'{"type": "Polygon", "coordinates": [[[1, 2, 9], [3, 4], [5, 6]]]}', b"[[1, 2, 3], [4, 5, 6]]",
]  # fmt: skip

TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=8),
).map(Text)
ANYTHING = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), TEXTS, st.binary(max_size=8),
    st.sampled_from([2**53 + 1, -0.0, 5e-324, float("inf"), float("-inf"), 0, 1]),
)  # fmt: skip


def mostly(*likely: Any) -> st.SearchStrategy[Any]:
    """One of these, or anything."""
    return st.one_of(st.sampled_from(likely), ANYTHING)


def texts_or_anything(*likely: bytes) -> st.SearchStrategy[Any]:
    """One of these texts, or anything."""
    return mostly(*map(Text, likely))


TIME = texts_or_anything(*TIMES)
DOCUMENT = mostly(*map(Text, DOCUMENTS), *DOCUMENTS, *JSONB)
POLYGON = mostly(*map(Text, DOCUMENTS), *map(Text, POLYGONS), *DOCUMENTS, *POLYGONS, *JSONB)
FLAG = mostly(0, 1, None, Text(b"yes"), Text(b"F"))
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "created_at": TIME, "updated_at": TIME, "is_labeled": FLAG, "is_auto_labeled": FLAG, "is_verified": FLAG,
    "is_auto_generated": FLAG, "split_section": texts_or_anything(b"train", b"Valid", b"testing", b"spare", b""),
    "class_name": texts_or_anything(b"car", b"Car", b"a; b"),
    "segmentation": POLYGON,
    "width": mostly(640, 0.5), "x_min": mostly(1.0, -2.5), "name": texts_or_anything(b"p", b"=p"),
}  # fmt: skip
FIXED = {"id", "project_id", "dataset_id", "image_id"}
PUBLISHED = ("projects", "datasets", "labels", "images", "annotations")
KEYS = st.lists(TEXTS, min_size=1, max_size=4, unique=True)


@st.composite
def databases(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """The rows of the application's tables, by table, with hostile values in every column that is not a link."""
    datasets, images, annotations = draw(KEYS), draw(KEYS), draw(KEYS)
    rows: dict[str, list[dict[str, Any]]] = {
        "projects": [{"id": 1}, {"id": 2}],
        "labels": [{"id": n, "project_id": draw(st.integers(1, 2))} for n in range(draw(st.integers(0, 3)))],
        "datasets": [{"id": key, "project_id": draw(st.integers(1, 2))} for key in datasets],
        "images": [{"id": key, "dataset_id": draw(st.sampled_from(datasets))} for key in images],
        "annotations": [{"id": key, "image_id": draw(st.sampled_from(images))} for key in annotations],
    }
    for table, records in rows.items():
        for record in records:
            for column in COLUMNS[table]:
                if column not in FIXED:
                    record[column] = draw(FIELDS.get(column, ANYTHING))
    return rows


def fill(path: Path, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Store the rows; text byte for byte, valid or not."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(SCHEMA.replace(" NOT NULL", ""))
        for table, records in rows.items():
            for record in records:
                marks = ", ".join(
                    "CAST(? AS TEXT)" if isinstance(value, Text) else "?" for value in record.values()
                )
                sql = f"INSERT INTO {table} ({', '.join(record)}) VALUES ({marks})"
                connection.execute(sql, [bytes(v) if isinstance(v, bytes) else v for v in record.values()])


class Document(str):
    """A value that is published as JSON text."""


NO_BOX = dict.fromkeys(("x_min", "y_min", "x_max", "y_max"))

# --- what must come out --------------------------------------------------------------------------


class Expected:
    """The tree that a database must give, read row by row, and the count of repaired values."""

    def __init__(self, path: Path) -> None:
        self.naive = Naive()
        with closing(sqlite3.connect(path)) as connection:
            connection.text_factory = Text
            connection.row_factory = sqlite3.Row
            # Binary order, which is that of code points.
            self.rows = {
                table: [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]
                for table in PUBLISHED
            }
        self.projects = [self._project(row) for row in self.rows["projects"]]

    def _below(self, table: str, column: str, key: Any) -> Iterator[dict[str, Any]]:
        return (row for row in self.rows[table] if row[column] == key)

    def _with(self, row: dict[str, Any], rules: dict[str, str]) -> dict[str, Any]:
        return {name: getattr(self.naive, rule)(row[name]) for name, rule in rules.items()}

    def _project(self, row: dict[str, Any]) -> dict[str, Any]:
        texts = dict.fromkeys(("id", "name", "description", "project_type"), "text") | {"name": "name"}
        head = self._with(row, {**texts, "created_at": "time", "updated_at": "time"})
        labels = [
            self._with(label, {"id": "text", "name": "name", "color": "text"})
            for label in self._below("labels", "project_id", row["id"])
        ]
        datasets = [self._dataset(below, head["id"]) for below in self._below("datasets", "project_id", row["id"])]
        names: Counter[Any] = Counter()
        for dataset in datasets:
            names.update(dataset["label_counts"])
        if not self.rows["labels"]:
            labels = [{"id": None, "name": name, "color": None} for name in sorted(names)]
        for label in labels:
            label["annotation_count"] = names[label["name"]]
        return {
            **head,
            "dataset_count": len(datasets),
            **_summed(datasets),
            "labels": labels,
            "datasets": datasets,
        }

    def _dataset(self, row: dict[str, Any], project: Any) -> dict[str, Any]:
        rules = {"name": "name", "description": "text", "created_at": "time", "updated_at": "time"}
        head = {"id": self.naive.text(row["id"]), "project_id": project, **self._with(row, rules)}
        images = [self._image(below) for below in self._below("images", "dataset_id", row["id"])]
        splits = Counter(image["split"] or "unassigned" for image in images)
        usual = ["train", "val", "test", "unassigned"]
        labels = Counter(a["label"] for image in images for a in image["annotations"] if a["label"] is not None)
        return {
            **head,
            "image_count": len(images),
            "labeled_image_count": sum(image["is_labeled"] is True for image in images),
            "annotation_count": sum(image["annotation_count"] for image in images),
            "splits": {word: splits[word] for word in usual + sorted(set(splits) - set(usual))},
            "label_counts": dict(sorted(labels.items())),
            "images": images,
        }

    def _image(self, row: dict[str, Any]) -> dict[str, Any]:
        row = {**row, "split": row["split_section"], "status": row["split_type"]}
        image = self._with(
            row,
            {
                "id": "text", "filename": "text", "original_filename": "text", "file_path": "text",
                "width": "number", "height": "number", "format": "text", "file_size": "number",
                "split": "split", "status": "text",
                "is_labeled": "flag", "is_auto_labeled": "flag", "is_verified": "flag", "created_at": "time",
                "updated_at": "time",
            },
        )  # fmt: skip
        if image["filename"] is None and isinstance(image["file_path"], str):
            image["filename"] = re.split(r"[/\\]", image["file_path"])[-1]
        annotations = [self._annotation(below) for below in self._below("annotations", "image_id", row["id"])]
        return {**image, "annotation_count": len(annotations), "annotations": annotations}

    def _annotation(self, row: dict[str, Any]) -> dict[str, Any]:
        box = self._with(row, dict.fromkeys(("x_min", "y_min", "x_max", "y_max"), "number"))
        polygon = self.naive.polygon(row["segmentation"])
        boxed = any(value is not None for value in box.values())
        rest = {"is_auto_generated": "flag", "is_verified": "flag", "model_id": "text"}
        return {
            "id": self.naive.text(row["id"]),
            "type": "polygon" if polygon else "bbox" if boxed else "classification",
            "label": self.naive.name(row["class_name"]),
            "label_id": self.naive.text(row["class_id"]),
            "confidence": self.naive.number(row["confidence"]),
            "bbox": box if boxed else None,
            "polygon": polygon,
            **self._with(row, {**rest, "created_at": "time", "updated_at": "time"}),
        }

    def table(self, header: list[str]) -> list[list[Any]]:
        """The values of a CSV file with these columns."""
        records = []
        for project in self.projects:
            names = [label["name"] for label in project["labels"]]
            above = {"project_id": project["id"], "project_name": project["name"]}
            labels = {"label_count": len(names), "labels": "; ".join(name for name in names if name is not None)}
            below = []
            for dataset in project["datasets"]:
                splits = {f"{word}_count": number for word, number in dataset["splits"].items()}
                inner = {**above, "dataset_id": dataset["id"], "dataset_name": dataset["name"]}
                below.append({**splits, **dataset, **inner})
                if header[0] == "image_id":
                    records += [{**image, **inner, "image_id": image["id"]} for image in dataset["images"]]
                if header[0] == "annotation_id":
                    records += [
                        {
                            **image, **inner, "image_id": image["id"], **NO_BOX, **row, **(row["bbox"] or {}),
                            "annotation_id": row["id"],
                            "polygon": None if row["polygon"] is None else Document(json.dumps(row["polygon"])),
                        }
                        for image in dataset["images"]
                        for row in image["annotations"]
                    ]  # fmt: skip
            if header[0] not in ("image_id", "annotation_id"):
                records += below if header[0] == "dataset_id" else [{**project, **above, **labels}]
        return [[record[name] for name in header] for record in records]


def _summed(datasets: list[dict[str, Any]]) -> dict[str, int]:
    counted = ("image_count", "labeled_image_count", "annotation_count")
    return {name: sum(dataset[name] for dataset in datasets) for name in counted}


# --- reading the files ---------------------------------------------------------------------------


def with_json_times(node: Any) -> Any:
    if isinstance(node, list):
        return [with_json_times(item) for item in node]
    if isinstance(node, dict):
        return {name: with_json_times(item) for name, item in node.items()}
    return json_value(node)


def with_points(node: Any) -> Any:
    """The value with every number in it as a float."""
    if isinstance(node, list):
        return [with_points(item) for item in node]
    if isinstance(node, dict):
        return {name: with_points(item) for name, item in node.items()}
    return float(node) if type(node) is int else node


def check_json_lines(path: Path, expected: Expected) -> None:
    """Check the lines of images.jsonl against the tree, with the keys in the same order."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    wanted = []
    for project in expected.projects:
        for dataset in project["datasets"]:
            above = {"project_id": project["id"], "project_name": project["name"]}
            above |= {"dataset_id": dataset["id"], "dataset_name": dataset["name"]}
            for image in dataset["images"]:
                own = dict(image)
                annotations = [
                    {**row, **{name: with_points(row[name]) for name in ("confidence", "bbox", "polygon")}}
                    for row in own.pop("annotations")
                ]
                count = own.pop("annotation_count")
                wanted.append({**own, **above, "annotation_count": count, "annotations": annotations})
    assert json.dumps(lines) == json.dumps(with_json_times(wanted))


def with_64_bits(node: Any) -> Any:
    """Long integers as orjson reads them."""
    if isinstance(node, list):
        return [with_64_bits(item) for item in node]
    if isinstance(node, dict):
        return {name: with_64_bits(item) for name, item in node.items()}
    return float(node) if isinstance(node, int) and not -(2**63) <= node < 2**64 else node


def refuse(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def check_json(path: Path, expected: Expected) -> None:
    """Check that two strict readers read the stored values in order, down to the type of each number."""
    document = json.loads(path.read_bytes(), parse_constant=refuse)
    assert json.dumps(document["projects"]) == json.dumps(with_json_times(expected.projects))
    assert orjson.loads(path.read_bytes()) == with_64_bits(document)


def check_csv(path: Path, expected: Expected, guard: bool) -> int:
    """Check that three readers read the stored values. Returns the number of guarded cells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    values_in = expected.table(header)
    cells = [[csv_text(value, guard=guard) for value in row] for row in values_in]
    wanted = [[text for text, _ in row] for row in cells]
    for row, place in ((n, m) for n, line in enumerate(values_in) for m, v in enumerate(line) if type(v) is float):
        # There are many spellings of a float: the one in the file must mean the same.
        assert json.dumps(float(rows[row][place])) == wanted[row][place]
        wanted[row][place] = rows[row][place]
    for row, place in (
        (n, m) for n, line in enumerate(values_in) for m, v in enumerate(line) if type(v) is Document
    ):
        assert json.dumps(json.loads(rows[row][place])) == wanted[row][place]
        wanted[row][place] = rows[row][place]
    plain = [[text or "" for text in row] for row in wanted]
    assert rows == plain
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False, na_filter=False)
    assert list(frame.columns) == header
    assert frame.to_numpy().tolist() == plain
    # Polars tells a missing value from an empty text.
    assert [list(row) for row in polars.read_csv(path, infer_schema=False).rows()] == wanted
    return sum(risky for row in cells for _, risky in row)


def export(database: Path, directory: Path, **options: Any) -> Any:
    """Export once. Returns the manifest after it."""

    async def run() -> Any:
        chosen = Settings(
            database_url=f"sqlite:///{database}", export_directory=directory, **(ALL_OUTPUTS | options)
        )
        async with opened_job(chosen) as job:
            return (await export_once(job)).manifest

    return asyncio.run(run())


@settings(max_examples=settings().max_examples // 2)  # each is two exports and nine readings
@given(databases(), st.booleans(), st.booleans(), st.sampled_from(["records", "pretty"]))
def test_whole_databases(rows: dict[str, Any], guard: bool, bom: bool, style: str) -> None:
    """Every file holds every value as the contract says, and repairs and guarded cells are counted.

    A second export of the same values publishes nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        database, directory = Path(folder, "app.db"), Path(folder, "exports")
        fill(database, rows)
        manifest = export(database, directory, csv_guard=guard, csv_bom=bom, json_style=style)
        expected = Expected(database)
        check_json(directory / "database_export.json", expected)
        check_json_lines(directory / "images.jsonl", expected)
        for name in ("images.parquet", "annotations.parquet"):
            document = {"projects": with_json_times(expected.projects)}
            assert parquet_rows(directory / name) == expected_parquet(document, name)
        tables = ("projects.csv", "datasets.csv", "images.csv", "annotations.csv")
        guarded = [check_csv(directory / name, expected, guard) for name in tables]
        assert (manifest.repaired, manifest.guarded) == (expected.naive.repaired, sum(guarded))
        again = export(database, directory, csv_guard=guard, csv_bom=bom, json_style=style)
        assert again == manifest, "the same values were published twice"


# --- a column at a time --------------------------------------------------------------------------


def polygon(value: Any) -> tuple[Any, int]:
    """The rule of polygons for one value."""
    (ruled,), repaired = polygons([value])
    return ruled, repaired


COLUMN_RULES: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any], str, st.SearchStrategy[Any]]] = [
    ("texts", scalars.texts, scalars.text, "text", ANYTHING),
    ("numbers", scalars.numbers, scalars.number, "number", mostly(1, 2.5, None)),
    ("flags", scalars.flags, scalars.flag, "flag", FLAG),
    ("times", scalars.times, scalars.time, "time", TIME),
    ("documents", json_columns.documents, json_columns.document, "document", DOCUMENT),
    ("polygons", polygons, polygon, "polygon", POLYGON),
]


def delivered(value: Any) -> Any:
    """A stored value as a source delivers it."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, Text) else value


def as_json(value: Any) -> bytes:
    """A ruled value as JSON; a document already is JSON."""
    return value if isinstance(value, bytes) else scalars.encode(value)


@pytest.mark.parametrize(("column_rule", "rule", "naive", "cells"), [row[1:] for row in COLUMN_RULES])
@given(data=st.data())
def test_columns_and_values_agree(
    column_rule: Any, rule: Any, naive: str, cells: Any, data: st.DataObject
) -> None:
    """The rule for a column, the rule for one value and the naive rule agree."""
    # A column of one type takes a fast path; a column with a single odd value must not.
    ordinary = data.draw(st.lists(st.one_of(st.none(), data.draw(st.sampled_from([TEXTS, cells]))), max_size=6))
    stored = ordinary + data.draw(st.lists(cells, max_size=2))
    column = [delivered(value) for value in stored]
    ruled, repaired = column_rule(tuple(column))
    single = [rule(value) for value in column]
    assert [as_json(value) for value in ruled] == [as_json(value) for value, _ in single]
    assert repaired == sum(bad for _, bad in single)
    reference = Naive()
    wanted = [json_value(getattr(reference, naive)(value)) for value in stored]
    assert json.dumps([json.loads(as_json(value)) for value in ruled]) == json.dumps(wanted)
    assert repaired == reference.repaired
    if column_rule not in (json_columns.documents, polygons):
        assert scalars.encoded(ruled) == [scalars.encode(value) for value in ruled]
