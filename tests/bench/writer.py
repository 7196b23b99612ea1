"""Plays an application that commits to a SQLite file at a steady rate; prints its times as JSON.

python -m tests.bench.writer PATH SECONDS [PERIOD_S]
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
"""The number of adjacent annotations that are changed.

A person who labels works on a few images, so a daemon exports a few blocks every few seconds. Rows from all over
the file would make every export a full one, one a minute.
"""


def write_for(path: str, seconds: float, period_s: float) -> dict[str, object]:
    """Commit an annotation and its image every `period_s`.

    Returns how long each transaction took in seconds, from its BEGIN to the return of its COMMIT. Also returns
    when each began, and how often it was locked beyond the busy timeout.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
    (last,) = connection.execute("SELECT max(rowid) FROM annotations").fetchone()
    draw = random.Random(1)
    first = max(1, last // 2)
    last = min(last, first + WINDOW)
    taken: list[float] = []
    begun: list[float] = []
    locked = 0
    began = time.perf_counter()
    due = began
    while due < began + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        at = time.perf_counter()
        try:
            _commit(connection, draw.randint(first, last), draw.random())
        except sqlite3.OperationalError as exc:
            if "locked" not in str(exc):
                raise
            locked += 1
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        taken.append(time.perf_counter() - at)
        begun.append(time.time() - taken[-1])
        due = max(due + period_s, time.perf_counter())
    lasted = time.perf_counter() - began
    connection.close()
    return {"taken_s": taken, "begun_s": begun, "locked": locked, "lasted_s": lasted}


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
    path, seconds, *period = sys.argv[1:]
    print(json.dumps(write_for(path, float(seconds), float(period[0]) if period else PERIOD_S)))


if __name__ == "__main__":
    main()
