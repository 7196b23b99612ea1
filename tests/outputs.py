"""Chooses the outputs of an export in tests: all of them, or the default ones."""

from __future__ import annotations

from pathlib import Path

from autoexport.formats import file_names, outputs
from autoexport.publishing.manifest import BESIDE_NAMES

ALL_OUTPUTS: dict[str, bool] = {output.switch.name: True for output in outputs()}
"""The settings that turn every output on."""

ALL_OUTPUT_VARIABLES = {f"DB_EXPORT_{name.upper()}": "true" for name in ALL_OUTPUTS}
"""The environment variables that turn every output on."""

DEFAULT_FILES = tuple(name for output in outputs() if output.switch.default for name in output.file_names)
"""The files that are written without any setting, in the order of publication."""

PUBLIC_NAMES = (*file_names(), *BESIDE_NAMES, "manifest.json")
"""The names that an exporter may leave in the export directory, without its state directory."""

SINGLE_FILES = tuple(name for name in file_names() if "." in name)
"""The files that stand alone in the export directory, whatever the data."""


def published_names(directory: Path) -> list[str]:
    """The paths of all files of outputs that are there, those in folders too."""
    found = []
    for name in file_names():
        path = directory / name
        below = path.rglob("*") if path.is_dir() else [path]
        found += [str(file.relative_to(directory)) for file in below if file.is_file()]
    return sorted(found)
