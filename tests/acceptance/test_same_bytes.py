"""The same rows in SQLite and PostgreSQL give files with the same bytes, apart from the time of reading."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pyarrow.parquet
import pytest

from autoexport.config.settings import Settings
from autoexport.pipeline.exporter import export_once
from autoexport.pipeline.job import opened_job
from autoexport.rendering import outline
from tests.applications import copy_to_postgres, create_postgres, create_sqlite, fill_postgres, fill_sqlite
from tests.outputs import ALL_OUTPUTS, published_names
from tests.postgres import PostgresServer
from tests.postgres_connection import PostgresConnection

_TIMESTAMP = re.compile(rb'("timestamp": ?)"[^"]*"')
_KEYLESS = (
    "CREATE TABLE projects (id INTEGER, name TEXT)",
    "CREATE TABLE datasets (id INTEGER, project_id INTEGER, name TEXT)",
    "CREATE TABLE images (id INTEGER, dataset_id INTEGER, filename TEXT)",
    "CREATE TABLE annotations (id INTEGER, image_id INTEGER, label TEXT, confidence REAL, verified INTEGER,"
    " segmentation TEXT)",
    "CREATE TABLE labels (id INTEGER, project_id INTEGER, name TEXT, color TEXT)",
    "INSERT INTO projects VALUES (1, 'p')",
    "INSERT INTO datasets VALUES (1, 1, 'd')",
    "INSERT INTO images VALUES (1, 1, 'i.jpg')",
)
_SAME_IN_MANIFEST = ("counts", "orphans", "soft_deleted", "repaired", "guarded")


async def exported(url: str, directory: Path, **settings: object) -> dict[str, bytes]:
    """The published files without their timestamp, and what the manifest counts."""
    chosen = Settings(database_url=url, export_directory=directory, **(ALL_OUTPUTS | settings))  # type: ignore[arg-type]
    async with opened_job(chosen) as job:
        await export_once(job, full=True)
    files = {
        name: _TIMESTAMP.sub(rb"\1", (directory / name).read_bytes(), count=1)
        for name in published_names(directory)
    }
    manifest = orjson.loads((directory / "manifest.json").read_bytes())
    return files | {name: orjson.dumps(manifest[name]) for name in _SAME_IN_MANIFEST}


@pytest.mark.parametrize("json_type", ["json", "jsonb"])
async def test_real_database(
    real_database: Path, postgres_server: PostgresServer, tmp_path: Path, json_type: str
) -> None:
    """A real database of the application, loaded into PostgreSQL, exports the same JSON and CSV."""
    from_sqlite = await exported(str(real_database), tmp_path / "sqlite")
    assert orjson.loads(from_sqlite["counts"])["annotations"] > 0
    with postgres_server.database("template0") as url:
        with closing(sqlite3.connect(real_database)) as rows, closing(PostgresConnection(url)) as target:
            copy_to_postgres(rows, target, json_type)
        from_postgres = await exported(url, tmp_path / "postgres")
    assert from_postgres == from_sqlite


async def both(
    server: PostgresServer, directory: Path, json_type: str, **settings: object
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Export the sample rows, orphans and odd values included, from SQLite and from PostgreSQL."""
    with closing(create_sqlite(directory / "sample.sqlite3")) as connection:
        fill_sqlite(connection, orphans=True)
    from_sqlite = await exported(str(directory / "sample.sqlite3"), directory / "sqlite", **settings)
    with server.database("template0") as url:
        with closing(PostgresConnection(url)) as target:
            create_postgres(target, json_type)
            fill_postgres(target, orphans=True)
        return from_sqlite, await exported(url, directory / "postgres", **settings)


@pytest.mark.parametrize("style", ["records", "pretty"])
async def test_sample_database(postgres_server: PostgresServer, tmp_path: Path, style: str) -> None:
    """Odd values and rows without parents give the same bytes as well."""
    from_sqlite, from_postgres = await both(postgres_server, tmp_path, "json", json_style=style)
    assert from_postgres == from_sqlite


