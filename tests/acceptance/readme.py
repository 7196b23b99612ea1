"""The documents as tests read them: blocks, sections and tables, and the surroundings for their commands."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from autoexport.commands.demo import make_database
from autoexport.config.settings import Settings
from autoexport.pipeline.exporter import run_once
from tests.conftest import REPOSITORY, Finished, program_environment, run_autoexport
from tests.daemon import LIMIT_S, wait_until
from tests.deadlines import deadline_s
from tests.outputs import ALL_OUTPUTS
from tests.processes import started

README = "README.md"
CODE = "autoexport/README.md"
CONFIG = "autoexport/config/README.md"
FORMATS = "autoexport/formats/README.md"
SYSTEMD = "systemd/README.md"
BENCH = "tests/bench/README.md"
PUBLISHING = "autoexport/publishing/README.md"
OF_A_BUCKET = "://BUCKET/"
"""What a block has in its text that needs a bucket: tests/acceptance/test_object_store.py runs those."""
OF_TASKS = "export-plan"
"""What a block has in its text that needs PostgreSQL: tests/acceptance/test_tasks.py runs those."""


def repository_files(folder: Path = REPOSITORY) -> Iterator[Path]:
    """The files that belong to the project: not those of tools, environments, builds and exports."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.name == ".ci" or not (
            path.name.startswith((".", "__pycache__"))
            or path.name in ("build", "dist", "autoexport_demo", "database_exports")
            or (path / "pyvenv.cfg").exists()
        ):
            yield from repository_files(path)


def _documents() -> dict[str, str]:
    paths = [path for path in repository_files() if path.suffix == ".md"]
    texts = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    return {README: texts.pop(README), **texts}


DOCUMENTS = _documents()
"""The text of every document by its path in the repository; README.md is the first."""

EXAMPLE = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT NOT NULL, description TEXT, project_type TEXT,
    created_at DATETIME, updated_at DATETIME);
CREATE TABLE datasets (id INTEGER PRIMARY KEY, project_id INTEGER REFERENCES projects (id), name TEXT NOT NULL,
    description TEXT, created_at DATETIME, updated_at DATETIME);
CREATE TABLE images (id INTEGER PRIMARY KEY, dataset_id INTEGER REFERENCES datasets (id), filename TEXT,
    original_filename TEXT, file_path TEXT, width INTEGER, height INTEGER, format TEXT, file_size INTEGER,
    split_section TEXT, split_type TEXT, is_labeled BOOLEAN, is_auto_labeled BOOLEAN, is_verified BOOLEAN,
    created_at DATETIME, updated_at DATETIME);
CREATE TABLE labels (id INTEGER PRIMARY KEY, project_id INTEGER REFERENCES projects (id), name TEXT, color TEXT);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER REFERENCES images (id), class_name TEXT,
    class_id INTEGER REFERENCES labels (id), confidence FLOAT, x_min FLOAT, y_min FLOAT, x_max FLOAT, y_max FLOAT,
    segmentation JSON, is_auto_generated BOOLEAN, is_verified BOOLEAN, model_id TEXT, created_at DATETIME,
    updated_at DATETIME);
INSERT INTO projects VALUES
    (1, 'Vehicle Detection', NULL, 'Object Detection', '2024-01-15 09:00:00', '2024-01-15 09:00:00'),
    (2, 'Face Recognition', '', 'Image Classification', '2024-01-16 14:30:00', '2024-01-16 14:30:00');
INSERT INTO datasets VALUES (1, 1, 'Training Set', NULL, '2024-01-15 09:05:00', '2024-01-15 09:05:00');
INSERT INTO images VALUES
    (7, 1, 'a.jpg', 'a.jpg', 'img/a.jpg', 640, 480, 'JPEG', 57407, 'train', 'dataset', 1, 0, 0,
        '2024-01-15 09:10:00', '2024-01-15 09:12:31.250000'),
    (8, 1, '=b.jpg', '=b.jpg', 'img/b.jpg', 640, 480, 'JPEG', 60118, NULL, 'unassigned', 0, 0, 0,
        '2024-01-15 09:10:00', NULL);
INSERT INTO labels VALUES (1, 1, 'car', '#ff0000'), (2, 1, 'person', NULL);
INSERT INTO annotations VALUES
    (1, 7, 'car', 1, 0.98, 1.0, 2.0, 3.0, 4.0, NULL, 1, 0, 'yolov8n', '2024-01-15 09:11:00',
        '2024-01-15 09:11:00'),
    (2, 7, 'car', 1, NULL, NULL, NULL, NULL, NULL, '[[1, 2], [3, 4], [5, 6]]', 0, 1, NULL,
        '2024-01-15 09:12:00', '2024-01-15 09:12:00');
"""
"""The database whose files autoexport/formats/README.md shows."""

ALL_ON = "".join(f"{name} = true\n" for name in ALL_OUTPUTS)
"""The configuration file that turns every output on."""

RENAMED = """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE datasets (id INTEGER PRIMARY KEY, project_id INTEGER REFERENCES projects (id), name TEXT);
CREATE TABLE media (id INTEGER PRIMARY KEY, dataset_id INTEGER REFERENCES datasets (id), filename TEXT,
    storage_key TEXT);
CREATE TABLE shapes (id INTEGER PRIMARY KEY, media_id INTEGER REFERENCES media (id), kind TEXT, rect JSON,
    model_id TEXT);
