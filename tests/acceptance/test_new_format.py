"""A new output format is one new file and one line in the registry."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from autoexport import formats
from tests.bench.generate import write_sqlite
from tests.conftest import REPOSITORY, program_environment
from tests.deadlines import deadline_s

IMAGE_LINES = '''
"""`image_labels.jsonl`: a line for each image, with its id and the labels of its annotations."""

from __future__ import annotations

import orjson

from autoexport.config.options import Option
from autoexport.formats.contract import FormatOptions, Output
from autoexport.model.blocks import BlockRef


class ImageLines:
    file_name = "image_labels.jsonl"
    has_blocks = True
    separator = b""

    def __init__(self, key):
        self.key = key

    def rows(self, tree):
        return tree.counts.images

    def block(self, block, project, dataset):
        lines, at = [], 0
        for key, span in zip(block.images["id"], block.spans):
            labels = block.annotations["label"][at : at + span]
            record = {self.key: key, "project": project.values["name"], "labels": labels}
            lines.append(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            at += span
        return b"".join(lines), 0

    def image_at(self, body, offset):
        return body[: body.find(b"\\n", offset)].rpartition(b"\\n")[2].decode()

    def assemble(self, tree):
        for project in tree.projects:
            for dataset in project.datasets:
                for block in dataset.blocks:
                    yield BlockRef(block)

    def guarded(self, tree):
        return 0


OUTPUT = Output(
    switch=Option("export_image_labels", default=False),
    options=(Option("image_labels_key", default="id", choices=("id", "image_id")),),
    file_names=("image_labels.jsonl",),
    make=lambda options: [ImageLines(options["image_labels_key"])],
)
'''
LINE = '    "image_labels": "autoexport.formats.image_labels:OUTPUT",\n'


class Copy:
    """A copy of the package with the new format, a database, and a directory for its export."""

    def __init__(self, place: Path) -> None:
        self.packages = place / "packages"
        self.database = place / "app.db"
        self.exports = place / "exports"
        package = self.packages / "autoexport"
        shutil.copytree(Path(formats.__file__).parents[1], package)
        (package / "formats" / "image_labels.py").write_text(IMAGE_LINES)
        registry = package / "formats" / "__init__.py"
        begin = "FORMATS = {\n"
        before, _, after = registry.read_text().partition(begin)
        registry.write_text(before + begin + LINE + after)
        # More than 50,000 rows: a rendering process has to find the format as well.
        write_sqlite(self.database, images=9_000, annotations_per_image=5, seed=1, indexes=True, journal="delete")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the copy with the new output on."""
        environment = program_environment() | {
            "PYTHONPATH": str(self.packages),
            "DB_EXPORT_EXPORT_IMAGE_LABELS": "true",
            "DB_EXPORT_DATABASE_URL": str(self.database),
            "DB_EXPORT_EXPORT_DIRECTORY": str(self.exports),
            **variables,
        }
        return subprocess.run(
            [sys.executable, "-m", "autoexport", *arguments],
            cwd=self.packages, env=environment, capture_output=True, text=True, check=False,
            timeout=deadline_s(60),
        )  # fmt: skip

    def lines(self) -> list[dict[str, object]]:
        """The lines of the new file."""
        return [json.loads(line) for line in (self.exports / "image_labels.jsonl").read_text().splitlines()]

    def lines_of_the_tree(self) -> list[dict[str, object]]:
        """What the lines have to be, from the JSON document."""
        document = json.loads((self.exports / "database_export.json").read_bytes())
        return [
            {
                "id": image["id"],
                "project": project["name"],
                "labels": [item["label"] for item in image["annotations"]],
            }
            for project in document["projects"]
            for dataset in project["datasets"]
            for image in dataset["images"]
        ]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """The copy with the new format."""
    return Copy(tmp_path)


def test_one_file_and_one_line(copy: Copy) -> None:
    """It is exported, verified, and spliced when a row changed; its switch and its option are settings."""
    done = copy.run()
    assert done.returncode == 0, done.stderr
    assert copy.lines() == copy.lines_of_the_tree() != []
    assert copy.run("verify").returncode == 0
    before = (copy.exports / "image_labels.jsonl").read_bytes()
    with closing(sqlite3.connect(copy.database)) as connection, connection:
        connection.execute(
            "UPDATE annotations SET class_name = 'zebra' WHERE id = (SELECT min(id) FROM annotations)"
        )
    done = copy.run()
    assert done.returncode == 0, done.stderr
    manifest = json.loads((copy.exports / "manifest.json").read_bytes())
    assert manifest["mode"] == "incremental"
    assert manifest["files"]["image_labels.jsonl"]["rows"] == len(copy.lines())
    assert (copy.exports / "image_labels.jsonl").read_bytes() != before
    assert copy.lines() == copy.lines_of_the_tree()
    verified = copy.run("verify")
    assert verified.returncode == 0, verified.stdout
    refused = copy.run("check", DB_EXPORT_IMAGE_LABELS_KEY="name")
    assert refused.returncode == 2
    assert "Allowed: id or image_id." in refused.stderr


def test_it_is_off_by_default(copy: Copy) -> None:
    """As its switch says, and then there is no such file."""
    assert copy.run(DB_EXPORT_EXPORT_IMAGE_LABELS="").returncode == 0
    assert not (copy.exports / "image_labels.jsonl").exists()
    assert REPOSITORY not in copy.packages.parents
