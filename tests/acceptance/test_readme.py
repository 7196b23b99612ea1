"""The commands and programs in the documents run, and their examples are what the program writes."""

from __future__ import annotations

import json
import re
import subprocess
import zlib
from pathlib import Path

import pytest

from autoexport import Settings
from tests.acceptance.readme import (
    ALL_ON,
    CONFIG,
    EXAMPLE,
    FORMATS,
    OF_A_BUCKET,
    OF_TASKS,
    README,
    RENAMED,
    Block,
    Surroundings,
    blocks,
    export_of,
    install_surroundings,
    load,
    section,
)
from tests.conftest import REPOSITORY
from tests.deadlines import deadline_s

INSTALL, TEST, *COMMANDS = sorted(
    (block for block in blocks("bash") if OF_A_BUCKET not in block.text),
    key=lambda block: "venv" not in block.text,
)
ELSEWHERE = (OF_A_BUCKET, OF_TASKS)
PROGRAMS = [block for block in blocks("python") if not any(word in block.text for word in ELSEWHERE)]
READERS = ("verify", "status", "manifest.json", ".csv", "database_export.json")
"""A command that uses one of these needs an export."""

ENDLESS = ("run_exporter(", "FastAPI(")
"""Programs that do not end by themselves have tests of their own."""

TRAINING = ("export_coco", "export_yolo", "export_parquet", "export_jsonl")
"""The switches of the outputs that a program reads whose text has their names."""

NOT_RUNNING = 1
"""What `status` exits with where no exporter runs."""


