"""Every format keeps the contract; a new format is one more entry of `FORMATS`."""

from __future__ import annotations

from itertools import cycle, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.config.settings import Settings
from autoexport.formats import chosen_formats, file_names
from autoexport.formats.annotations_csv import AnnotationsTable
from autoexport.formats.contract import Format, RowFormat
from autoexport.formats.csv_table import DatasetsTable, ImagesTable, ProjectsTable
from autoexport.formats.json_document import JsonDocument
from autoexport.formats.json_lines import JsonLines
from autoexport.formats.parquet import OUTPUT as PARQUET
from autoexport.model.blocks import BlockRef
from tests.outputs import ALL_OUTPUTS, DEFAULT_FILES
from tests.trees import Built, Dataset, Project, built, sample

FORMATS: list[Format] = [JsonDocument("records"), JsonDocument("pretty"), JsonLines()]
for table in (ProjectsTable, DatasetsTable, ImagesTable, AnnotationsTable):
    FORMATS += [table(guard=True, bom=False), table(guard=False, bom=True)]
FORMATS += PARQUET.make({})
NAMES = [f"{output.file_name}-{number}" for number, output in enumerate(FORMATS)]
every_format = pytest.mark.parametrize("output", FORMATS, ids=NAMES)

INTEGERS = st.integers(-(2**63), 2**63 - 1)
"""The integers that a source delivers: a longer one of PostgreSQL's `numeric` arrives as text."""

VALUES: dict[str, Any] = {
    "filename": st.sampled_from(["a.jpg", "=b", 'c"', "", None, "d\n"]),
    "width": st.sampled_from([1, 0.5, None, "wide", float("inf")]),
    "split": st.sampled_from(["train", "valid", "x", None]),
    "created_at": st.sampled_from(["2024-01-15 09:00:00", "2024-01-15 09:00:00+01", "never", None, 5]),
    "annotations": st.lists(
        st.fixed_dictionaries(
            {"id": INTEGERS, "label": st.sampled_from(["a", "b", None])},
            optional={"polygon": st.sampled_from(["[[1, 2]]", "null", "[]", "0", "x"]), "box_0": st.just(1.5)},
        ),
        max_size=3,
    ),
}
IMAGES = st.lists(st.fixed_dictionaries({"id": INTEGERS}, optional=VALUES), max_size=12)
PROJECTS = st.lists(st.lists(IMAGES, max_size=3), max_size=3)


def projects_of(drawn: list[list[list[dict[str, Any]]]]) -> list[Project]:
    """Projects of datasets of images."""
    return [
        Project(
            {"id": n, "name": "-p"}, [], [Dataset({"id": f"{n}-{m}"}, images) for m, images in enumerate(datasets)]
        )
        for n, datasets in enumerate(drawn)
    ]


@every_format
@given(drawn=PROJECTS, sizes=st.lists(st.integers(1, 5), min_size=1))
def test_cuts_do_not_show(output: Format, drawn: list[list[list[dict[str, Any]]]], sizes: list[int]) -> None:
    """Wherever the images are cut into blocks, the file and its counts are the same."""
    whole, cut = built(projects_of(drawn)), built(projects_of(drawn), cycle(sizes))
    assert cut.written(output) == whole.written(output)
    assert cut.guarded(output) == whole.guarded(output)
    assert cut.tree.counts == whole.tree.counts
    assert output.rows(cut.tree) == output.rows(whole.tree)


@every_format
def test_blocks_are_separated_by_the_separator(output: Format) -> None:
    """Between two blocks of a dataset stands the separator and nothing else, and it belongs to neither."""
    cut = built(sample(), cycle([1]))
    pieces = list(output.assemble(cut.tree))
    references = [place for place, piece in enumerate(pieces) if isinstance(piece, BlockRef)]
    if not output.has_blocks:
        assert references == []
        assert output.block(*cut.blocks[0]) == (b"", 0)
        return
    assert [pieces[place] for place in references] == [BlockRef(0), BlockRef(1), BlockRef(2)]
    for before, after in pairwise(references):
        between = [piece for piece in pieces[before + 1 : after] if isinstance(piece, bytes)]
        assert b"".join(between) == output.separator
    bodies = cut.bodies(output)
    if isinstance(output, RowFormat):
        assert output.separator == b""
        assert sum(map(output.measure, bodies)) == output.rows(cut.tree)
        return
    assert output.separator.join(bodies) in cut.written(output)
    assert all(not output.separator or not body.endswith(output.separator) for body in bodies)


@every_format
def test_a_block_is_the_same_in_any_company(output: Format) -> None:
    """Its bytes depend on its rows, its project and its dataset, not on who renders it, or how often."""
    cut = built(sample(), cycle([1]))
    first = cut.bodies(output)
    assert cut.bodies(output) == first
    for other in FORMATS:
        cut.bodies(other)
        assert cut.bodies(output) == first


@every_format
def test_rows(output: Format) -> None:
    """The rows of the manifest: of JSON, its images; of a table, its lines without the header."""
    whole = built(sample())
    expected = {
        "database_export.json": 3, "projects.csv": 2, "datasets.csv": 2, "images.csv": 3, "annotations.csv": 5,
        "images.jsonl": 3, "images.parquet": 3, "annotations.parquet": 5,
    }  # fmt: skip
    assert output.rows(whole.tree) == expected[output.file_name]
    assert output.rows(Built(built([]).tree, []).tree) == 0


@every_format
def test_a_tree_can_be_assembled_twice(output: Format) -> None:
    """Once to see whether anything changed, once to write it."""
    whole = built(sample())
    assert list(output.assemble(whole.tree)) == list(output.assemble(whole.tree))
    assert whole.written(output).endswith(b"PAR1" if isinstance(output, RowFormat) else b"\n")


def chosen(**settings: bool) -> tuple[str, ...]:
    """The files that these settings choose."""
    return tuple(output.file_name for output in chosen_formats(Settings(**settings).format_options))


def test_the_settings_choose() -> None:
    """Each file has its switch, and the options reach the formats."""
    assert chosen() == DEFAULT_FILES
    assert chosen(export_csv=False) == ("database_export.json",)
    assert chosen(export_json=False) == DEFAULT_FILES[1:]
    assert chosen(**ALL_OUTPUTS) == file_names()
    pretty, *tables = chosen_formats(Settings(json_style="pretty", csv_guard=False, csv_bom=True).format_options)
    assert isinstance(pretty, JsonDocument)
    assert pretty.style == "pretty"
    assert all(not getattr(table, "guard") and getattr(table, "bom") for table in tables)  # noqa: B009
