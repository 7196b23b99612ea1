"""The Parquet files hold the rows of the JSON tree, and are spliced to what is written in one go."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas  # type: ignore[import-untyped]
import polars
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats import row_groups
from autoexport.formats.contract import Copied
from autoexport.formats.json_document import JsonDocument
from autoexport.formats.parquet import OUTPUT, ParquetFile
from tests.applications import create_sqlite
from tests.conftest import program_environment
from tests.deadlines import deadline_s
from tests.parquet_rows import expected_parquet, parquet_rows, with_polygons
from tests.trees import Built, Dataset, Memory, Project, built, sample

FILES: Sequence[ParquetFile] = OUTPUT.make({})  # type: ignore[assignment]
every_file = pytest.mark.parametrize("output", FILES, ids=lambda output: output.file_name)


def document_of(whole: Built) -> dict[str, Any]:
    """The JSON tree."""
    parsed: dict[str, Any] = json.loads(whole.written(JsonDocument()))
    return parsed


# --- rows ----------------------------------------------------------------------------------------


def read_by_pandas(path: Path) -> list[dict[str, Any]]:
    """The rows as pandas reads them, with None for what is missing."""
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    return [
        {name: None if value is pandas.NA else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def read_by_duckdb(path: Path) -> list[dict[str, Any]]:
    """The rows as DuckDB reads them."""
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


READERS = {
    "pyarrow": lambda path: pyarrow.parquet.read_table(path).to_pylist(),
    "polars": lambda path: polars.read_parquet(path).to_dicts(),
    "pandas": read_by_pandas,
    "duckdb": read_by_duckdb,
}


@pytest.mark.parametrize("reader", READERS)
@every_file
def test_readers_read_the_rows_of_the_tree(output: ParquetFile, reader: str, tmp_path: Path) -> None:
    """Every value of the golden rows, whatever it is stored as."""
    whole = built(sample())
    path = tmp_path / output.file_name
    path.write_bytes(whole.written(output))
    assert with_polygons(READERS[reader](path)) == expected_parquet(document_of(whole), output.file_name)


@every_file
def test_the_schema_is_the_same_for_every_database(output: ParquetFile) -> None:
    """Whatever columns a database has, and if it has no rows."""
    bare = [Project({"id": 1}, [], [Dataset({"id": 1}, [{"id": 1, "annotations": [{"id": 1}]}])])]
    schemas = [
        pyarrow.parquet.read_schema(io.BytesIO(built(projects).written(output)))
        for projects in (sample(), bare, [])
    ]
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])
    table = {"images.parquet": "images.csv", "annotations.parquet": "annotations.csv"}[output.file_name]
    header = (Path(__file__).parents[1] / "golden" / table).read_text().partition("\n")[0]
    assert schemas[0].names == header.split(",")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (640, 640),
        (640.0, 640),
        (0.5, None),
        ("640", 640),
        ("wide", None),
        (2**63, None),
        (True, None),
        (None, None),
    ],
)  # fmt: skip
def test_sizes_are_whole_numbers(stored: Any, expected: int | None, tmp_path: Path) -> None:
    """Another value is null, whatever else is in the column."""
    for other in (1, None, "x"):
        images = [{"id": 1, "width": stored}, {"id": 2, "width": other}]
        path = tmp_path / "images.parquet"
        path.write_bytes(built([Project({"id": 1}, [], [Dataset({"id": 1}, images)])]).written(FILES[0]))
        assert parquet_rows(path)[0]["width"] == expected


# --- row groups ----------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes under which a few images have many groups."""
    for name, value in (("SPACING_ROWS", 4), ("LEAST_ROWS", 2), ("MOST_ROWS", 7), ("LARGE_BYTES", 300)):
        monkeypatch.setattr(row_groups, name, value)


def tree_of(images: Sequence[tuple[int, int]], sizes: Sequence[int]) -> Built:
    """Two datasets of images, each with a key and a number of annotations, in blocks of these sizes."""
    records = [
        {
            "id": key,
            "filename": f"{key}.jpg",
            "annotations": [{"id": f"{key}-{n}", "polygon": "[[1, 2]]"} for n in range(own)],
        }
        for key, own in images
    ]
    half = len(records) // 2
    datasets = [Dataset({"id": 1, "name": "a"}, records[:half]), Dataset({"id": 2, "name": "b"}, records[half:])]
    return built([Project({"id": 1, "name": "p"}, [], datasets)], _cycled(sizes))


