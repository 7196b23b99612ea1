"""Generates large databases of the application from a seed, the same rows in SQLite and PostgreSQL.

python -m tests.bench.generate big.sqlite3 --images 200000 --annotations-per-image 5.5
python -m tests.bench.generate --postgres postgresql://user:password@127.0.0.1/empty_database --indexes
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from tests.applications import COLUMNS, INDEXES, Row, create_sqlite, postgres_schema
from tests.postgres_connection import PostgresConnection

PROJECTS, DATASETS, POLYGON_POINTS, POLYGON_SHARE = 5, 20, 12, 0.2
IMAGES_PER_BATCH = 2000
CLASSES = ("car", "dog", "cat", "person", "bicycle")
PARENT_TIME = "2025-01-01 10:00:00"

Batch = tuple[str, list[Row]]


class _Pools:
    """Values that are drawn once and used in turn.

    A draw for every cell would cost more than storing the row. The sizes of the pools are coprime, so that their
    combinations do not repeat within any size that is used.
    """

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self.times = cycle([self._time() for _ in range(10_007)])
        self.floats = cycle([source.random() for _ in range(20_011)])
        self.shapes = cycle([self._shape() for _ in range(5_003)])
        self.sizes = cycle([source.randint(1_000, 900_000) for _ in range(997)])
        self.classes = cycle([source.randrange(len(CLASSES)) for _ in range(1_009)])
        self.flags = cycle([source.randrange(2) for _ in range(1_013)])
        self.splits = cycle([source.choice(("train", "train", "train", "val", "test")) for _ in range(1_019)])
        self.jitter = cycle([source.choice((0, 0, 1)) for _ in range(1_021)])

    def _time(self) -> str:
        """A time; half of them have microseconds, as in real databases."""
        draw = self._source.randint
        second = f"2025-{draw(1, 12):02}-{draw(1, 28):02} {draw(0, 23):02}:{draw(0, 59):02}:{draw(0, 59):02}"
        return second if draw(0, 1) else f"{second}.{draw(1, 999_999):06}"

    def _shape(self) -> str:
        if self._source.random() >= POLYGON_SHARE:
            return "null"
        x, y = self._source.random() * 1000, self._source.random() * 800
        points = [
            {"x": round(x + self._source.random() * 300, 1), "y": round(y + self._source.random() * 200, 1)}
            for _ in range(POLYGON_POINTS)
        ]
        return json.dumps(points)

    def keys(self, count: int) -> list[str]:
        """New keys in the shape of random UUIDs."""
        digits = self._source.randbytes(16 * count).hex()
        return [
            f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-4{digits[i + 13 : i + 16]}"
            f"-a{digits[i + 17 : i + 20]}-{digits[i + 20 : i + 32]}"
            for i in range(0, 32 * count, 32)
        ]


def _parents(pools: _Pools) -> tuple[list[Batch], list[str]]:
    keys = pools.keys(DATASETS)
    times = (PARENT_TIME, PARENT_TIME)
    projects: list[Row] = [
        (n, f"project {n}", "", *times, None, 0.5, 0.45, "Object Detection") for n in range(1, PROJECTS + 1)
    ]
    datasets: list[Row] = [
        (key, f"dataset {n}", "", n % PROJECTS + 1, *times, 0, 0, 0, 1, None) for n, key in enumerate(keys)
    ]
    labels: list[Row] = [
        (project * 100 + n, name, "#ffffff", project)
        for project in range(1, PROJECTS + 1)
        for n, name in enumerate(CLASSES)
    ]
    return [("projects", projects), ("datasets", datasets), ("labels", labels)], keys


def _images(pools: _Pools, first: int, count: int, datasets: Iterator[str]) -> list[Row]:
    deal = zip(
        pools.keys(count),
        pools.sizes,
        datasets,
        pools.flags,
        pools.times,
        pools.times,
        pools.splits,
        strict=False,
    )
    return [
        (key, f"img_{n:07}.jpg", f"IMG {n}.jpg", f"projects/p/d/img_{n:07}.jpg", size, 1920, 1080, "JPEG",
         dataset, 1, 0, verified, "dataset", created, updated, split)
        for n, (key, size, dataset, verified, created, updated, split) in enumerate(deal, first)
    ]  # fmt: skip


def _annotations(pools: _Pools, owners: list[str]) -> list[Row]:
    floats = pools.floats
    deal = zip(pools.keys(len(owners)), owners, pools.classes, floats, floats, floats, floats, pools.shapes,
               pools.times, pools.times, strict=False)  # fmt: skip
    return [
        (key, owner, CLASSES[kind], kind, score, x * 1000, y * 800, x * 1000 + size * 300,
         y * 800 + size * 200, shape, 1, 0, "yolov8n", created, updated)
        for key, owner, kind, score, x, y, size, shape, created, updated in deal
    ]  # fmt: skip


def batches(images: int, annotations_per_image: float, seed: int = 1) -> Iterator[Batch]:
    """All rows in the order in which they are stored, as (table, rows).

    Memory use is flat, and a seed always gives the same rows. Images differ by one or two in their numbers of
    annotations; the mean is exact to the last image.
    """
    pools = _Pools(random.Random(seed))
    parents, datasets = _parents(pools)
    yield from parents
    shuffled = cycle(random.Random(seed + 1).choices(datasets, k=2_003))
    given = 0
    for first in range(0, images, IMAGES_PER_BATCH):
        rows = _images(pools, first, min(IMAGES_PER_BATCH, images - first), shuffled)
        yield "images", rows
        owners: list[str] = []
        for number, row in enumerate(rows, first + 1):
            due = round(number * annotations_per_image) - given
            surplus = next(pools.jitter) if number < images else 0
            owners += [str(row[0])] * (due + surplus)
            given += due + surplus
        yield "annotations", _annotations(pools, owners)


def write_sqlite(
    path: Path, images: int, annotations_per_image: float, *, seed: int, indexes: bool, journal: str
) -> None:
    """Create a new SQLite file. Raises FileExistsError if the file exists."""
    if path.exists():
        raise FileExistsError(f"{path} is already there")
    connection = create_sqlite(path, journal_mode="off")
    connection.executescript(
        "PRAGMA synchronous = off; PRAGMA cache_size = -1000000; PRAGMA locking_mode = exclusive"
    )
    connection.execute("BEGIN")
    for table, rows in batches(images, annotations_per_image, seed):
        if rows:
            marks = ",".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    for statement in INDEXES if indexes else ():
        connection.execute(statement)
    connection.execute("COMMIT")
    connection.close()
    set_journal = sqlite3.connect(path)
    set_journal.execute(f"PRAGMA journal_mode = {journal}")
    set_journal.close()


def write_postgres(url: str, images: int, annotations_per_image: float, *, seed: int, indexes: bool) -> None:
    """Fill an empty PostgreSQL database. Raises the driver's error if the tables exist."""
    with PostgresConnection(url) as connection:
        empty = create_sqlite(":memory:", journal_mode="memory")
        statements = postgres_schema(empty)
        empty.close()
        tables = [statement for statement in statements if statement.startswith("CREATE TABLE")]
        connection.execute("BEGIN")
        for statement in tables:
            connection.execute(statement)
        for table, rows in batches(images, annotations_per_image, seed):
            connection.copy(table, COLUMNS[table], rows)
        for statement in (*statements[len(tables) :], *(INDEXES if indexes else ())):
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("VACUUM (ANALYZE)")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, help="SQLite file to make")
    parser.add_argument("--postgres", metavar="URL", help="empty PostgreSQL database to fill")
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--annotations-per-image", type=float, default=5.5)
    parser.add_argument("--indexes", action="store_true", help="index the foreign keys")
    parser.add_argument("--journal", choices=("delete", "wal", "truncate", "persist"), default="delete")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.path is None and given.postgres is None:
        parser.error("say where to: a file, --postgres URL, or both")
    amount = (given.images, given.annotations_per_image)
    begun = time.monotonic()
    if given.path is not None:
        write_sqlite(given.path, *amount, seed=given.seed, indexes=given.indexes, journal=given.journal)
    if given.postgres is not None:
        write_postgres(given.postgres, *amount, seed=given.seed, indexes=given.indexes)
    print(f"{given.images} images in {time.monotonic() - begun:.1f} s")


if __name__ == "__main__":
    main()
