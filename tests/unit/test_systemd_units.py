"""The units: systemd finds nothing wrong with them, they are hardened, and they say what the program means."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autoexport.config.settings import Settings
from tests.deadlines import deadline_s

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
INSTALLED = "/opt/autoexport/bin/autoexport"
SERVICES = ("autoexport.service", "autoexport@.service", "autoexport-export.service")
EXPOSURE_LIMIT = 2.5


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """The sections of a unit; a key may stand several times."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if matched := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(matched[1], {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the program is installed: systemd checks that it is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze on this machine")
    folder = tmp_path / "units"
    folder.mkdir()
    for source in FOLDER.glob("autoexport*.*er*"):
        text = source.read_text()
        (folder / source.name.replace("@.", "@example.")).write_text(text.replace(INSTALLED, sys.executable))
    return folder


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=deadline_s(60), check=False
    )


def test_systemd_finds_nothing(installed: Path) -> None:
    """`systemd-analyze verify` is silent."""
    units = sorted(str(path) for path in installed.iterdir())
    assert len(units) == 4
    done = analyze("verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_hardened(installed: Path, name: str) -> None:
    """`systemd-analyze security` rates the exposure at 2.5 or better."""
    path = installed / name.replace("@.", "@example.")
    done = analyze("security", "--offline=true", "--no-pager", str(path))
    matched = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert matched, done.stderr
    assert float(matched[1]) <= EXPOSURE_LIMIT


@pytest.mark.parametrize("name", ["autoexport.service", "autoexport@.service"])
def test_the_daemon_s_units_fit_the_daemon(name: str) -> None:
    """Notifications and watchdog are used, a configuration error is not retried, a stop has time to finish."""
    service = unit(name)["Service"]
    assert service["Type"] == ["notify"]
    assert service["ExecStart"] == [f"{INSTALLED} --monitor"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]
    assert int(service["TimeoutStopSec"][0].removesuffix("s")) > 10
    assert "WatchdogSec" in service
    assert service["User"] == ["autoexport"]
    assert "StateDirectory" in service


def test_the_timer_starts_one_export() -> None:
    """Without monitoring, for production."""
    assert unit("autoexport-export.service")["Service"]["Type"] == ["oneshot"]
    assert "--monitor" not in unit("autoexport-export.service")["Service"]["ExecStart"][0]
    assert "OnCalendar" in unit("autoexport-export.timer")["Timer"]


def test_every_setting_of_the_example_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are commented out, too; none is unknown or has a bad value."""
    text = (FOLDER / "autoexport.env.example").read_text()
    found = re.findall(r"^#?(DB_EXPORT_\w+)=(.+)$", text, re.MULTILINE)
    assert len(found) >= 4
    for name, value in found:
        monkeypatch.setenv(name, value)
    assert Settings().warnings == ()