def _cycled(sizes: Sequence[int]) -> Iterator[int]:
    while True:
        yield from sizes


IMAGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4)), max_size=40, unique_by=lambda image: image[0])


def written(pieces: Iterator[bytes | Copied], published: bytes) -> tuple[bytes, int]:
    """The file, and the bytes of it that were copied."""
    content, copied = b"", 0
    for piece in pieces:
        if isinstance(piece, Copied):
            content += published[piece.offset : piece.offset + piece.length]
            copied += piece.length
        else:
            content += piece
    return content, copied


@pytest.mark.usefixtures("small")
@every_file
@given(
    before=IMAGES,
    after=IMAGES,
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    kept=st.sets(st.integers(0, 40)),
)
def test_any_mixture_gives_the_file(
    output: ParquetFile, before: list[Any], after: list[Any], sizes: list[int], kept: set[int]
) -> None:
    """Blocks of the published file may be kept or rendered again: the bytes are those of a file in one go."""
    old, new = tree_of(before, sizes), tree_of(after, [sizes[-1]])
    published = old.written(output)
    places, row = {}, 0
    for body in old.bodies(output):
        places[body] = row, output.measure(body)
        row += output.measure(body)
    ranges, fresh, fresh_rows = [], b"", 0
    for index, body in enumerate(new.bodies(output)):
        if body in places and index in kept:
            ranges.append((False, *places[body]))
        else:
            ranges.append((True, fresh_rows, output.measure(body)))
            fresh += body
            fresh_rows += output.measure(body)
    content, _ = written(output.groups(ranges, Memory(fresh), Memory(published)), published)
    assert content == new.written(output)
    assert len(pyarrow.parquet.read_table(io.BytesIO(content))) == output.rows(new.tree)


@every_file
@pytest.mark.usefixtures("small")
def test_unchanged_groups_are_copied(output: ParquetFile) -> None:
    """If one block is fresh, the groups that do not touch it are copied; if none is, all are."""
    tree = tree_of([(key, 2) for key in range(60)], [5])
    published, bodies = tree.written(output), tree.bodies(output)
    starts, row = [], 0
    for body in bodies:
        starts.append(row)
        row += output.measure(body)
    ranges = [(False, start, output.measure(body)) for start, body in zip(starts, bodies, strict=True)]
    content, copied = written(output.groups(ranges, Memory(b""), Memory(published)), published)
    groups = pyarrow.parquet.ParquetFile(io.BytesIO(published)).metadata
    data = sum(
        groups.row_group(group).column(column).total_compressed_size
        for group in range(groups.num_row_groups)
        for column in range(groups.num_columns)
    )
    assert (content, copied) == (published, data)
    ranges[6] = (True, 0, output.measure(bodies[6]))
    content, copied = written(output.groups(ranges, Memory(bodies[6]), Memory(published)), published)
    assert content == published
    assert data / 2 < copied < data


# --- the package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["--monitor"], ["check"], ["verify"]], ids=str)
def test_a_missing_package_is_one_line(command: list[str], tmp_path: Path) -> None:
    """Exit code 2, the name of the package, and the command that installs it."""
    (tmp_path / "hidden" / "arro3").mkdir(parents=True)
    (tmp_path / "hidden" / "arro3" / "__init__.py").write_text("raise ModuleNotFoundError('hidden')\n")
    environment = program_environment({"DB_EXPORT_EXPORT_PARQUET": "true"})
    environment["PYTHONPATH"] = f"{tmp_path / 'hidden'}:{environment['PYTHONPATH']}"
    create_sqlite(tmp_path / "application.sqlite3").close()
    done = subprocess.run(
        [sys.executable, "-m", "autoexport", *command, "--database-url", "application.sqlite3"], cwd=tmp_path,
        env=environment, capture_output=True, text=True, check=False, timeout=deadline_s(60),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "arro3-io" in done.stderr
    assert "python -m pip install 'autoexport[parquet]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_imported_without_parquet() -> None:
    """An export without Parquet files loads no part of arro3."""
    program = (
        "import sys; from autoexport import Settings; from autoexport.formats import chosen_formats;"
        "chosen_formats(Settings().format_options); print([name for name in sys.modules if 'arro3' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=program_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
