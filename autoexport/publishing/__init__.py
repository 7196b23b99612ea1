"""The registry of targets. A new kind of target is one line here and one file beside this one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoexport.publishing.contract import Target

TARGETS = {
    "directory": "autoexport.publishing.directory:DirectoryTarget",
}
"""The class of each kind of target, as `module:name`."""


def open_target(location: Path, state: Path) -> Target:
    """The target at a location, with the private directory `state`. It creates nothing before it is held."""
    module, _, name = TARGETS["directory"].partition(":")
    target: Target = getattr(import_module(module), name)(location.absolute(), state.absolute())
    return target
