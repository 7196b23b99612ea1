"""What the README says is so: its commands and programs run, its examples, tables and layout are the real ones."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import zlib
from pathlib import Path

import pytest

from autoexport.config.settings import Settings
from autoexport.formats import file_names
from tests.acceptance.readme import (
    EXAMPLE,
    RENAMED,
    TEXT,
    Block,
    PublishedFilesWatch,
    blocks,
    export_of,
    install_surroundings,
    load,
    section,
)
from tests.conftest import REPOSITORY, run_autoexport

INSTALL, TEST, *COMMANDS = sorted(blocks("bash"), key=lambda block: "venv" not in block.text)
PROGRAMS = blocks("python")
READERS = ("verify", "status", "manifest.json", ".csv", "database_export.json")
"""Who uses one of these has an export already."""

NOT_RUNNING = 1
"""What `status` exits with where no exporter runs."""


@pytest.fixture
def reader(tmp_path: Path) -> PublishedFilesWatch:
    """The surroundings of someone who follows the README."""
    return PublishedFilesWatch(tmp_path)


# --- commands ------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_the_install_block_works_in_a_fresh_clone(tmp_path: Path) -> None:
    """The first block: a new environment, the package installed into it, the demo exported by it."""
    assert INSTALL.text == (
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/python -m autoexport demo\n"
    )
    assert blocks("bash")[0] == INSTALL, "it comes first"
    clone, environment = install_surroundings(tmp_path)
    done = subprocess.run(
        ["bash", "-c", INSTALL.text], cwd=clone, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    document = load(clone / "autoexport_demo" / "database_exports" / "database_export.json")
    assert len(document["projects"]) == 4  # type: ignore[arg-type]
    script = subprocess.run(
        [clone / ".venv" / "bin" / "autoexport", "--version"], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=60, check=True,
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
def test_every_command_block_runs(block: Block, reader: PublishedFilesWatch) -> None:
    """Every other bash block does what it is there for, without an error; what monitors ends when asked to."""
    if any(word in block.text for word in READERS) and "export DB_" not in block.text:
        reader.export()
    command = ("bash", "-e", "-c", block.text)
    if "--monitor" in block.text:
        given = re.search(r"--export-dir (\S+)", block.text)
        done = reader.run_until_published(given[1] if given else "database_exports", *command)
        assert done.exit_code in (0, -15), done.stdout  # bash itself may be ended by the signal
        assert "exporter.stopped" in done.stdout
        return
    done = reader.run(*command)
    assert done.exit_code == (NOT_RUNNING if "autoexport status" in block.text else 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_configuration_file_is_followed(reader: PublishedFilesWatch) -> None:
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
        found = re.findall(r"```bash\n(.*?)```", section(f"### {heading}"), re.DOTALL)
        assert found == [f"python -m autoexport {command}\n"]


def test_the_help_text_is_the_real_one() -> None:
    """What the README shows of `--help` is what it prints."""
    done = run_autoexport("--help", env={"COLUMNS": "100"})
    assert done.exit_code == 0
    assert done.stdout.strip() in TEXT


# --- programs ------------------------------------------------------------------------------------


def _program(marker: str) -> str:
    (block,) = [block for block in PROGRAMS if marker in block.text]
    return block.text


def test_there_is_a_test_for_every_program() -> None:
    """Each python block is executed by one of the tests below."""
    assert len(PROGRAMS) == 4


def test_the_asyncio_program_exports_until_it_is_asked_to_stop(reader: PublishedFilesWatch) -> None:
    """It keeps an export in database_exports/, and ends on SIGTERM without an error."""
    (reader.directory / "program.py").write_text(_program("run_exporter("))
    done = reader.run_until_published("database_exports", "python", "program.py")
    assert done.exit_code == 0, done.stdout


def test_the_web_application_exports_while_it_runs(reader: PublishedFilesWatch) -> None:
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


def test_the_program_that_reads_a_set_finds_files_that_do_not_fit(reader: PublishedFilesWatch) -> None:
    """It reads files that belong together, and says so where one of them is of another publish."""
    program = _program("zlib").replace("patience_s: float = 30", "patience_s: float = 0.3")
    reader.export()
    done = reader.run("python", "-c", program)
    assert (done.exit_code, done.stdout) == (0, "4 projects\n"), done.stderr
    images = reader.directory / "database_exports" / "images.csv"
    images.write_bytes(images.read_bytes().replace(b"Night", b"Nacht", 1))
    done = reader.run("python", "-c", program)
    assert done.exit_code == 1
    assert "TimeoutError: the files in database_exports do not fit their manifest" in done.stderr


def test_the_program_with_pandas_counts_the_images(reader: PublishedFilesWatch) -> None:
    """It reads images.csv, null splits included."""
    reader.export()
    done = reader.run("python", "-c", _program("pandas"))
    assert done.exit_code == 0, done.stderr
    assert re.search(r"Street Scenes\s+test\s+\d", done.stdout)
    assert "NaN" in done.stdout


# --- examples ------------------------------------------------------------------------------------


def _without_timestamp(text: str) -> str:
    return re.sub(r'"timestamp": "[^"]*"', '"timestamp": ""', text, count=1)


def test_the_file_examples_are_what_is_written(tmp_path: Path) -> None:
    """The JSON and the CSV examples are, to the byte, the files of a database that holds what they show."""
    exports = export_of(EXAMPLE, tmp_path)
    (document,) = blocks("json")
    assert _without_timestamp((exports / "database_export.json").read_text()) == _without_timestamp(document.text)
    for block, name in zip(blocks("csv"), ("projects.csv", "datasets.csv", "images.csv"), strict=True):
        assert (exports / name).read_text() == block.text


def test_the_digest_is_what_the_readme_says_it_is(tmp_path: Path) -> None:
    """`crc32:` and the CRC-32 of the bytes in eight hexadecimal digits."""
    exports = export_of(EXAMPLE, tmp_path)
    files = load(exports / "manifest.json")["files"]
    assert isinstance(files, dict)
    for name in file_names():
        assert files[name]["digest"] == f"crc32:{zlib.crc32((exports / name).read_bytes()):08x}"


def test_the_mapping_example_maps(tmp_path: Path) -> None:
    """The `[tables]` example makes a database exportable that has such names."""
    (block,) = [block for block in blocks("toml") if "[tables" in block.text]
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
    (block,) = [block for block in blocks("toml") if "database_url" in block.text]
    (tmp_path / "autoexport.toml").write_text(block.text)
    settings = Settings()
    assert settings.check_interval == 30
    assert settings.export_directory == Path("my_exports")


# --- tables --------------------------------------------------------------------------------------


def test_the_settings_table_is_complete() -> None:
    """Every setting is in the table, with its environment variable and its default."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", section("## The settings"), re.MULTILINE)
    told = {
        name: (variable, default)
        for name, variable, default in rows
        if "`DB_EXPORT_" in variable or name == "tables"
    }
    assert list(told) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        variable, default = told[name]
        assert variable == (f"`DB_EXPORT_{name.upper()}`" if name != "tables" else "only in the file")
        if isinstance(field.default, bool):
            assert default == f"`{str(field.default).lower()}`"
        elif isinstance(field.default, int | float):
            assert default == f"`{field.default:g}`"
        elif field.default and name != "tables":
            assert default == f"`{field.default}`" or str(field.default) in default


