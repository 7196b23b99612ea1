"""Changes a number of annotations: scattered over all images, or of images adjacent in the files."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from pathlib import Path

from tests.postgres_connection import PostgresConnection

_TOGETHER = """
SELECT {key} FROM annotations a JOIN images i ON i.id = a.image_id JOIN datasets d ON d.id = i.dataset_id
ORDER BY d.project_id, d.id, i.id LIMIT {limit}
"""


def change(url: str | Path, rows: int, *, scattered: bool, seed: int) -> int:
    """Give annotations another confidence in one transaction. Returns how many were changed."""
    if isinstance(url, Path):
        return _change_sqlite(url, rows, scattered, seed)
    return _change_postgres(url, rows, scattered, seed)


def _change_sqlite(path: Path, rows: int, scattered: bool, seed: int) -> int:
    draw = random.Random(seed)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        (last,) = connection.execute("SELECT max(rowid) FROM annotations").fetchone()
        rows = min(rows, last)
        if scattered:
            chosen = draw.sample(range(1, last + 1), rows)
        else:
            found = connection.execute(_TOGETHER.format(key="a.rowid", limit=rows))
            chosen = [rowid for (rowid,) in found]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "UPDATE annotations SET confidence = ? WHERE rowid = ?", [(draw.random(), rowid) for rowid in chosen]
        )
        connection.execute("COMMIT")
    return len(chosen)


def _change_postgres(url: str, rows: int, scattered: bool, seed: int) -> int:
    chosen = _TOGETHER.format(key="a.id", limit=rows)
    if scattered:
        chosen = f"SELECT id FROM annotations ORDER BY md5(id || '{seed}') LIMIT {rows}"
    statement = f"""
WITH chosen AS ({chosen}),
changed AS (UPDATE annotations SET confidence = random() WHERE id IN (SELECT id FROM chosen) RETURNING 1)
SELECT count(*) FROM changed
"""
    with PostgresConnection(url) as connection:
        return int(connection.execute(statement)[0][0])
