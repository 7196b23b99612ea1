"""Creates a small sample database, like that of a real application, and exports it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autoexport.commands.export import export
from autoexport.commands.samples import sample_of
from autoexport.commands.terminal import say, say_command
from autoexport.config.database_url import file_uri
from autoexport.config.settings import Settings
from autoexport.errors import AutoexportError, ConfigurationError, PublishError

DEMO_MARK = 0x61786465
"""SQLite's `application_id` (PRAGMA application_id) of a demo database: it tells a demo from a foreign file."""

EXPORTS = "database_exports"
SCHEMA = """
CREATE TABLE projects (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, description TEXT,
    project_type VARCHAR(50), created_at DATETIME, updated_at DATETIME);
CREATE TABLE datasets (id VARCHAR NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, description TEXT,
    project_id INTEGER NOT NULL REFERENCES projects (id), created_at DATETIME, updated_at DATETIME);
CREATE TABLE images (id VARCHAR NOT NULL PRIMARY KEY, filename VARCHAR(255) NOT NULL,
    original_filename VARCHAR(255) NOT NULL, file_path VARCHAR(500) NOT NULL, file_size INTEGER,
    width INTEGER, height INTEGER, format VARCHAR(10), dataset_id VARCHAR NOT NULL REFERENCES datasets (id),
    is_labeled BOOLEAN, is_auto_labeled BOOLEAN, is_verified BOOLEAN, split_type VARCHAR(10),
    split_section VARCHAR(10), created_at DATETIME, updated_at DATETIME);
CREATE TABLE annotations (id VARCHAR NOT NULL PRIMARY KEY,
    image_id VARCHAR NOT NULL REFERENCES images (id), class_name VARCHAR(100) NOT NULL, class_id INTEGER,
    confidence FLOAT, x_min FLOAT, y_min FLOAT, x_max FLOAT, y_max FLOAT, segmentation JSON,
    is_auto_generated BOOLEAN, is_verified BOOLEAN, model_id VARCHAR,
    created_at DATETIME, updated_at DATETIME);
CREATE TABLE labels (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(100) NOT NULL, color VARCHAR(20),
    project_id INTEGER NOT NULL REFERENCES projects (id));
CREATE INDEX ix_images_dataset_id ON images (dataset_id);
CREATE INDEX ix_annotations_image_id ON annotations (image_id);
"""
_OWN_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"


@dataclass(frozen=True, slots=True)
class _Project:
    name: str
    description: str | None
    kind: str
    labels: tuple[str, ...]
    datasets: tuple[tuple[str, int], ...]
    image: str


_PROJECTS = (
    _Project(
        "Street Scenes", "Cars, bicycles and pedestrians at four crossings", "Object Detection",
        ("car", "bicycle", "pedestrian", "traffic light"),
        (("Morning", 12), ("Night", 8), ("Rain (not yet recorded)", 0)), "crossing_{:03}.jpg",
    ),
    _Project(
        "Äpfel & Birnen", "Qualitätskontrolle; „faul“ heißt: aussortieren", "Image Segmentation",
        ("Apfel", "Birne", "faul"), (("Förderband 1", 9), ("Förderband 2", 6)), "förderband_{:03}.png",
    ),
    _Project(
        "野鳥観察", "鳥の種類を分類する", "Image Classification",
        ("すずめ", "つばめ", "カラス"), (("春", 7), ("Архив 2023 🐦", 4)), "鳥_{:03}.jpg",
    ),
    _Project("Empty Project", None, "Object Detection", ("anything",), (), ""),
)  # fmt: skip

_SPLITS = ("train", "train", "val", "train", "test", None)
_COLORS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231")
_START = datetime(2024, 1, 15, 9, 0)  # noqa: DTZ001 - applications store naive times
_SPACE = uuid.UUID("5f1d6f0e-6d0c-4c8e-9d67-0b6f0f2f7a11")


def demo_settings(directory: Path) -> dict[str, Any]:
    """The settings that confine a demo to its directory; they override the configuration of the real exporter."""
    exports = directory / EXPORTS
    return {
        "database_url": f"sqlite:///{quote(os.fsencode(directory / 'database.db'))}",
        "export_directory": exports,
        "state_directory": exports / ".autoexport",
        "preset": True,
        "predictions": False,
        "tables": {},
    }


async def demo(
    settings: Settings,
    directory: Path,
    *,
    application: str = "",
    progress: bool = True,
    program: str = "python -m autoexport",
) -> int:
    """Create or reset the sample database in `directory`, export it, and suggest commands to try.

    `application` is one of `SAMPLES`, or empty for the usual sample. `program` is the program as the user can call
    it. Returns the exit code of the export. Raises as `make_database` and `export`.
    """
    database = directory / "database.db"
    await asyncio.to_thread(make_database, database, application=application)
    code = await export(settings, progress=progress)
    names = f"{shlex.quote(str(database))} --export-dir {shlex.quote(str(directory / EXPORTS))}"
    say()
    say(f"The sample database is {database}.")
    say(f"Its export is in {settings.export_directory}.")
    say("Look at the files, then try:")
    say_command(f"{program} check {names}")
    say_command(f"{program} {names} --monitor --interval 2")
    say_command(f"{program} verify {names}")
    return code


