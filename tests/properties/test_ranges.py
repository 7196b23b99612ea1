"""Several range workers write the bytes that one process writes, whatever the rows and their keys are."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from autoexport.pipeline import range_process, ranges
from autoexport.sources import block_size
from tests.applications import (
    COLUMNS,
    annotation_row,
    create_sqlite,
    fill_postgres,
    fill_sqlite,
    image_row,
    key,
)
from tests.postgres import APPLICATION, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

WORKERS = (2, 3)

_SAME = ("files", "counts", "orphans", "soft_deleted", "repaired", "guarded", "redacted", "left_out")


@pytest.fixture(autouse=True)
def from_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every full export is read by ranges, and has many blocks."""
    monkeypatch.setattr(ranges, "RANGES_FROM_ROWS", 0)
    monkeypatch.setattr(block_size, "LEAST_BLOCK_IMAGES", 4)
    monkeypatch.setattr(block_size, "PIECE_BYTES", 4_000)


class Started:
    """Counts the range workers that were started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        start = range_process.RangeProcess.start

        async def counted(process: range_process.RangeProcess, spools: Any) -> bool:
            self.count += 1
            return await start(process, spools)

        monkeypatch.setattr(range_process.RangeProcess, "start", counted)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The number of range workers."""
    return Started(monkeypatch)


def manifest_of(trial: Trial) -> dict[str, Any]:
    """What the manifest counts."""
    manifest = orjson.loads((trial.directory / "manifest.json").read_bytes())
    return {name: manifest[name] for name in _SAME if name != "files"}


def compare(url: str, directory: Path, **settings: Any) -> None:
    """Export with one process and with several, and compare every byte. Then nothing is left to export."""
    alone = Trial(url, directory / "1", **settings)
    alone.export(full=True)
    for workers in WORKERS:
        trial = Trial(url, directory / str(workers), workers=workers, **settings)
        trial.export(full=True)
        assert trial.contents() == alone.contents()
        assert manifest_of(trial) == manifest_of(alone)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ranges, "RANGES_FROM_ROWS", 10**9)
            assert trial.differences() == []
            assert trial.leftovers() == []
            assert not trial.export().published


