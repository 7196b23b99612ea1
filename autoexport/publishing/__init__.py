"""The registry of targets: one line here and one file beside this one for each kind of place."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoexport.publishing.contract import Target

TARGETS = {
    "directory": "autoexport.publishing.directory:DirectoryTarget",
}
"""Where each kind of target is declared."""


def open_target(location: Path, state: Path) -> Target:
    """The target at a location, with its private directory `state`; nothing is created before it is held."""
    module, _, name = TARGETS["directory"].partition(":")
    target: Target = getattr(import_module(module), name)(location.absolute(), state.absolute())
    return target
