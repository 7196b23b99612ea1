"""Shell completion, as the documentation sets it up: click's, in a real shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, program_environment
from tests.deadlines import deadline_s


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A folder with the installed command, a database and a folder beside it."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash on this machine")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "autoexport"
    command.write_text(f"#!{sys.executable}\nfrom autoexport.__main__ import run\nrun()\n")
    command.chmod(0o755)
    (tmp_path / "app.db").touch()
    return tmp_path


def completed(shell: Path, *words: str) -> list[str]:
    """The completions of bash for the last of these words, with the setup of systemd/README.md."""
    script = (
        'eval "$(_AUTOEXPORT_COMPLETE=bash_source autoexport)"\n'
        'COMP_WORDS=(autoexport "$@")\nCOMP_CWORD=$#\n'
        "compopt() { echo files; }\n"  # bash has it only while it completes
        '_autoexport_completion autoexport\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = program_environment({"PYTHONPATH": str(REPOSITORY)})
    environment["PATH"] = f"{shell / 'bin'}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], cwd=shell, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=deadline_s(60), check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["files", "status"]),
        (("--mon",), ["--monitor"]),
        (("status", "--max"), ["--max-age"]),
        (("app.db", "--monitor", "--int"), ["--interval"]),
        (("check", ""), ["files"]),
        (("nothing-like-that",), ["files"]),
    ],
)
def test_words_are_completed(shell: Path, words: tuple[str, ...], expected: list[str]) -> None:
    """Commands, options and, where a database may stand, the names of files."""
    assert completed(shell, *words) == expected


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: Path, name: str) -> None:
    """The command prints the script, whatever settings are wrong in this folder."""
    (shell / "autoexport.toml").write_text("nonsense = 1\n")
    environment = program_environment({"PYTHONPATH": str(REPOSITORY), "_AUTOEXPORT_COMPLETE": f"{name}_source"})
    done = subprocess.run(
        [shell / "bin" / "autoexport"], cwd=shell, env=environment, capture_output=True, text=True,
        timeout=deadline_s(60), check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "_AUTOEXPORT_COMPLETE" in done.stdout
