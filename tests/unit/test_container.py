"""The recipe of the container image: what gets into it, and what its commands do."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from autoexport.commands.demo import make_database
from tests.conftest import REPOSITORY, Finished, program_environment, run_autoexport
from tests.daemon import generation, wait_until
from tests.deadlines import deadline_s
from tests.processes import started

FOLDER = REPOSITORY / "systemd"


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each line of the Dockerfile."""
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def instruction(name: str) -> str:
    """The arguments of the only line of this name."""
    (found,) = [rest for each, rest in instructions() if each == name]
    return found


def ignored(path: str) -> bool:
    """Whether the build leaves a path out by the rules of .dockerignore: the last matching pattern decides."""
    left_out = False
    for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = path.split("/")
        places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatch(part, pattern.removeprefix("**/")) for part in parts)
        else:
            matches = any("/" not in place and fnmatch.fnmatch(place, pattern) for place in places)
        if matches:
            left_out = not line.startswith("!")
    return left_out


def environment(folder: Path) -> dict[str, str]:
    """The variables of the image, with /data and /exports in this folder."""
    pairs = [pair.partition("=") for pair in shlex.split(instruction("ENV"))]
    return {
        name: re.sub(r"^/(data|exports)", lambda found: str(folder / found[1]), value) for name, _, value in pairs
    }


def run(*arguments: str, folder: Path, timeout_s: float = 60) -> Finished:
    """`docker run autoexport ARGUMENTS`, without the container."""
    return run_autoexport(*arguments, cwd=folder / "exports", env=environment(folder), timeout_s=timeout_s)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with /data/app.db and /exports."""
    make_database(tmp_path / "data" / "app.db")
    (tmp_path / "exports").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "path",
    [".venv/bin/python", "app.db", "real.sqlite3", "autoexport/app.db", "database_exports/images.csv",
     ".git/config", ".env", "tests/conftest.py", "autoexport/__pycache__/cli.cpython-312.pyc",
     "autoexport_demo/database.db"],
)  # fmt: skip
def test_what_stays_out_of_the_build(path: str) -> None:
    """Environments, databases, exports, settings, tests."""
    assert ignored(path)


def test_all_that_is_copied_gets_in() -> None:
    """The sources of each COPY are there and not ignored, and so is everything that the package consists of."""
    copied = [name for each, rest in instructions() if each == "COPY" for name in rest.split()[:-1]]
    assert {"pyproject.toml", "autoexport"} <= set(copied)
    assert not [name for name in copied if ignored(name) or not (REPOSITORY / name).exists()]
    files = subprocess.run(
        ["git", "ls-files", "autoexport"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.split()
    assert not [name for name in files if ignored(name)]


@pytest.mark.parametrize("arguments", [(), ("--full",), ("check",), ("--log-level", "warning")])
def test_arguments_keep_the_database_and_the_directory(arguments: tuple[str, ...], folder: Path) -> None:
    """They are settings of the image, so an argument replaces only the command."""
    done = run(*arguments, folder=folder)
    assert done.exit_code == 0, done.stderr
    assert generation(folder / "exports") == (0 if arguments == ("check",) else 1)


def test_the_health_check_and_the_default_command(folder: Path) -> None:
    """The container monitors with JSON logs, and is healthy while it does."""
    assert json.loads(instruction("ENTRYPOINT")) == ["autoexport"]
    command = json.loads(instruction("CMD"))
    program, *health = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert program == "autoexport"
    assert run(*health, folder=folder).exit_code == 1
    with started(
        [sys.executable, "-m", "autoexport", *command], cwd=folder / "exports",
        env=program_environment(environment(folder)), stderr=subprocess.PIPE,
    ) as daemon:  # fmt: skip
        wait_until(lambda: generation(folder / "exports") == 1, "it has published")
        wait_until(lambda: run(*health, folder=folder).exit_code == 0, "it is healthy", every_s=0.5)
        daemon.terminate()
        _, err = daemon.communicate(timeout=deadline_s(20))
    assert {json.loads(line)["database"] for line in err.decode().splitlines()} == {"app.db"}


def test_compose_uses_the_recipe() -> None:
    """The Dockerfile, the same paths, a mounted folder in place of a file, and no setting that does not exist."""
    text = (FOLDER / "compose.yaml").read_text()
    assert "dockerfile: systemd/Dockerfile" in text
    assert "context: .." in text
    targets = re.findall(r"\}:(/\w+)(?::ro)?$", text, re.MULTILINE)
    assert targets == ["/data", "/exports"]
    assert "/data:ro" in text
    assert "init: true" in text
