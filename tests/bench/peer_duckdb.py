"""Runs DuckDB as a peer: the same tree and images.csv from SQLite or PostgreSQL, or the two Parquet files.

`python -m tests.bench.peer_duckdb tree|parquet URL DIRECTORY`, by an interpreter with the packages of the extra
`bench`. The extensions come with them, so none is downloaded.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.peer_queries import duckdb_images_csv, duckdb_tree

GROUP_ROWS = 7_000
_EXTENSIONS = {"json": "json", "sqlite": "sqlite_scanner", "postgres": "postgres_scanner"}


def connected(url: str, **settings: Any) -> Any:
    """A connection with the database attached as `src`, whose tables can be named without it."""
    import duckdb

    connection = duckdb.connect(config=settings)
    kind = "postgres" if "://" in url else "sqlite"
    for name in ("json", kind):
        connection.execute(f"LOAD '{_file_of(_EXTENSIONS[name])}'")
    connection.execute(f"ATTACH '{url}' AS src (TYPE {kind}, READ_ONLY)")
    connection.execute("USE src")
    return connection


def _file_of(extension: str) -> Path:
    """The file of an extension, in the package that its distributions share."""
    found = find_spec("duckdb_ext")
    folders = list(found.submodule_search_locations or ()) if found else []
    return next(path for folder in folders for path in Path(folder).rglob(f"{extension}.duckdb_extension"))


def tree(url: str, directory: Path) -> None:
    """The tree, one line a project, and images.csv."""
    connection = connected(url)
    connection.execute(f"COPY ({duckdb_tree()}) TO '{directory}/database_export.json' (FORMAT json)")
    connection.execute(f"COPY ({duckdb_images_csv()}) TO '{directory}/images.csv' (FORMAT csv, HEADER)")


def parquet(url: str, directory: Path) -> None:
    """The two Parquet files, with row groups of about our size, which DuckDB rounds to a multiple of 2,048."""
    from tests.bench.peer_parquet_queries import ANNOTATIONS, IMAGES

    connection = connected(url)
    for name, sql in (("images", IMAGES), ("annotations", ANNOTATIONS)):
        connection.execute(
            f"COPY ({sql}) TO '{directory}/{name}.parquet' "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP_ROWS})"
        )


if __name__ == "__main__":
    {"tree": tree, "parquet": parquet}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
