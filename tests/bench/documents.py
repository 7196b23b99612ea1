"""Measures documents of JSON: a database of Label Studio against one of the first application with as many rows.

python -m tests.bench --only documents
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests import label_studio
from tests.applications import create_sqlite
from tests.bench.results import Table, Value, middle
from tests.bench.running import exporter, must, run_once
from tests.bench.scenario import Bench
from tests.databases import SqliteConnection

TASKS, REGIONS = 20_000, 5
MOST_OF_FIRST, MOST_OF_FULL = 1.5, 0.15

_TIME = "2026-05-04 08:01:00.123456"
_LABELS = ("Pallet", "Fork & lift")


def documents(bench: Bench) -> list[Table]:
    """Compare the processor time of full exports, of one changed task, and of a commit to another table."""
    folder = bench.fresh("documents")
    paths = {"first": folder / "first.sqlite3", "documents": folder / "documents.sqlite3"}
    write_first(paths["first"])
    write_documents(paths["documents"])
    paths["start"] = folder / "start.sqlite3"
    with closing(SqliteConnection(paths["start"])) as connection:
        label_studio.create(connection, "sqlite")
    full: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(bench.rounds):
        for name, path in paths.items():
            command = exporter(str(path), bench.fresh("output"), "--full")
            full[name].append(must(run_once([command], bench.scratch)).cpu_s)
    exports = bench.exported(paths["documents"])
    after: dict[str, list[float]] = {"one_task": [], "other_table": []}
    for number in range(bench.rounds):
        for name, statement in (
            ("one_task", f"UPDATE task_completion SET lead_time = {number} WHERE id = 777"),
            ("other_table", f"UPDATE htx_user SET last_activity = '{number}'"),
        ):
            _commit(paths["documents"], statement)
            command = exporter(str(paths["documents"]), exports)
            after[name].append(must(run_once([command], bench.scratch)).cpu_s)
    first, own, start, one, other = (middle(each) or 0.0 for each in (*full.values(), *after.values()))
    first, own, one, other = (seconds - start for seconds in (first, own, one, other))
    row: dict[str, Value] = {"regions": TASKS * REGIONS, "first_cpu_s": first, "documents_cpu_s": own}
    row |= {"full_ratio": own / first, "one_task_cpu_s": one, "one_task_share": one / own}
    row["other_table_cpu_s"] = other
    table = Table("documents", "Documents of JSON, as Label Studio stores them", [row])
    table.notes.append(f"limits: {MOST_OF_FIRST} times the first application's, {MOST_OF_FULL} of a full export")
    table.notes.append(f"start taken off: {start:.2f} s")
    return [table]


def _commit(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def _boxes(chance: random.Random) -> Iterator[tuple[float, float, float, float, str]]:
    for _ in range(REGIONS):
        x, y, width, height = (round(chance.uniform(5, 45), 6) for _ in range(4))
        yield x, y, width, height, chance.choice(_LABELS)


def write_documents(path: Path) -> None:
    """Create a new database of Label Studio, with two projects."""
    connection, chance = SqliteConnection(path), random.Random(1)
    label_studio.create(connection, "sqlite")
    connection.execute("BEGIN")
    for key in (1, 2):
        label_studio.add_project(connection, key, f"project {key}", label_studio.BOXES)
    size = {"original_width": 800, "original_height": 400, "image_rotation": 0}
    for key in range(1, TASKS + 1):
        label_studio.add_task(connection, key, 1 + key % 2, {"image": f"/data/upload/1/{key:08x}-image.jpg"})
        results = [
            {
                "id": f"region_{number}", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
                "origin": "manual", **size, "value": {
                    "x": x, "y": y, "width": width, "height": height, "rotation": 0, "rectanglelabels": [label],
                },
            }
            for number, (x, y, width, height, label) in enumerate(_boxes(chance))
        ]  # fmt: skip
        label_studio.add_answer(connection, key, key, results)
    connection.execute("COMMIT")
    connection.close()


def write_first(path: Path) -> None:
    """Create a new database of the first application with the same boxes."""
    connection, chance = create_sqlite(path, journal_mode="delete"), random.Random(1)
    connection.execute("BEGIN")
    for key in (1, 2):
        _insert(connection, "projects", (key, "p", "", _TIME, _TIME, None, 0.5, 0.45, "Object Detection"))
        _insert(connection, "datasets", (f"d{key}", "d", "", key, _TIME, _TIME, 0, 0, 0, 1, None))
    for key in range(1, TASKS + 1):
        image, name = f"{key:08}-1111-4111-8111-111111111111", f"{key}.jpg"
        about = (1000, 800, 400, "JPEG", f"d{1 + key % 2}", 1, 0, 0, "dataset", _TIME, _TIME, "train")
        _insert(connection, "images", (image, name, name, f"p/{name}", *about))
        for number, (x, y, width, height, label) in enumerate(_boxes(chance)):
            box = (x * 8, y * 4, (x + width) * 8, (y + height) * 4)
            own = (f"{key:08}-{number}222-4222-8222-222222222222", image, label, 1, None)
            _insert(connection, "annotations", (*own, *box, None, 0, 0, None, _TIME, _TIME))
    connection.execute("CREATE INDEX ix_annotations ON annotations (image_id)")
    connection.execute("CREATE INDEX ix_images ON images (dataset_id)")
    connection.execute("COMMIT")
    connection.close()


def _insert(connection: sqlite3.Connection, table: str, row: tuple[object, ...]) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
