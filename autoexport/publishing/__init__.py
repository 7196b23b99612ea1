"""The registry of targets. A new kind of target is one line here and one file beside this one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoexport.config.object_url import ObjectURL
    from autoexport.publishing.contract import Target

TARGETS = {
    "directory": "autoexport.publishing.directory:DirectoryTarget",
    "object_store": "autoexport.publishing.object_store.target:ObjectStoreTarget",
}
"""The class of each kind of target, as `module:name`."""


def open_target(
    location: Path, state: Path, object_store: ObjectURL | None = None, grace_s: float = 3600.0
) -> Target:
    """The target at a location, with the private directory `state`. It creates nothing before it is held.

    With an `object_store`, the location is the working directory. There, objects that no kept manifest names are
    removed after `grace_s` seconds. Raises `ConfigurationError` if a package is missing.
    """
    target: Target = _class("directory")(location.absolute(), state.absolute())
    if object_store is not None:
        target = _class("object_store")(target, state.absolute(), object_store, grace_s)
    return target


def _class(kind: str) -> Any:
    module, _, name = TARGETS[kind].partition(":")
    return getattr(import_module(module), name)
