"""Files that are put together from row groups equal those that a writer writes in one pass."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import arro3.core
import arro3.io
import pyarrow
import pyarrow.parquet
import pytest

from autoexport.formats.parquet_footer import END_BYTES, MAGIC, Footer, RowGroup, metadata_length, read_footer

SCHEMA = pyarrow.schema(
    [("id", pyarrow.string()), ("n", pyarrow.int64()), ("x", pyarrow.float64()), ("b", pyarrow.bool_())]
)
ENTRIES = {"a": "1", "b": "\u00e9" * 300}


def table(begin: int, end: int) -> pyarrow.Table:
    """Some rows."""
    numbers = range(begin, end)
    columns = [
        [f"key {n % 17}" if n % 5 else None for n in numbers],
        [n if n % 7 else None for n in numbers],
        [None] * len(numbers) if begin % 3 else [n / 3 for n in numbers],
        [n % 2 == 0 for n in numbers],
    ]
    return pyarrow.table(columns, schema=SCHEMA)


def footer_of(data: bytes) -> Footer:
    """The footer of a file in memory."""
    return read_footer(data[-END_BYTES - metadata_length(data[-END_BYTES:]) : -END_BYTES])


def joined(files: Sequence[bytes], entries: dict[str, str]) -> bytes:
    """One file of the row groups of several."""
    body, groups = MAGIC, []
    for data in files:
        for begin, group in footer_of(data).groups:
            body += data[begin : begin + group.length]
            groups.append(group)
    return body + footer_of(files[0]).written(groups, entries)


def by_pyarrow(tables: Sequence[pyarrow.Table], **options: Any) -> bytes:
    """One file with a row group for each table."""
    sink = io.BytesIO()
    chosen = {"store_schema": False, "compression": "zstd", **options}
    with pyarrow.parquet.ParquetWriter(sink, SCHEMA, **chosen) as writer:
        for each in tables:
            writer.write_table(each, row_group_size=1 << 20)
    return sink.getvalue()


def by_arro3(rows: pyarrow.Table, group_rows: int, **options: Any) -> bytes:
    """One file with row groups of so many rows."""
    sink = io.BytesIO()
    arro3.io.write_parquet(
        arro3.core.Table.from_arrow(rows).combine_chunks(), sink, compression="zstd(3)", skip_arrow_metadata=True,
        max_row_group_size=group_rows, **options,
    )  # fmt: skip
    return sink.getvalue()


@pytest.mark.parametrize("cuts", [[0, 10], [0, 1, 300], [0, 5000, 5001, 9000], [*range(0, 3600, 90)]])
def test_the_file_is_that_of_pyarrow(cuts: list[int]) -> None:
    """Another writer, given the same row groups and the same schema, writes the same bytes."""
    tables = [table(*place) for place in pairwise(cuts)]
    whole = by_pyarrow(tables)
    assert joined([by_pyarrow([each]) for each in tables], {}) == whole
    # The row groups of a file of several can be taken apart just as well.
    assert joined([whole], {}) == whole


def without_page_indexes(data: bytes) -> bytes:
    """The file as pyarrow would rewrite its end: the row groups, and nothing before the footer."""
    footer = footer_of(data)
    begin, group = footer.groups[-1]
    return data[: begin + group.length]


@pytest.mark.parametrize("group_rows", [7, 100, 2000])
def test_the_row_groups_are_those_of_one_pass(group_rows: int) -> None:
    """The writer of the exports writes the same row groups in one pass, and page indexes, which are left out."""
    rows = table(0, 1_500)
    whole = by_arro3(rows, group_rows)
    parts = [by_arro3(rows.slice(begin, group_rows), group_rows) for begin in range(0, 1_500, group_rows)]
    made = joined(parts, {})
    assert made.startswith(without_page_indexes(whole))
    # No byte is left but the footer, which says the same as that of the writer.
    assert len(made) == len(without_page_indexes(whole)) + metadata_length(made[-END_BYTES:]) + END_BYTES
    assert described(made) == described(whole)
    assert pyarrow.parquet.read_table(io.BytesIO(made)).equals(rows)
    assert footer_of(made).groups == footer_of(whole).groups


def described(data: bytes) -> dict[str, Any]:
    """The metadata as pyarrow understands it, without its size and the page indexes."""
    described = pyarrow.parquet.ParquetFile(io.BytesIO(data)).metadata.to_dict()
    del described["serialized_size"]
    for group in described["row_groups"]:
        for column in group["columns"]:
            column.pop("has_offset_index", None)
            column.pop("has_column_index", None)
    return dict(described)


def test_entries_are_those_of_one_pass() -> None:
    """Entries for readers stand where the writers put them."""
    rows = table(0, 50)
    made = joined([by_arro3(rows, 100)], ENTRIES)
    with_entries = by_arro3(rows, 100, key_value_metadata=ENTRIES)
    assert footer_of(made).entries == footer_of(with_entries).entries == ENTRIES
    assert made == joined([with_entries], ENTRIES)
    metadata = pyarrow.parquet.ParquetFile(io.BytesIO(made)).metadata.metadata
    assert metadata == {key.encode(): value.encode() for key, value in ENTRIES.items()}


def test_no_page_index_is_left() -> None:
    """Their offsets would be those of another file."""
    made = joined([by_pyarrow([table(0, 200)], write_page_index=True)], {})
    column = pyarrow.parquet.ParquetFile(io.BytesIO(made)).metadata.row_group(0).column(0)
    assert not column.has_offset_index
    assert not column.has_column_index
    assert pyarrow.parquet.read_table(io.BytesIO(made)).equals(table(0, 200))


def test_row_groups_can_be_anywhere_in_a_file() -> None:
    """In any order, twice, and after so many others that numbers take more bytes."""
    files = [by_arro3(table(begin, begin + 40), 40) for begin in range(0, 400, 40)]
    order = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3] * 40
    made = joined([files[index] for index in order], ENTRIES)
    expected = pyarrow.concat_tables([table(40 * index, 40 * index + 40) for index in order])
    assert pyarrow.parquet.read_table(io.BytesIO(made)).equals(expected)
    again = [footer_of(made).groups[place][1] for place in range(10)]
    assert again == [footer_of(files[index]).groups[0][1] for index in order[:10]]


def test_a_file_of_no_row_groups() -> None:
    """It can be read, and has the columns."""
    made = joined([by_arro3(table(0, 0), 10)], {})
    assert pyarrow.parquet.read_table(io.BytesIO(made)).equals(table(0, 0))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, b"\x00" * 8])
def test_other_files_are_refused(content: bytes) -> None:
    """What is no Parquet file is an error and not an empty file."""
    with pytest.raises(ValueError, match="no Parquet file"):
        metadata_length(content[-END_BYTES:])


def test_the_number_of_a_row_group_is_written() -> None:
    """It is the place of the group in its own file, whatever it was before."""
    (_, group), *_ = footer_of(by_arro3(table(0, 10), 10)).groups
    assert isinstance(group, RowGroup)
    assert group.offsets.count(None) == 1
    assert group.written(4, 300) != group.written(4, 301)
