"""Counts with their nouns: one of something is no plural, wherever a person reads it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.cli import main
from autoexport.commands.demo import make_database
from autoexport.runtime.wording import counted, counted_name

_ONE_OF_MANY = re.compile(r"(?<![\d,.:/])1 (?:more |of them )?(?!(?:class|is|has)\b)[a-z]+s\b")
"""A plural after a one."""

_TAG = re.compile("<[^>]*>")
_ONE_ROW_EACH = """
DELETE FROM annotations WHERE rowid > 1;
DELETE FROM images WHERE id NOT IN (SELECT image_id FROM annotations);
DELETE FROM datasets WHERE id NOT IN (SELECT dataset_id FROM images);
DELETE FROM projects WHERE id NOT IN (SELECT project_id FROM datasets);
DELETE FROM labels WHERE rowid > 1;
"""


def test_one_of_each() -> None:
    """Irregular plurals, and names whose words are joined by `_`."""
    assert [counted(1, "image"), counted(0, "image"), counted(1_200, "image")] == [
        "1 image", "0 images", "1,200 images"
    ]  # fmt: skip
    assert counted(2, "class", "classes") == "2 classes"
    assert [counted_name(1, "boxes_clipped"), counted_name(2, "boxes_clipped")] == [
        "1 box clipped",
        "2 boxes clipped",
    ]


@pytest.mark.parametrize("orphan", [None, "images", "annotations"])
def test_a_database_with_one_row_of_each(
    orphan: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No plural after a one in `check`, the log, the table of files, `status`, `verify` and the page."""
    make_database(tmp_path / "app.db")
    with closing(sqlite3.connect("app.db")) as connection:
        connection.executescript(_ONE_ROW_EACH)
        if orphan is not None:
            connection.execute(f"UPDATE {orphan} SET {'dataset' if orphan == 'images' else 'image'}_id = 'gone'")
        connection.commit()
    assert main(["check", "app.db"]) == 0
    checked = capsys.readouterr().out
    assert "1 image and 1 annotation" in " ".join(checked.split())
    assert main(["app.db", "--log-level", "debug"]) == 0
    (tmp_path / "database_exports" / "images.csv").write_text("x")
    assert (main(["status"]), main(["verify", "app.db"])) == (0, 3)
    shown = capsys.readouterr()
    page = _TAG.sub(" ", (tmp_path / "database_exports" / "index.html").read_text("utf-8"))
    assert _ONE_OF_MANY.findall("\n".join((checked, shown.out, shown.err, page))) == []
