"""The library as a type checker of another project sees it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, program_environment
from tests.deadlines import deadline_s

GOOD = """
from pathlib import Path

from autoexport import Manifest, Settings, export_once


async def export() -> Manifest:
    Settings(export_directory=Path("out"), check_interval=5)
    return await export_once(Settings(database_url="app.db", export_directory="out"))
"""

BAD = """
from autoexport import Settings, export_once


async def export() -> int:
    return await export_once(Settings(export_directory="out"))
"""


@pytest.mark.parametrize("plugin", ["", "plugins = pydantic.mypy"], ids=["plain", "pydantic.mypy"])
def test_settings_take_a_plain_string(plugin: str, tmp_path: Path) -> None:
    """A path may be text; a wrong use of the result is found all the same."""
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\n{plugin}\n")
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    command = [
        sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(tmp_path / "cache"),
        "--follow-imports=silent", "good.py", "bad.py",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**program_environment(), "MYPYPATH": str(REPOSITORY)}, capture_output=True,
        text=True, timeout=deadline_s(120), check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert errors[0].startswith("bad.py:6: error: Incompatible return value type")