def sqlite(path: Path, *statements: str) -> str:
    """A new database with these statements."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return f"sqlite:///{path}"


def tables(dataset: str, image: str, annotation: str = "INTEGER PRIMARY KEY") -> tuple[str, ...]:
    """Small tables with keys of these declarations."""
    return (
        "CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT)",
        f"CREATE TABLE datasets (id {dataset}, project_id INTEGER, name TEXT)",
        f"CREATE TABLE images (id {image}, dataset_id, filename TEXT)",
        f"CREATE TABLE annotations (id {annotation}, image_id, label TEXT, confidence REAL)",
        "INSERT INTO projects VALUES (1, 'p'), (2, 'q')",
    )


def rows(datasets: list[Any], images: list[tuple[Any, Any]], annotations: int, seed: int = 1) -> Iterator[str]:
    """Rows with these keys; each annotation belongs to an image at random."""
    source = random.Random(seed)
    for number, dataset in enumerate(datasets):
        yield f"INSERT INTO datasets VALUES ({dataset}, {number % 2 + 1}, 'd{number}')"
    for number, (image, dataset) in enumerate(images):
        yield f"INSERT INTO images VALUES ({image}, {dataset}, 'i{number}.jpg')"
    for number in range(annotations):
        image, _ = source.choice(images)
        yield f"INSERT INTO annotations VALUES ({number + 1}, {image}, 'l{number % 5}', {number / 7})"


def test_the_sample(tmp_path: Path, started: Started) -> None:
    connection = create_sqlite(tmp_path / "app.db")
    fill_sqlite(connection, orphans=True)
    connection.close()
    compare(f"sqlite:///{tmp_path}/app.db", tmp_path)
    assert started.count == sum(WORKERS)


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
@pytest.mark.parametrize("datasets", [1, 3, 60])
def test_integer_keys(tmp_path: Path, started: Started, datasets: int, journal: str) -> None:
    """All images in one dataset, in some, or each in a dataset of its own."""
    source = random.Random(datasets)
    keys = source.sample(range(-50, 1000), 60)
    images = [(key, source.randrange(datasets) + 1) for key in keys]
    url = sqlite(
        tmp_path / "app.db",
        f"PRAGMA journal_mode = {journal}",
        *tables("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY"),
        *rows(list(range(1, datasets + 1)), images, 200),
    )
    compare(url, tmp_path)
    assert started.count == sum(WORKERS)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_few_images(tmp_path: Path, started: Started, images: int) -> None:
    """Fewer images than workers, or none."""
    keys = [(number, 1) for number in range(images)]
    url = sqlite(
        tmp_path / "app.db",
        *tables("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY"),
        *rows([1], keys, 5 if images else 0),
    )
    compare(url, tmp_path)
    assert started.count == {0: 0, 1: 0, 2: 4}[images]


@pytest.mark.parametrize(
    ("declared", "keys"),
    [
        ("TEXT PRIMARY KEY", [f"'{text}'" for text in ("", "a", "B", "é", "10", "9", "a b", "x''y", "花", "z")]),
        ("TEXT PRIMARY KEY COLLATE NOCASE", [f"'{text}'" for text in ("b", "A", "_", "C", "d", "E")]),
        ("BLOB PRIMARY KEY", ["x'00'", "x'ff'", "x''", "x'0000'", "x'80'", "x'7f41'"]),
        ("PRIMARY KEY", ["1", "1.5", "'1'", "x'01'", "-3", "'a'", "9007199254740993", "'é'"]),
        ("INTEGER PRIMARY KEY", ["-9223372036854775808", "9223372036854775807", "0", "-1", "5"]),
    ],
)  # fmt: skip
def test_kinds_of_keys(tmp_path: Path, declared: str, keys: list[str]) -> None:
    """Keys of images and of datasets, of every type and collation."""
    source = random.Random(3)
    images = [(key, source.choice(keys)) for key in keys]
    compare(
        sqlite(tmp_path / "app.db", *tables(declared, declared), *rows(keys, images, 40)),
        tmp_path,
        export_coco=False,
        export_yolo=False,
    )


def test_keys_that_are_null(tmp_path: Path, started: Started) -> None:
    """Null comes first or last, and compares with nothing: one process reads such rows."""
    keys = ["NULL", "NULL", "'a'", "'b'", "'c'"]
    url = sqlite(
        tmp_path / "app.db",
        *tables("TEXT PRIMARY KEY", "TEXT PRIMARY KEY"),
        *rows(["'d'"], [(key, "'d'") for key in keys], 30),
    )
    compare(url, tmp_path)
    assert started.count == 0


def test_images_that_share_a_key_in_different_datasets(tmp_path: Path, started: Started) -> None:
    """The primary key has two columns: the annotations of a key belong to each of its images."""
    images = [(number % 7 + 1, number // 7 + 1) for number in range(28)]
    url = sqlite(
        tmp_path / "app.db",
        "CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT)",
        "CREATE TABLE datasets (id INTEGER PRIMARY KEY, project_id INTEGER, name TEXT)",
        "CREATE TABLE images (id INTEGER NOT NULL, dataset_id INTEGER NOT NULL, filename TEXT,"
        " PRIMARY KEY (dataset_id, id))",
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id, label TEXT, confidence REAL)",
        "INSERT INTO projects VALUES (1, 'p'), (2, 'q')",
        *rows([1, 2, 3, 4], images, 60),
    )
    compare(url, tmp_path)
    assert started.count == sum(WORKERS)


def test_views(tmp_path: Path, started: Started) -> None:
    """One process reads views: two runs of one may give different rows."""
    url = sqlite(
        tmp_path / "app.db",
        *(line.replace("TABLE images", "TABLE pictures") for line in tables(*["INTEGER PRIMARY KEY"] * 2)),
        *(
            line.replace("INTO images", "INTO pictures")
            for line in rows([1, 2], [(number, number % 2 + 1) for number in range(20)], 60)
        ),
        "CREATE VIEW images AS SELECT id, dataset_id, filename FROM pictures WHERE id > 3",
    )  # fmt: skip
    with structlog.testing.capture_logs() as logs:
        compare(url, tmp_path)
    assert started.count == 0
    assert "images are not a table" in [entry.get("reason") for entry in logs if entry["event"] == "ranges.one"]


def test_text_that_is_not_valid(tmp_path: Path, started: Started) -> None:
    """The workers stop, and one process reads everything leniently."""
    url = sqlite(
        tmp_path / "app.db",
        *tables("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY"),
        *rows([1], [(number, 1) for number in range(20)], 60),
        "UPDATE annotations SET label = CAST(x'c3' AS TEXT) WHERE id = 50",
    )
    compare(url, tmp_path, export_coco=False, export_yolo=False)
    assert started.count == sum(WORKERS)


def test_postgresql(postgres_database: str, tmp_path: Path, started: Started) -> None:
    """Each worker adopts the exported snapshot."""
    source = random.Random(5)
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
        dataset = connection.execute("SELECT min(id) FROM datasets")[0][0]
        numbers = source.sample(range(1_000, 9_000), 120)
        connection.copy("images", COLUMNS["images"], [image_row(number, dataset) for number in numbers])
        annotations = [annotation_row(number, key(source.choice(numbers))) for number in range(10_000, 10_400)]
        connection.copy("annotations", COLUMNS["annotations"], annotations)
    compare(postgres_database, tmp_path)
    assert started.count == 2 * sum(WORKERS)  # Again, as soon as all classes are known.


def test_postgresql_with_one_connection(
    postgres_database: str, postgres_server: PostgresServer, tmp_path: Path, started: Started
) -> None:
    """The role may have one session: the workers cannot open another, so this process reads alone."""
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    postgres_server.admin(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT 1")
    try:
        compare(postgres_database, tmp_path, export_coco=False, export_yolo=False)
    finally:
        postgres_server.admin(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT -1")
    assert started.count == sum(WORKERS)


def test_postgresql_behind_a_pool(postgres_database: str, tmp_path: Path, started: Started) -> None:
    """Without prepared statements there may be a pool, which gives no second connection for sure."""
    with PostgresConnection(postgres_database) as connection:
        fill_postgres(connection)
    compare(postgres_database, tmp_path, pg_prepared_statements=False)
    assert started.count == 0