def make_database(database: Path, busy_s: float = 5.0, *, application: str = "") -> None:
    """Write the sample database, always with the same rows, in one transaction.

    An existing demo database is reset in place, so that a running exporter follows it. `busy_s` is the time in
    seconds to wait for another writer. `application` is one of `SAMPLES`, or empty.

    Raises `ConfigurationError` if the file is no demo database, and `PublishError` if its directory cannot be
    created. Raises `AutoexportError` if the file cannot be written.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise PublishError(
            f"The directory {database.parent} cannot be created: {exc.strerror}.", hint="Name another DIR."
        ) from exc
    if database.exists() and not _is_demo(database):
        raise ConfigurationError(
            f"{database} exists and is not a demo database; it was not changed.",
            hint="Name another directory: python -m autoexport demo DIR",
        )
    try:
        with contextlib.closing(sqlite3.connect(database, busy_s, isolation_level=None)) as connection:
            _fill(connection, application)
    except sqlite3.Error as exc:
        raise AutoexportError(
            f"The demo database {database} cannot be written: {exc}.",
            hint="Stop the program that writes to it, check permissions and free space, or name another DIR.",
        ) from exc


def _is_demo(database: Path) -> bool:
    uri = f"{file_uri(database)}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            return bool(connection.execute("PRAGMA application_id").fetchone()[0] == DEMO_MARK)
    except sqlite3.Error:
        return False


def _fill(connection: sqlite3.Connection, application: str) -> None:
    sample = sample_of(application) if application else None
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {DEMO_MARK}")
    for (table,) in connection.execute(_OWN_TABLES).fetchall():
        connection.execute(f"DROP TABLE {table}")
    for statement in (sample.SCHEMA if sample else SCHEMA).split(";"):
        connection.execute(statement)
    for table, row in sample.rows() if sample else _rows():
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own table names
    connection.execute("COMMIT")


# --- the rows: computed, not random, so that all demos are equal ---------------------------------

_Row = tuple[str, tuple[object, ...]]


def _rows() -> Iterator[_Row]:
    first_label = 1
    for project_id, project in enumerate(_PROJECTS, start=1):
        moment = _time(project_id * 1_000)
        yield "projects", (project_id, project.name, project.description, project.kind, moment, moment)
        for index, (color, name) in enumerate(zip(_COLORS, project.labels, strict=False)):
            yield "labels", (first_label + index, name, color, project_id)
        for name, count in project.datasets:
            dataset = _uuid(project.name, name)
            yield "datasets", (dataset, name, None, project_id, moment, _time(project_id * 1_000 + 5))
            for index in range(count):
                yield from _image(project, first_label, dataset, index, project_id * 1_000 + index * 61)
        first_label += len(project.labels)


def _image(project: _Project, first_label: int, dataset: str, index: int, minutes: int) -> Iterator[_Row]:
    image = _uuid(dataset, str(index))
    name = project.image.format(index)
    # A spreadsheet would evaluate this name as a formula: the CSV file shows how it is guarded.
    original = "=SUM(A1:A9).jpg" if index == 3 else name.replace("_", " ")
    width, height = (1920, 1080) if index % 3 else (1280, 960)
    count = 0 if index % 5 == 4 else 1 if project.kind == "Image Classification" else 1 + index * 7 % 4
    labeled, verified = count > 0, index % 3 == 0
    split = _SPLITS[index % len(_SPLITS)]
    taken, changed = _time(minutes + 10), _time(minutes + 27, microsecond=index * 1_013)
    yield "images", (
        image, name, original, f"uploads/{dataset[:8]}/{name}", 48_000 + index * 7_919, width, height,
        "PNG" if name.endswith("png") else "JPEG", dataset, labeled, index % 2 == 1, verified,
        "dataset" if labeled else "unassigned", split, taken, changed,
    )  # fmt: skip
    for part in range(count):
        yield _annotation(project, first_label, image, index, part, (width, height), minutes + 13 + part)


def _annotation(
    project: _Project, first_label: int, image: str, index: int, part: int, size: tuple[int, int], minutes: int
) -> _Row:
    label_index = (index + part * 2) % len(project.labels)
    left, top = 40.5 + index * 83 % (size[0] // 2), 30.25 + (index * 47 + part * 131) % (size[1] // 2)
    right, bottom = left + 120 + part * 35, top + 90 + index * 3
    by_model = (index + part) % 2 == 1
    box: tuple[float | None, ...] = (left, top, right, bottom)
    outline: str | None = None
    if project.kind == "Image Segmentation":
        middle = (left + right) / 2
        points = [[left, bottom], [left, top + 20], [middle, top], [right, top + 20], [right, bottom]]
        outline = json.dumps(points)
    elif project.kind == "Image Classification":
        box = (None, None, None, None)
    confidence = round(0.62 + (index * 37 + part * 11) % 38 / 100, 2) if by_model else None
    moment, label_id = _time(minutes, microsecond=part * 250_000), first_label + label_index
    return "annotations", (
        _uuid(image, str(part)), image, project.labels[label_index], label_id, confidence, *box, outline, by_model,
        index % 3 == 0, "yolov8n" if by_model else None, moment, moment,
    )  # fmt: skip


def _time(minutes: int, microsecond: int = 0) -> str:
    return str(_START + timedelta(minutes=minutes, microseconds=microsecond))


def _uuid(space: str, name: str) -> str:
    return str(uuid.uuid5(_SPACE, f"{space}/{name}"))
