"""Cells that are URLs lose what may be secret: login, query and fragment; everything else stays as stored."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.errors import ConfigurationError
from autoexport.mapping.overrides import read_overrides
from autoexport.values.urls import cut_url, cut_urls
from tests.applications import create_sqlite, fill_sqlite
from tests.databases import SqliteDatabase
from tests.trials import Trial

SIGNED = "https://bucket.s3.amazonaws.com/a.jpg?X-Amz-Credential=AKIA&X-Amz-Signature=c0ffee"


@pytest.mark.parametrize(
    ("stored", "published"),
    [
        (SIGNED, "https://bucket.s3.amazonaws.com/a.jpg"),
        ("https://user:pw@host:8080/a.jpg", "https://host:8080/a.jpg"),
        ("HTTPS://host/a.jpg#access_token=c0ffee", "HTTPS://host/a.jpg"),
        ("s3://key:secret@bucket/a.jpg?versionId=3", "s3://bucket/a.jpg"),
        ("gs://bucket/a.jpg?x=1", "gs://bucket/a.jpg"),
        ("az://box/a.jpg?sv=2022&sig=c0ffee", "az://box/a.jpg"),
        ("ftp://user:p@ss@host/a.jpg", "ftp://host/a.jpg"),
        (" https://host/a.jpg?sig=c0ffee", " https://host/a.jpg"),
        ("https://host?token=c0ffee", "https://host"),
        ("https://host\\@evil/a?sig=1", "https://host\\@evil/a"),
        ("/media/a.jpg?token=c0ffee", "/media/a.jpg"),
        ("media/a.jpg?v=3&X-Goog-Signature=c0ffee", "media/a.jpg"),
        ("data:image/png;base64,iVBORw0KGgo=", None),
        ("DATA:,hello", None),
    ],
)
def test_what_is_cut(stored: str, published: str | None) -> None:
    """URLs of every scheme but `file`, paths with a parameter that is named as secrets are, and data."""
    assert cut_url(stored) == published


@pytest.mark.parametrize(
    "stored",
    [
        "img/a.jpg", "C:\\images\\a#1.jpg", "C://images/a?b.jpg", "https://host/a b.jpg", "s3://bucket/a@2x.jpg",
        "/data/local-files/?d=folder/a.jpg", "file:///srv/a#1.jpg", "a?b.jpg", "what? a token", "data: none",
        "data", "//nas/photos/a#1.jpg", "see https://host/a?sig=1", "", "?", "#", "monkey=1",
    ],
)  # fmt: skip
def test_what_stays(stored: str) -> None:
    """Paths and words that only look a little like a URL, and URLs without a secret: the same object."""
    assert cut_url(stored) is stored


@pytest.mark.parametrize(
    ("stored", "keep", "published"),
    [
        ("https://h/view?id=7&sig=c0ffee", ["id"], "https://h/view?id=7"),
        ("https://h/view?sig=c0ffee;id=7;id=8", ["id"], "https://h/view?id=7&id=8"),
        ("https://h/view?id=7#sig=c0ffee", ["id"], "https://h/view?id=7"),
        ("https://h/view?ID=7", ["id"], "https://h/view"),
        ("/view?id=7&token=c0ffee", ["id"], "/view?id=7"),
    ],
)
def test_parameters_that_are_kept(stored: str, keep: list[str], published: str) -> None:
    """By their exact name, in their order; the fragment goes all the same."""
    assert cut_url(stored, keep) == published


CELLS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.builds(
        "{}://{}{}/{}?{}#{}".format,
        st.sampled_from(["http", "https", "s3", "gs", "ftp", "x-y"]),
        st.sampled_from(["", "user@", "user:pw@", "@"]),
        *[st.text("aé/.:@?#&=-", max_size=8) for _ in range(4)],
    ),
)


@given(st.lists(CELLS, max_size=8))
def test_a_column_is_its_cells(column: list[str | None]) -> None:
    """Cell by cell, counted; a second time changes nothing; an ordinary column is the same object."""
    cut, changed = cut_urls(column)
    assert list(cut) == [None if cell is None else cut_url(cell) for cell in column]
    assert changed == sum(one is not other for one, other in zip(cut, column, strict=True))
    assert cut_urls(cut) == (cut, 0)
    assert (cut is column) == (changed == 0)


def test_numbers_and_bytes_in_a_column_of_text() -> None:
    """They have no URL, and do not hide one."""
    column = [SIGNED, 7, None, b"https://h/?sig=1", 1.5]
    assert cut_urls(column) == (["https://bucket.s3.amazonaws.com/a.jpg", 7, None, b"https://h/?sig=1", 1.5], 1)


@pytest.fixture
def signed(tmp_path: Path) -> Trial:
    """A database with secrets in a path, a file name, a label, a model, a project and a dataset."""
    path = tmp_path / "app.db"
    connection = create_sqlite(path)
    fill_sqlite(connection)
    connection.close()
    database = SqliteDatabase(path)
    for table, column in (
        ("images", "file_path"), ("images", "filename"), ("annotations", "class_name"),
        ("annotations", "model_id"),
        ("projects", "description"), ("datasets", "name"), ("labels", "name"),
    ):  # fmt: skip
        database.execute(
            f"UPDATE {table} SET {column} = ? WHERE id = (SELECT min(id) FROM {table})",
            f"https://u:canary-login@h/{column}?id=7&sig=canary-query#canary-fragment",
        )
    database.close()
    return Trial(f"sqlite:///{path}", tmp_path / "exports")


def test_no_secret_is_published(signed: Trial) -> None:
    """In no file; the manifest counts what was cut, and the paths are still there."""
    manifest = signed.export().manifest
    text = b"".join(path.read_bytes() for path in signed.directory.iterdir() if path.is_file())
    assert b"canary" not in text
    assert b"https://h/file_path" in text
    assert manifest.redacted == 7
    assert signed.differences() == []


def test_a_parameter_that_says_which_image(signed: Trial) -> None:
    """It is kept where the configuration says so: of one field, or of all fields of a table."""
    kept = Trial(
        signed.settings.database_url, signed.directory, tables={"images": {"keep_query": {"file_path": ["id"]}}}
    )
    kept.export()
    images = [
        image
        for project in orjson.loads((kept.directory / "database_export.json").read_bytes())["projects"]
        for dataset in project["datasets"]
        for image in dataset["images"]
    ]
    assert "https://h/file_path?id=7" in [image["file_path"] for image in images]
    assert "https://h/filename" in [image["filename"] for image in images]
    both = Trial(signed.settings.database_url, signed.directory, tables={"images": {"keep_query": ["id"]}})
    assert both.export().reason == "the tables or their mapping changed"
    assert b"https://h/filename?id=7" in (both.directory / "images.csv").read_bytes()
    assert both.differences() == []


@pytest.mark.parametrize("value", ["id", 7, [7], [""], {"file_path": "id"}, {"path": ["id"]}])
def test_a_bad_setting(value: object) -> None:
    """It is an error that shows a good one, or the fields."""
    with pytest.raises(ConfigurationError) as raised:
        read_overrides({"images": {"keep_query": value}})
    assert raised.value.hint
