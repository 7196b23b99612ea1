"""Keeps readable JSON and CSV copies of an image-annotation database current."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from autoexport.version import __version__

if TYPE_CHECKING:
    from autoexport.config.settings import Settings
    from autoexport.daemon.embedding import export_once, exporting, run_exporter
    from autoexport.daemon.events import Event, Publication
    from autoexport.daemon.supervisor import Exporter
    from autoexport.errors import AutoexportError, ConfigurationError
    from autoexport.publishing.manifest import Manifest
    from autoexport.runtime.wake import watch_engine

__all__ = [
    "AutoexportError",
    "ConfigurationError",
    "Event",
    "Exporter",
    "Manifest",
    "Publication",
    "Settings",
    "__version__",
    "export_once",
    "exporting",
    "run_exporter",
    "watch_engine",
]

_MODULES = {
    "AutoexportError": "autoexport.errors",
    "ConfigurationError": "autoexport.errors",
    "Event": "autoexport.daemon.events",
    "Exporter": "autoexport.daemon.supervisor",
    "Manifest": "autoexport.publishing.manifest",
    "Publication": "autoexport.daemon.events",
    "Settings": "autoexport.config.settings",
    "export_once": "autoexport.daemon.embedding",
    "exporting": "autoexport.daemon.embedding",
    "run_exporter": "autoexport.daemon.embedding",
    "watch_engine": "autoexport.runtime.wake",
}


def __getattr__(name: str) -> object:
    # Imported on use: the command line answers `--help` without loading a database driver.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
