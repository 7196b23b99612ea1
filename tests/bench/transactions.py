"""Runs clients of a PostgreSQL database as fast as they can, like pgbench's; prints their times as JSON.

python -m tests.bench.transactions URL SECONDS [CLIENTS]
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import asyncpg

CLIENTS = 2
WINDOW = 200
"""The number of annotations that are changed; see `tests.bench.writer`."""


async def run_for(url: str, seconds: float, clients: int) -> dict[str, object]:
    """Run transactions of two updates and a read by so many clients.

    Returns how long each took, and when it began.
    """
    connections = [await asyncpg.connect(url) for _ in range(clients)]
    found = await connections[0].fetch(
        f"SELECT id, image_id FROM annotations ORDER BY image_id, id LIMIT {WINDOW}"
    )
    keys = [(row[0], row[1]) for row in found]
    taken: list[float] = []
    begun: list[float] = []
    began = time.perf_counter()
    await asyncio.gather(
        *(
            _client(one, keys, random.Random(seed), began + seconds, taken, begun)
            for seed, one in enumerate(connections)
        )
    )
    lasted = time.perf_counter() - began
    for connection in connections:
        await connection.close()
    return {"taken_s": taken, "begun_s": begun, "locked": 0, "lasted_s": lasted}


async def _client(
    connection: Any,
    keys: list[tuple[str, str]],
    draw: random.Random,
    end: float,
    taken: list[float],
    begun: list[float],
) -> None:
    while (at := time.perf_counter()) < end:
        annotation, image = draw.choice(keys)
        async with connection.transaction():
            # Every client updates the tables in the same order, so that two of them never deadlock.
            await connection.execute("UPDATE images SET updated_at = now()::timestamp WHERE id = $1", image)
            await connection.execute(
                "UPDATE annotations SET confidence = $1 WHERE id = $2", draw.random(), annotation
            )
            await connection.fetch("SELECT * FROM annotations WHERE id = $1", annotation)
        taken.append(time.perf_counter() - at)
        begun.append(time.time() - taken[-1])


def main() -> None:
    """The command line."""
    url, seconds, *clients = sys.argv[1:]
    print(json.dumps(asyncio.run(run_for(url, float(seconds), int(clients[0]) if clients else CLIENTS))))


if __name__ == "__main__":
    main()
