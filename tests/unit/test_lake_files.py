"""The data files of a lake hold the row groups of a Parquet file, each once, and their statistics are true."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

from autoexport.formats.parquet_columns import ANNOTATION_SCHEMA
from autoexport.formats.parquet_footer import group_places, metadata_length, outline
from autoexport.publishing.lake.data_files import KEYS, DataFile, PublishedFile
from tests.lakes import execute, lake_trial, small_database

TABLE = "annotations.parquet"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Parquet file of many row groups; some project names and keys are long, and not ASCII."""
    database = small_database(tmp_path, monkeypatch)
    trial = lake_trial(database, tmp_path / "exports", "", export_parquet=True)
    execute(database, "UPDATE annotations SET image_id = image_id || ?", "ü" * 90)
    execute(database, "UPDATE images SET id = id || ?", "ü" * 90)
    trial.export()
    return trial.directory / TABLE


class _Bytes:
    """The bytes of a file."""

    def __init__(self, data: bytes) -> None:
        self.length = len(data)
        self._data = data

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from this offset."""
        return self._data[offset : offset + length]


def published(path: Path) -> PublishedFile:
    """The file, open for reading."""
    return PublishedFile(_Bytes(path.read_bytes()), list(ANNOTATION_SCHEMA))


def content(file: PublishedFile, data_file: DataFile) -> pyarrow.Table:
    """The rows of a data file, as pyarrow reads them."""
    return pyarrow.parquet.read_table(io.BytesIO(b"".join(file.content(data_file))))


@pytest.mark.parametrize("file_rows", [1, 150, 300, 1_000_000])
def test_data_files_hold_all_rows_in_order(path: Path, file_rows: int) -> None:
    """Together they are the file; the fewer rows are wished, the more files there are."""
    file = published(path)
    files = file.data_files(file_rows)
    assert pyarrow.concat_tables([content(file, it) for it in files]) == pyarrow.parquet.read_table(path)
    assert len({it.digest for it in files}) == len(files)
    if file_rows < 1_000:
        assert len(files) > 1
        assert all(it.rows <= max(2 * file_rows, 90) for it in files)


def test_fewer_rows_make_more_files(path: Path) -> None:
    """A wish for one row makes a file of each row group."""
    counts = [len(published(path).data_files(wished)) for wished in (1, 150, 300, 1_000_000)]
    assert all(more > fewer for more, fewer in pairwise(counts))
    assert counts[0] == pyarrow.parquet.ParquetFile(path).num_row_groups


def test_statistics_are_bounds_of_the_rows(path: Path) -> None:
    """Every key lies between them; the rows and nulls are exact."""
    file = published(path)
    for data_file in file.data_files(150):
        rows = content(file, data_file)
        statistics = json.loads(data_file.statistics())
        assert statistics["numRecords"] == rows.num_rows
        for key in KEYS:
            extremes = pyarrow.compute.min_max(rows[key]).as_py()
            assert statistics["minValues"][key] <= extremes["min"]
            assert statistics["maxValues"][key] >= extremes["max"]
            assert statistics["nullCount"][key] == rows[key].null_count


def test_bounds_are_those_that_pyarrow_reads(path: Path) -> None:
    """In each row group, for each column of the keys."""
    data = path.read_bytes()
    metadata = data[-8 - metadata_length(data[-8:]) : -8]
    columns = [list(ANNOTATION_SCHEMA).index(key) for key in KEYS]
    read = pyarrow.parquet.ParquetFile(path).metadata
    places = list(group_places(metadata))
    assert len(places) == read.num_row_groups > 3
    for number, (begin, _) in enumerate(places):
        for column, found in outline(metadata, begin, columns).bounds.items():
            known = read.row_group(number).column(column).statistics
            assert found.nulls == known.null_count
            if known.has_min_max and len(known.min_raw) < 64:
                assert (found.least, found.greatest) == (known.min_raw, known.max_raw)
