"""The registry of dialects: one line here and one file beside this one for each; loaded when it is needed."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from autoexport.values.expand.contract import Dialect

DIALECTS = {
    "label_studio": "autoexport.values.expand.label_studio:DIALECT",
    "geti": "autoexport.values.expand.geti:DIALECT",
    "labelu": "autoexport.values.expand.labelu:DIALECT",
}
"""The `Dialect` of each name that `expand` may have, as `module:name`."""

EXPANDABLE = ("projects", "images", "annotations")
"""The logical tables that may have a document."""


@lru_cache
def dialect(name: str) -> Dialect:
    """The dialect of this name. Raises KeyError if there is none."""
    module, _, attribute = DIALECTS[name].partition(":")
    found: Dialect = getattr(import_module(module), attribute)
    return found
