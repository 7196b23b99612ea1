"""Clients of a PostgreSQL database, like pgbench's, as fast as they can; prints what they took as JSON.

python -m tests.bench.transactions URL SECONDS [WARM_UP_S [CLIENTS]]
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
"""Annotations that are changed; see `tests.bench.writer`."""


async def run_for(url: str, seconds: float, warm_up_s: float, clients: int) -> dict[str, object]:
    """Transactions of read, update, update by so many clients; how long each took in seconds after the warm-up."""
    connections = [await asyncpg.connect(url) for _ in range(clients)]
    found = await connections[0].fetch(
        f"SELECT id, image_id FROM annotations ORDER BY image_id, id LIMIT {WINDOW}"
    )
    keys = [(row[0], row[1]) for row in found]
    taken: list[float] = []
    began = time.perf_counter() + warm_up_s
    await asyncio.gather(
        *(
            _client(one, keys, random.Random(seed), began, began + seconds, taken)
            for seed, one in enumerate(connections)
        )
    )
    lasted = time.perf_counter() - began
    for connection in connections:
        await connection.close()
    return {"taken_s": taken, "locked": 0, "lasted_s": lasted}


async def _client(
    connection: Any,
    keys: list[tuple[str, str]],
    draw: random.Random,
    began: float,
    end: float,
    taken: list[float],
) -> None:
    while (at := time.perf_counter()) < end:
        annotation, image = draw.choice(keys)
        async with connection.transaction():
            # In the order of the tables everywhere, so that two clients never wait for each other in a circle.
            await connection.execute("UPDATE images SET updated_at = now()::timestamp WHERE id = $1", image)
            await connection.execute(
                "UPDATE annotations SET confidence = $1 WHERE id = $2", draw.random(), annotation
            )
            await connection.fetch("SELECT * FROM annotations WHERE id = $1", annotation)
        if at >= began:
            taken.append(time.perf_counter() - at)


def main() -> None:
    """The command line."""
    url, seconds, *more = sys.argv[1:]
    warm_up_s, clients = [*map(float, more), *(0.0, CLIENTS)[len(more) :]]
    print(json.dumps(asyncio.run(run_for(url, float(seconds), warm_up_s, int(clients)))))


if __name__ == "__main__":
    main()
