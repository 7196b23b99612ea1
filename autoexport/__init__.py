"""Keeps readable JSON and CSV copies of an image-annotation database current."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoexport.errors import AutoexportError
    from autoexport.settings import Settings
    from autoexport.supervisor import exporting, run_exporter
    from autoexport.wake import watch_engine

__version__ = "0.1.0"

__all__ = ["AutoexportError", "Settings", "__version__", "exporting", "run_exporter", "watch_engine"]

_PLACES = {
    "AutoexportError": "autoexport.errors",
    "Settings": "autoexport.settings",
    "exporting": "autoexport.supervisor",
    "run_exporter": "autoexport.supervisor",
    "watch_engine": "autoexport.wake",
}


def __getattr__(name: str) -> object:
    # Imported on use: the command line answers `--help` without loading a database driver.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value
