"""Chooses the outputs of an export in tests: all of them, or the default ones."""

from __future__ import annotations

from pathlib import Path

from autoexport.formats import file_names, outputs
from autoexport.publishing.manifest import BESIDE_NAMES

ALL_OUTPUTS: dict[str, bool] = {output.switch.name: True for output in outputs()}
"""The settings that turn every output on."""

DEFAULT_OUTPUTS: dict[str, bool] = {output.switch.name: bool(output.switch.default) for output in outputs()}
"""The settings that turn on the outputs that are on without any setting, and no other."""

ALL_OUTPUT_VARIABLES = {f"DB_EXPORT_{name.upper()}": "true" for name in ALL_OUTPUTS}
"""The environment variables that turn every output on."""

DEFAULT_FILES = tuple(name for output in outputs() if output.switch.default for name in output.file_names)
"""The files that are written without any setting, in the order of publication."""

PUBLIC_NAMES = (*file_names(), *BESIDE_NAMES, "manifest.json")
"""The names that an exporter may leave in the export directory, without its state directory."""

SINGLE_FILES = tuple(name for name in file_names() if "." in name)
"""The files that stand alone in the export directory, whatever the data."""


def published_names(directory: Path) -> list[str]:
    """The paths of all files of outputs that are there, those in folders too.

    Label files that no list names do not count: they stay for a while.
    """
    found = []
    for name in file_names():
        path = directory / name
        below = path.rglob("*") if path.is_dir() else [path]
        found += [file.relative_to(directory).as_posix() for file in below if file.is_file()]
    listed = listed_label_files(directory)
    return sorted(name for name in found if name in listed or recorded_as(name) == name)


def listed_label_files(directory: Path) -> set[str]:
    """The paths of the label files that the lists name, as ultralytics finds them."""
    found = set()
    for path in directory.glob("yolo/*/*.txt"):
        if path.name != "classes.txt":
            for line in path.read_text().splitlines():
                image = f"{path.parent.relative_to(directory).as_posix()}/{line.removeprefix('./')}"
                label = "/labels/".join(image.rsplit("/images/", 1))
                found.add(label.rsplit(".", 1)[0] + ".txt")
    return found


def recorded_as(name: str) -> str:
    """The name under which the manifest has a published file: label files are recorded as their folder."""
    if name.startswith("yolo/") and "/labels/" in name:
        return "/".join([*name.split("/")[:2], "labels", ""])
    return name