INSERT INTO projects VALUES (1, 'p');
INSERT INTO datasets VALUES (1, 1, 'd');
INSERT INTO media VALUES (1, 1, 'a.jpg', 'bucket/a.jpg');
INSERT INTO shapes VALUES (1, 1, 'car', '[10, 20, 30, 40]', 'private');
"""
"""A database that needs the `[tables]` of autoexport/config/README.md."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a document; `line` is where it begins."""

    document: str
    language: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """Its place, for the name of a test."""
        return f"{self.document}:{self.line}"


def _blocks(document: str, text: str) -> Iterator[Block]:
    inside: tuple[str, int] | None = None
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is None and line.startswith("```"):
            inside, body = (line[3:], number), []
        elif inside is not None and line == "```":
            yield Block(document, inside[0], "\n".join(body) + "\n", inside[1])
            inside = None
        elif inside is not None:
            body.append(line)
    assert inside is None, f"{document}: the block that begins in line {inside} has no end"


BLOCKS = [block for document, text in DOCUMENTS.items() for block in _blocks(document, text)]


def blocks(language: str, document: str | None = None) -> list[Block]:
    """The blocks of a language in order, of one document or of all."""
    return [block for block in BLOCKS if block.language == language and document in (None, block.document)]


def prose(document: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", DOCUMENTS[document], flags=re.DOTALL | re.MULTILINE)


def section(title: str, document: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    level = len(title) - len(title.lstrip("#"))
    _, found, rest = f"\n{DOCUMENTS[document]}".partition(f"\n{title}\n")
    assert found, f"{document} has no heading {title!r}"
    lines: list[str] = []
    fenced = False
    for line in rest.splitlines():
        fenced ^= line.startswith("```")
        marks = len(line) - len(line.lstrip("#"))
        if not fenced and 0 < marks <= level:
            break
        lines.append(line)
    return "\n".join(lines)


def table(title: str, document: str) -> list[list[str]]:
    """The rows of the first table under a heading, each as its cells, without the headings of the columns."""
    lines = dropwhile(lambda line: not line.startswith("|"), section(title, document).splitlines())
    rows = list(takewhile(lambda line: line.startswith("|"), lines))[2:]
    return [[cell.strip() for cell in row.strip("|").split(" |")] for row in rows]


# --- running -------------------------------------------------------------------------------------


class Surroundings:
    """A directory as a reader of the documents has it: `app.db`, and `python` on the path.

    `DATABASE_URL` says app.db too, for the commands that leave the database to the settings.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "reader"
        commands = directory / "commands"
        commands.mkdir()
        self.directory.mkdir()
        for name in ("python", "python3"):
            script = commands / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            script.chmod(0o755)
        self.environment = program_environment(
            {"PATH": f"{commands}:{os.environ['PATH']}", "DATABASE_URL": "sqlite:///app.db"}
        )
        make_database(self.directory / "app.db")

    def export(self, *outputs: str, **settings: str) -> None:
        """Have an export in database_exports/, as someone who reads it has; `outputs` are switches that are on."""
        database, directory = str(self.directory / "app.db"), self.directory / "database_exports"
        on = dict.fromkeys(outputs, True) | settings
        asyncio.run(run_once(Settings(database_url=database, export_directory=directory, **on)))  # type: ignore[arg-type]

    def run(self, *command: str) -> Finished:
        """Run a command to its end; raises after the time limit, with the process killed."""
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, encoding="utf-8", timeout=deadline_s(2 * LIMIT_S), check=False,
        )  # fmt: skip
        return Finished(done.returncode, done.stdout, done.stderr)

    def run_until_published(self, directory: str, *command: str) -> Finished:
        """Run a command that does not end by itself: when it has published, ask all its processes to end."""
        manifest = self.directory / directory / "manifest.json"
        with started(
            command, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", start_new_session=True,
        ) as process:  # fmt: skip
            wait_until(lambda: manifest.exists() or process.poll() is not None, f"{manifest} is published")
            assert process.poll() is None, f"it ended by itself: {process.communicate()[0]}"
            os.killpg(process.pid, signal.SIGTERM)
            output, _ = process.communicate(timeout=deadline_s(LIMIT_S))
        return Finished(process.returncode, output, "")


def export_of(sql: str, directory: Path, configuration: str = "") -> Path:
    """The export directory of a database that these statements make."""
    with closing(sqlite3.connect(directory / "example.db")) as connection:
        connection.executescript(sql)
    (directory / "autoexport.toml").write_text(configuration)
    done = run_autoexport("--database-url", "example.db", "--export-dir", "exports", cwd=directory)
    assert done.exit_code == 0, done.stderr
    return directory / "exports"


def load(path: Path) -> Mapping[str, object]:
    """A JSON file."""
    loaded: dict[str, object] = json.loads(path.read_bytes())
    return loaded


def install_surroundings(directory: Path) -> tuple[Path, dict[str, str]]:
    """What a clone holds, copied, and an environment where `python3` is this interpreter outside of any venv."""
    clone = directory / "clone"
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
        for name in names:
            if (REPOSITORY / name).is_file():
                (clone / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPOSITORY / name, clone / name)
    else:  # an unpacked archive
        shutil.copytree(
            REPOSITORY, clone, ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__")
        )
    python = Path(getattr(sys, "_base_executable", sys.executable))
    commands = directory / "commands"
    commands.mkdir()
    (commands / "python3").symlink_to(python)
    environment = program_environment({"PATH": f"{commands}:{os.environ['PATH']}"})
    for name in ("PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return clone, environment
