"""Writes the two Parquet files as a script with pyarrow does: all rows in memory, then one file each.

`python -m tests.bench.peer_parquet DATABASE DIRECTORY`, for a SQLite database of the bench.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pyarrow
import pyarrow.parquet

from tests.bench.peer_parquet_queries import ANNOTATIONS, IMAGES

GROUP_ROWS = 7_000


def main() -> None:
    """Write both files."""
    url, directory = sys.argv[1:]
    with closing(sqlite3.connect(f"file:{url}?mode=ro", uri=True)) as connection:
        for name, sql in (("images", IMAGES), ("annotations", ANNOTATIONS)):
            found = connection.execute(sql)
            names = [column[0] for column in found.description]
            columns = list(zip(*found, strict=True))
            table = pyarrow.table(dict(zip(names, columns, strict=True)))
            pyarrow.parquet.write_table(
                table, Path(directory) / f"{name}.parquet", compression="zstd", row_group_size=GROUP_ROWS
            )


if __name__ == "__main__":
    main()
