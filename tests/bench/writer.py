"""An application that commits to a SQLite file at a steady pace; prints what its commits took as JSON.

python -m tests.bench.writer PATH SECONDS [WARM_UP_S [PERIOD_S]]
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time

PERIOD_S = 0.010
BUSY_TIMEOUT_S = 1.0
WINDOW = 200
"""Annotations that are changed, one behind the other: who labels has some images in front of him, and a daemon
then exports a few blocks every few seconds. Rows from all over the file would make every export a full one, and
one a minute."""


def write_for(path: str, seconds: float, warm_up_s: float, period_s: float) -> dict[str, object]:
    """Commit an annotation and its image every `period_s`; after the warm-up, how long each transaction took in
    seconds, from its BEGIN to the return of its COMMIT, and how often the database was locked beyond the busy
    timeout."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    (last,) = connection.execute("SELECT max(rowid) FROM annotations").fetchone()
    draw = random.Random(1)
    first = max(1, last // 2)
    last = min(last, first + WINDOW)
    taken: list[float] = []
    locked = 0
    due = time.perf_counter()
    began = due + warm_up_s
    while due < began + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        at = time.perf_counter()
        try:
            _commit(connection, draw.randint(first, last), draw.random())
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc):
                raise
            locked += at >= began
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if at >= began:
            taken.append(time.perf_counter() - at)
        due = max(due + period_s, time.perf_counter())
    lasted = time.perf_counter() - began
    connection.close()
    return {"taken_s": taken, "locked": locked, "lasted_s": lasted}


def _commit(connection: sqlite3.Connection, rowid: int, score: float) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE annotations SET confidence = ? WHERE rowid = ?", (score, rowid))
    connection.execute(
        "UPDATE images SET updated_at = datetime('now') "
        "WHERE id = (SELECT image_id FROM annotations WHERE rowid = ?)",
        (rowid,),
    )
    connection.execute("COMMIT")


def main() -> None:
    """The command line."""
    path, seconds, *more = sys.argv[1:]
    warm_up_s, period_s = [*map(float, more), *(0.0, PERIOD_S)[len(more) :]]
    print(json.dumps(write_for(path, float(seconds), warm_up_s, period_s)))


if __name__ == "__main__":
    main()
