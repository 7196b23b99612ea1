"""The three CSV files byte by byte: columns, quoting, guards, nulls, times."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from autoexport.formats.csv_table import DatasetsTable, ImagesTable, ProjectsTable
from tests.trees import Dataset, Project, built, sample

GOLDEN = Path(__file__).parents[1] / "golden"
TABLES = (ProjectsTable, DatasetsTable, ImagesTable)
HEADERS = {
    "projects.csv": "project_id,project_name,dataset_count,image_count,created_at,updated_at,description,"
    "project_type,labeled_image_count,annotation_count,label_count,labels",
    "datasets.csv": "dataset_id,dataset_name,project_id,project_name,image_count,train_count,val_count,test_count,"
    "unassigned_count,labeled_image_count,annotation_count,description,created_at,updated_at",
    "images.csv": "image_id,filename,file_path,project_id,project_name,dataset_id,dataset_name,width,height,"
    "file_size,split,annotation_count,is_labeled,original_filename,format,status,is_auto_labeled,is_verified,created_at,"
    "updated_at",
}


def images_csv(*images: dict[str, Any], guard: bool = True, bom: bool = False) -> bytes:
    """images.csv of one dataset."""
    dataset = Dataset({"id": 1, "name": "d"}, list(images))
    return built([Project({"id": 1, "name": "p"}, [], [dataset])]).written(ImagesTable(guard, bom))


def cell(field: str, stored: Any, *, guard: bool = True, beside: Any = None) -> str:
    """One value of an image as it stands in the file, quotes and all."""
    written = images_csv({"id": 1, field: stored}, {"id": 2, field: beside}, guard=guard).decode()
    header, _, rows = written.partition("\n")
    quoted = r'("(?:[^"]|"")*"|[^",\n]*)'
    found = re.match(",".join([quoted] * (header.count(",") + 1)) + "\n", rows)
    assert found, rows
    return found.groups()[header.split(",").index(field)]


@pytest.mark.parametrize("table", TABLES)
def test_golden_files(table: type[ProjectsTable]) -> None:
    """The bytes are those that were reviewed once; without guard and with a byte order mark as well."""
    whole = built(sample())
    assert whole.written(table()) == (GOLDEN / table.file_name).read_bytes()
    bare = GOLDEN / table.file_name.replace(".csv", ".unguarded-bom.csv")
    assert whole.written(table(guard=False, bom=True)) == bare.read_bytes()


@pytest.mark.parametrize("table", TABLES)
def test_headers(table: type[ProjectsTable]) -> None:
    """The columns of the contract, bare, also over no rows at all."""
    assert built([]).written(table()).decode() == HEADERS[table.file_name] + "\n"
    assert built([]).written(table(bom=True)) == b"\xef\xbb\xbf" + HEADERS[table.file_name].encode() + b"\n"


@pytest.mark.parametrize(
    ("field", "stored", "expected"),
    [
        ("filename", "a.jpg", '"a.jpg"'),
        ("filename", "", '""'),
        ("filename", 'say "x"', '"say ""x"""'),
        ("filename", "a,b\r\nc\x00\u2028", '"a,b\r\nc\x00\u2028"'),
        ("filename", "C:\\a\\n", '"C:\\a\\n"'),
        ("filename", "null", '"null"'),
        ("filename", "\U0001f600", '"\U0001f600"'),
        ("filename", 7, "7"),
        ("filename", b"\xfb", '"\'+w=="'),
        ("original_filename", None, ""),
        ("width", 640, "640"),
        ("width", 0.1, "0.1"),
        ("width", "1.10", "1.10"),
        ("width", "wide", '"wide"'),
        ("width", float("inf"), ""),
        ("file_size", 2**53 + 1, "9007199254740993"),
        ("is_labeled", 1, "true"),
        ("is_labeled", 0, "false"),
        ("is_verified", None, ""),
        ("created_at", "2024-01-15T12:00:00", '"2024-01-15 12:00:00"'),
        ("created_at", "2024-01-15 12:00:00.5", '"2024-01-15 12:00:00.500000"'),
        ("created_at", "2024-01-15 12:00:00+02:00", '"2024-01-15 10:00:00Z"'),
        ("created_at", "Tomorrow", '"Tomorrow"'),
        ("created_at", "0000-00-00T", '"0000-00-00T"'),
        ("created_at", 1705312800, "1705312800"),
    ],
)
def test_cells(field: str, stored: Any, expected: str) -> None:
    """Text and dates are quoted, numbers and flags bare, null is nothing; whatever is in the same column."""
    for beside in (None, "other", 'an "odd" other', 5, "2024-01-15 12:00:00", "=1"):
        assert cell(field, stored, beside=beside) == expected


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+a", "-a", "@a", "\ta", "\ra", "=", "-", "- 1", "-1%", "+1 2", "-inf", "=5", "\n=1", "\n", "\0=1",
        "\0", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)",
    ],
)  # fmt: skip
def test_formulas_are_guarded(text: str) -> None:
    """An apostrophe before each of the twelve openers, unless the guard is off."""
    for beside in (None, "x", 'x"'):
        assert cell("filename", text, beside=beside) == f'"\'{text}"'
        assert cell("filename", text, beside=beside, guard=False) == f'"{text}"'


