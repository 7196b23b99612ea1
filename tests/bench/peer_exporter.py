"""Runs peers and limits written in Python: the exporter that most applications have, and the driver alone.

python -m tests.bench.peer_exporter load-all|read|copy URL [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.bench.peer_queries import (
    IMAGE_COLUMNS,
    rows_of_annotations,
    rows_of_images,
)

PARENTS = {
    "projects": ("id", "name", "description", "project_type", "created_at", "updated_at"),
    "datasets": ("id", "name", "description", "project_id", "created_at", "updated_at"),
    "labels": ("id", "name", "color", "project_id"),
}
STATEMENTS = {name: f"SELECT {', '.join(columns)} FROM {name} ORDER BY id" for name, columns in PARENTS.items()}
EVERYTHING = {
    **STATEMENTS,
    "images": rows_of_images(ordered=False),
    "annotations": rows_of_annotations(ordered=False),
}
ROWS_AT_ONCE = 2000
Rows = dict[str, list[dict[str, Any]]]


# --- load everything, json.dump ------------------------------------------------------------------


def load_sqlite(path: str) -> Rows:
    """All rows as dictionaries."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    return {name: [dict(row) for row in connection.execute(sql)] for name, sql in EVERYTHING.items()}


async def load_postgres(url: str) -> Rows:
    """All rows as dictionaries."""
    import asyncpg

    connection = await asyncpg.connect(url)
    rows = {name: [dict(row) for row in await connection.fetch(sql)] for name, sql in EVERYTHING.items()}
    await connection.close()
    return rows


def export(rows: Rows, directory: Path) -> None:
    """Nest the rows in each other and write them, as a simple exporter would."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for annotation in rows["annotations"]:
        if isinstance(annotation["segmentation"], str):
            annotation["segmentation"] = json.loads(annotation["segmentation"])
        by_image[annotation.pop("image_id")].append(annotation)
    by_dataset: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for image in rows["images"]:
        image["annotations"] = by_image[image["id"]]
        by_dataset[image["dataset_id"]].append(image)
    of_project = {name: _grouped(rows[name]) for name in ("datasets", "labels")}
    for project in rows["projects"]:
        counted: Counter[str] = Counter()
        project["labels"] = of_project["labels"][project["id"]]
        project["datasets"] = of_project["datasets"][project["id"]]
        for dataset in project["datasets"]:
            dataset["images"] = by_dataset[dataset["id"]]
            own = Counter(shape["class_name"] for image in dataset["images"] for shape in image["annotations"])
            dataset["label_counts"] = dict(sorted(own.items()))
            counted.update(own)
        for label in project["labels"]:
            label["annotation_count"] = counted[label["name"]]
    with (directory / "database_export.json").open("w") as file:
        json.dump({"projects": rows["projects"]}, file, indent=2, default=_time)
    with (directory / "images.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["project", "dataset", *IMAGE_COLUMNS, "annotation_count"])
        for project in rows["projects"]:
            for dataset in project["datasets"]:
                for image in dataset["images"]:
                    cells = [image[name] for name in IMAGE_COLUMNS]
                    table.writerow([project["name"], dataset["name"], *cells, len(image["annotations"])])


def _grouped(rows: list[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["project_id"]].append(row)
    return groups


def _time(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


# --- the driver alone ----------------------------------------------------------------------------


def read_sqlite(path: str) -> int:
    """Fetch the rows that this exporter fetches, in its order, and forget them. Returns the number of cells."""
    connection = sqlite3.connect(path)
    cells = 0
    for sql in (rows_of_images(ordered=True), rows_of_annotations(ordered=True)):
        cursor = connection.execute(sql)
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            cells += _cells(rows)
    return cells


async def read_postgres(url: str) -> int:
    """As `read_sqlite`, through the driver's cursor."""
    import asyncpg

    connection = await asyncpg.connect(url)
    cells = 0
    for table, sql in (("i", rows_of_images(ordered=True)), ("a", rows_of_annotations(ordered=True))):
        for name in ("created_at", "updated_at"):
            sql = sql.replace(f"{table}.{name}", f"{table}.{name}::text")
        async with connection.transaction():
            cursor = await connection.cursor(sql)
            while rows := await cursor.fetch(ROWS_AT_ONCE):
                cells += _cells(rows)
    await connection.close()
    return cells


def _cells(rows: Sequence[Iterable[object]]) -> int:
    return sum(len(tuple(row)) for row in rows)


async def copy_postgres(url: str, *, ordered: bool) -> None:
    """Run COPY (SELECT …) TO STDOUT of the same columns and discard the output."""
    import asyncpg

    connection = await asyncpg.connect(url)
    with open(os.devnull, "wb") as nowhere:
        for sql in (rows_of_images(ordered=ordered), rows_of_annotations(ordered=ordered)):
            await connection.copy_from_query(sql, output=nowhere)
    await connection.close()


def main() -> None:
    """The command line."""
    what, url, *more = sys.argv[1:]
    postgres = url.startswith("postgresql:")
    if what == "load-all":
        export(asyncio.run(load_postgres(url)) if postgres else load_sqlite(url), Path(more[0]))
    elif what == "read":
        asyncio.run(read_postgres(url)) if postgres else read_sqlite(url)
    elif what in ("copy", "copy-ordered"):
        asyncio.run(copy_postgres(url, ordered=what == "copy-ordered"))
    else:
        sys.exit(f"unknown: {what}")


if __name__ == "__main__":
    main()