async def test_sample_database_with_jsonb(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """With jsonb the values are the same, but jsonb itself writes 1e3 as 1000 (manual, section 8.14)."""
    from_sqlite, from_postgres = await both(postgres_server, tmp_path, "jsonb")
    for name, parse in _PARSERS.items():
        values = [parse(files.pop(name)) for files in (from_sqlite, from_postgres)]
        assert values[0] == values[1], name
    assert from_postgres == from_sqlite


async def test_rows_that_share_a_key(postgres_server: PostgresServer, tmp_path: Path) -> None:
    """Without a primary key, the order in which rows were written does not change the files."""
    rows = [
        f"INSERT INTO annotations VALUES ({key}, 1, {label}, {confidence}, 1, {polygon})"
        for key in (1, "NULL")
        for label in ("'b'", "'a'", "'B'", "NULL")
        for confidence in (0.5, "NULL", 0.25)
        for polygon in ("'[[1,2],[3,4],[5,6]]'", "'[[0,2],[3,4],[5,6]]'")
    ]
    rows += [
        f"INSERT INTO labels VALUES (1, 1, '{name}', '#00000{number}')" for number in range(3) for name in "ba"
    ]
    found = []
    for number, order in enumerate((rows, rows[::-1], rows[1::2] + rows[::2])):
        path = tmp_path / f"{number}.sqlite3"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(";".join((*_KEYLESS, *order)))
        found.append(await exported(str(path), tmp_path / f"sqlite {number}"))
        with postgres_server.database("template0") as url:
            with closing(PostgresConnection(url)) as target:
                target.script(";".join((*_KEYLESS, *order)))
            found.append(await exported(url, tmp_path / f"postgres {number}"))
    assert orjson.loads(found[0]["counts"])["annotations"] == len(rows) - 6
    sqlite, postgres = found[::2], found[1::2]
    assert sqlite[1:] == sqlite[:-1]
    assert postgres[1:] == postgres[:-1]


def _parsed(document: bytes) -> object:
    return orjson.loads(document.replace(b'"timestamp": ,', b""))


def _parsed_lines(document: bytes) -> object:
    return [orjson.loads(line) for line in document.split(b"\n") if line]


def _parsed_table(document: bytes) -> object:
    header, *rows = csv.reader(io.StringIO(document.decode(), newline=""))
    polygon = header.index("polygon")
    for row in rows:
        row[polygon] = row[polygon] and orjson.loads(row[polygon])
    return [header, *rows]


def _parsed_parquet(document: bytes) -> object:
    rows = pyarrow.parquet.read_table(io.BytesIO(document)).to_pylist()
    return [{**row, "polygon": row["polygon"] and orjson.loads(row["polygon"])} for row in rows]


_PARSERS = {
    "database_export.json": _parsed,
    "images.jsonl": _parsed_lines,
    "annotations.csv": _parsed_table,
    "annotations.parquet": _parsed_parquet,
}
"""The readers of the files that hold JSON values of the database."""


@pytest.mark.parametrize("name", ALL_OUTPUTS)
async def test_an_output_alone(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the bytes that it writes beside all others, also of a database that is cut into many sections."""
    monkeypatch.setattr(outline, "SECTION_NODES", 3)
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
        for number in range(100, 130):
            connection.execute("INSERT INTO projects (id, name) VALUES (?, ?)", (number, f"project {number}"))
            connection.execute(
                "INSERT INTO datasets (id, name, project_id) VALUES (?, 'own', ?)", (str(number), number)
            )
    everything = await exported(str(tmp_path / "app.db"), tmp_path / "all")
    one: dict[str, object] = dict.fromkeys(ALL_OUTPUTS, False) | {name: True}
    alone = await exported(str(tmp_path / "app.db"), tmp_path / "alone", **one)
    files = alone.keys() - set(_SAME_IN_MANIFEST)
    assert files
    assert {file: alone[file] for file in files} == {file: everything[file] for file in files}