@pytest.mark.parametrize(
    "text",
    [
        "-1", "+1", "-1.5", "-.5", "+5.", "-1e-9", "1=1", "'=1", " =1", "a\n=1", '"=1', "a,=1", "\ufeffa",
        "\uff1ea", "a\uff1d",
    ],
)  # fmt: skip
def test_numbers_and_ordinary_text_are_not_guarded(text: str) -> None:
    """A number may have a sign, and only the first character of a text opens a formula."""
    for beside in (None, "x", "=x"):
        assert cell("filename", text, beside=beside) == '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "field", ["id", "filename", "file_path", "split", "original_filename", "format", "status"]
)
def test_every_text_cell_is_guarded(field: str) -> None:
    """File names too: uploaders choose them."""
    written = images_csv({"id": "a", "filename": "n", field: "=x"})
    assert written.count(b'"\'=x"') == 1


def test_guarded_cells_are_counted() -> None:
    """The names of project and dataset count once for each row."""
    images = [{"id": 1, "filename": "=1", "status": "-"}, {"id": 2, "filename": "-1"}, {"id": 3, "filename": "@"}]
    labels = [{"id": 1, "name": "=label"}]
    dataset = Dataset({"id": 1, "name": "@d", "description": "ok"}, images)
    whole = built([Project({"id": 1, "name": "+p"}, labels, [dataset])])
    assert [whole.guarded(table()) for table in TABLES] == [2, 2, 3 + 2 * 3]
    assert [whole.guarded(table(guard=False)) for table in TABLES] == [0, 0, 0]


def test_labels_are_joined() -> None:
    """By semicolon and space, in order; a label without a name adds nothing, no label is empty text."""
    labels: list[dict[str, Any]] = [
        {"id": 1, "name": "b"},
        {"id": 2, "name": 'a; "c"'},
        {"id": 3, "name": None},
        {"id": 4, "name": 5},
    ]
    written = built([Project({"id": 1}, labels), Project({"id": 2})]).written(ProjectsTable()).decode()
    _, first, second, end = written.split("\n")
    assert first.endswith(',4,"b; a; ""c""; 5"')
    assert second.endswith(',0,""')
    assert end == ""


@pytest.mark.parametrize("name", ["species {}", "=花 {}", "\U0001f600 {}", '"{}"'])
def test_a_long_list_of_labels_is_cut(name: str) -> None:
    """At a whole name, so that `csv` and Excel read the cell; the count says how many there are."""
    names = [name.format(number) for number in range(20_000)]
    labels: list[dict[str, Any]] = [{"id": number, "name": text} for number, text in enumerate(names)]
    written = built([Project({"id": 1}, labels)]).written(ProjectsTable()).decode()
    (row,) = csv.DictReader(io.StringIO(written, newline=""), strict=True)
    assert row["label_count"] == "20000"
    *shown, end = row["labels"].removeprefix("'").split("; ")
    assert (shown, end) == (names[: len(shown)], "…")
    longest = len(row["labels"].encode("utf-16-le")) // 2
    assert longest <= 32_767 < longest + len(names[len(shown)].encode("utf-16-le")) // 2 + 3


def test_a_list_at_the_limit_is_whole() -> None:
    """One character more cuts it, and no name is cut."""
    for length, expected in ((32_763, "x" * 32_763 + "; b"), (32_764, "…")):
        labels: list[dict[str, Any]] = [{"id": 1, "name": "x" * length}, {"id": 2, "name": "b"}]
        written = built([Project({"id": 1}, labels)]).written(ProjectsTable()).decode()
        assert written.rstrip().endswith(f',2,"{expected}"')


def test_counts_of_datasets() -> None:
    """Splits by their four words; other words are in the image count only."""
    images = [
        {"id": n, "split": word, "is_labeled": n % 2} for n, word in enumerate(["train", None, "test", "x", "val"])
    ]
    whole = built([Project({"id": 1, "name": "p"}, [], [Dataset({"id": 9, "name": "d"}, images)])])
    assert whole.written(DatasetsTable()).decode().split("\n")[1] == '9,"d",1,"p",5,1,1,1,1,2,0,,,'
    assert whole.written(ProjectsTable()).decode().split("\n")[1] == '1,"p",1,5,,,,,2,0,0,""'


def test_lines_end_alike() -> None:
    """`\\n` alone ends a line, whatever ends the lines of the texts in it."""
    written = images_csv({"id": 1, "filename": "a\r\nb"}, {"id": 2, "filename": "a\rb"}).decode()
    assert written.count("\r") == 2
    rows = list(csv.reader(io.StringIO(written, newline=""), strict=True))
    assert [row[1] for row in rows] == ["filename", "a\r\nb", "a\rb"]