def test_the_manifest_table_is_complete(tmp_path: Path) -> None:
    """Every key of manifest.json is explained, and no other."""
    manifest = load(export_of(EXAMPLE, tmp_path) / "manifest.json")
    cells = re.findall(r"^\| (`.*?`) \|", section("### manifest.json"), re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == manifest.keys()


def _told_by_the_module(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".").replace("`", "")


def test_the_layout_is_the_tree() -> None:
    """Every module is in the layout with the one sentence of its docstring, and nothing else is."""
    (layout,) = [block for block in blocks("text") if block.text.startswith("autoexport/\n")]
    told: dict[str, str] = {}
    directory = ""
    for line in layout.text.splitlines()[1:]:
        name, _, sentence = line.strip().partition(" ")
        if name.endswith("/"):
            directory = name
        else:
            told[directory + name if line.startswith("    ") else name] = sentence.strip()
    package = REPOSITORY / "autoexport"
    real = {str(path.relative_to(package)): _told_by_the_module(path) for path in package.rglob("*.py")}
    real["__init__.py"] = told["__init__.py"]  # what can be imported from it
    assert told == real


def test_the_units_are_those_that_the_readme_installs() -> None:
    """Every file of systemd/ is installed by the commands of the README, and they name no other."""
    told = section("### systemd")
    copied = set(re.findall(r"systemd/(autoexport\S*)", told))
    assert copied == {path.name for path in (REPOSITORY / "systemd").iterdir()}
    units = "".join(path.read_text() for path in (REPOSITORY / "systemd").glob("*.service"))
    for path in ("/opt/autoexport/bin/", "/etc/autoexport/autoexport.env", "User=autoexport\n"):
        assert path in units


def test_nothing_is_left_to_fill_in() -> None:
    """No table of the README waits for its figures."""
    assert "FILL" not in TEXT