@pytest.fixture
def reader(tmp_path: Path) -> Surroundings:
    """The surroundings of someone who follows the documents."""
    return Surroundings(tmp_path)


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_the_install_block_works_in_a_fresh_clone(tmp_path: Path) -> None:
    """The first block: a new environment, the package installed into it, the demo exported by it."""
    assert INSTALL.text == (
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m autoexport demo\n"
    )
    assert blocks("bash", README)[0] == INSTALL, "it comes first"
    clone, environment = install_surroundings(tmp_path)
    done = subprocess.run(
        ["bash", "-c", INSTALL.text], cwd=clone, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=deadline_s(380), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    document = load(clone / "autoexport_demo" / "database_exports" / "database_export.json")
    assert len(document["projects"]) == 4  # type: ignore[arg-type]
    script = subprocess.run(
        [clone / ".venv" / "bin" / "autoexport", "--version"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=deadline_s(60), check=True,
    )  # fmt: skip
    assert script.stdout.startswith("autoexport "), "the console script is installed too"


def test_ci_runs_the_test_block() -> None:
    """`.ci/run` has the README's test block to the letter, and then the static checks, as pre-commit has."""
    ci = (REPOSITORY / ".ci" / "run").read_text()
    assert TEST.text in ci
    after = ci.partition(TEST.text)[2]
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    for check in ("ruff check .", "ruff format --check .", "mypy", "lint-imports"):
        assert f".venv/bin/{check}\n" in after
        assert f"entry: .venv/bin/{check}\n" in hooks, "pre-commit runs the same"
    assert "entry: .venv/bin/pytest\n" in hooks


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_every_command_block_runs(block: Block, reader: Surroundings) -> None:
    """Every other bash block of every document runs without an error; a monitor ends when asked to."""
    if any(word in block.text for word in READERS) and "export DB_" not in block.text:
        reader.export()
    command = ("bash", "-e", "-c", block.text)
    if "--monitor" in block.text:
        given = re.search(r"--export-dir (\S+)", block.text)
        done = reader.run_until_published(given[1] if given else "database_exports", *command)
        assert done.exit_code in (0, -15), done.stdout  # bash itself may be ended by the signal
        assert done.stdout.splitlines()[-1].endswith(" stopped")
        return
    done = reader.run(*command)
    assert done.exit_code == (NOT_RUNNING if "autoexport status" in block.text else 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_configuration_file_is_followed(reader: Surroundings) -> None:
    """The block that edits autoexport.toml exports where the file says, with the logs of its environment."""
    (block,) = [block for block in COMMANDS if "sed -i" in block.text]
    done = reader.run("bash", "-e", "-c", block.text)
    assert (reader.directory / "my_exports" / "manifest.json").exists()
    assert all(line.startswith("{") for line in done.stderr.splitlines()), "production logs JSON"


def test_every_troubleshooting_heading_has_one_command_of_ours() -> None:
    """The three headings that users know are there, and each is answered by exactly one command."""
    for heading, command in (
        ("Files Not Updating?", "status"),
        ("Performance Issues?", "check"),
        ("Missing Data?", "verify"),
    ):
        found = re.findall(r"```bash\n(.*?)```", section(f"### {heading}", README), re.DOTALL)
        assert found == [f"python -m autoexport {command}\n"]


# --- programs ------------------------------------------------------------------------------------


def _program(marker: str) -> str:
    (block,) = [block for block in PROGRAMS if marker in block.text]
    return block.text


@pytest.mark.parametrize(
    "block",
    [block for block in PROGRAMS if not any(word in block.text for word in ENDLESS)],
    ids=lambda block: block.name,
)
def test_every_program_that_ends_runs(block: Block, reader: Surroundings) -> None:
    """Every other python block of every document runs without an error."""
    lake = {"lake": str(reader.directory / "lake")} if "deltalake" in block.text else {}
    reader.export(*(output for output in TRAINING if output.removeprefix("export_") in block.text), **lake)
    done = reader.run("python", "-c", block.text)
    assert done.exit_code == 0, done.stdout + done.stderr


def test_the_asyncio_program_exports_until_it_is_asked_to_stop(reader: Surroundings) -> None:
    """It keeps an export in database_exports/, and ends on SIGTERM without an error."""
    (reader.directory / "program.py").write_text(_program("run_exporter("))
    done = reader.run_until_published("database_exports", "python", "program.py")
    assert done.exit_code == 0, done.stdout


def test_the_web_application_exports_while_it_runs(reader: Surroundings) -> None:
    """Its lifespan starts and stops the exporter, and its route brings a commit into the files."""
    (reader.directory / "main.py").write_text(_program("FastAPI"))
    (reader.directory / "visitor.py").write_text(
        "import sqlite3, json\n"
        "from fastapi.testclient import TestClient\n"
        "from main import app\n"
        "with TestClient(app) as client:\n"
        "    before = client.post('/export').raise_for_status().json()\n"
        "    with sqlite3.connect('app.db') as connection:\n"
        "        connection.execute('DELETE FROM images WHERE id IN (SELECT id FROM images LIMIT 1)')\n"
        "    after = client.post('/export').raise_for_status().json()\n"
        "print(json.dumps([before, after]))\n"
    )
    done = reader.run("python", "visitor.py")
    assert done.exit_code == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after == {"generation": before["generation"] + 1, "images": before["images"] - 1}
    manifest = load(reader.directory / "database_exports" / "manifest.json")
    assert manifest["generation"] == after["generation"]


def test_the_program_that_reads_a_set_finds_files_that_do_not_fit(reader: Surroundings) -> None:
    """It reads files that belong together, and says so where one of them is of another publish."""
    program = _program("def read_set").replace("patience_s: float = 30", "patience_s: float = 0.3")
    reader.export()
    done = reader.run("python", "-c", program)
    assert (done.exit_code, done.stdout) == (0, "4 projects\n"), done.stderr
    images = reader.directory / "database_exports" / "images.csv"
    images.write_bytes(images.read_bytes().replace(b"Night", b"Nacht", 1))
    done = reader.run("python", "-c", program)
    assert done.exit_code == 1
    assert "TimeoutError: the files in database_exports do not fit their manifest" in done.stderr


def test_the_program_with_pandas_counts_the_images(reader: Surroundings) -> None:
    """It reads images.csv, null splits included."""
    reader.export()
    done = reader.run("python", "-c", _program("pandas.read_csv"))
    assert done.exit_code == 0, done.stderr
    assert re.search(r"Street Scenes\s+test\s+\d", done.stdout)
    assert "NaN" in done.stdout


# --- examples ------------------------------------------------------------------------------------


def _without_timestamp(text: str) -> str:
    return re.sub(r'"timestamp": "[^"]*"', '"timestamp": ""', text, count=1)


def test_the_file_examples_are_what_is_written(tmp_path: Path) -> None:
    """The examples are, to the byte, the files of a database that holds what they show."""
    exports = export_of(EXAMPLE, tmp_path, ALL_ON)
    (document,) = blocks("json", FORMATS)
    assert _without_timestamp((exports / "database_export.json").read_text()) == _without_timestamp(document.text)
    names = ("projects.csv", "datasets.csv", "images.csv", "annotations.csv", "images.jsonl")
    for block, name in zip([*blocks("csv", FORMATS), *blocks("jsonl", FORMATS)], names, strict=True):
        assert (exports / name).read_text() == block.text


def test_the_excerpt_is_from_the_example() -> None:
    """The README's lines of database_export.json are parts of the whole example, in order; `…` hides the rest."""
    (excerpt,) = [block for block in blocks("text", README) if "export_info" in block.text]
    (document,) = blocks("json", FORMATS)
    end = 0
    for line in excerpt.text.splitlines():
        for part in line.split("…"):
            begin = document.text.find(part.rstrip(), end)
            assert begin >= 0, f"{part!r} is not in the example, or not there"
            end = begin + len(part.rstrip())


def test_the_digest_is_what_the_documents_say(tmp_path: Path) -> None:
    """`crc32:` and the CRC-32 of the bytes in eight hexadecimal digits."""
    exports = export_of(EXAMPLE, tmp_path, ALL_ON)
    files = load(exports / "manifest.json")["files"]
    assert isinstance(files, dict)
    for name in (name for name in files if not name.endswith("/")):
        assert files[name]["digest"] == f"crc32:{zlib.crc32((exports / name).read_bytes()):08x}"


def test_the_mapping_example_maps(tmp_path: Path) -> None:
    """The `[tables]` example makes a database exportable that has such names."""
    (block,) = [block for block in blocks("toml", CONFIG) if "[tables.images.columns]" in block.text]
    exports = export_of(RENAMED, tmp_path, block.text)
    document = json.loads((exports / "database_export.json").read_bytes())
    (image,) = document["projects"][0]["datasets"][0]["images"]
    (annotation,) = image["annotations"]
    assert image["file_path"] == "bucket/a.jpg"
    assert annotation["label"] == "car"
    assert annotation["bbox"] == {"x_min": 10, "y_min": 20, "x_max": 40, "y_max": 60}
    assert annotation["model_id"] is None, "left out"


def test_the_configuration_example_is_accepted(tmp_path: Path) -> None:
    """The autoexport.toml example has only settings that there are, with values that they may have."""
    (block,) = [block for block in blocks("toml", CONFIG) if "database_url" in block.text]
    (tmp_path / "autoexport.toml").write_text(block.text)
    settings = Settings()
    assert settings.check_interval == 30
    assert settings.export_directory == Path("my_exports")
