"""The registry of known applications: one line here and one file beside this one for each."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from autoexport.mapping.overrides import TablesConfig
from autoexport.mapping.queries import QUERY_SETTINGS
from autoexport.mapping.schemas.contract import ApplicationSchema
from autoexport.model.catalog import Catalog

SCHEMAS = {
    "auto_labeling_tool": "autoexport.mapping.schemas.auto_labeling_tool:SCHEMA",
}
"""Where each application is declared; the first one that fits is taken."""


def schemas() -> Iterator[ApplicationSchema]:
    """Every registered application."""
    for declared in SCHEMAS.values():
        module, _, name = declared.partition(":")
        yield getattr(import_module(module), name)


def recognise(catalog: Catalog) -> ApplicationSchema | None:
    """The application whose database this is, or None if no signature fits."""
    return next((schema for schema in schemas() if schema.fits(catalog)), None)


def with_schema(schema: ApplicationSchema | None, configured: TablesConfig | None) -> TablesConfig | None:
    """The settings of a schema, overruled key by key by the configured ones."""
    if schema is None or not schema.tables:
        return configured
    return _overruled(schema.tables, configured or {})


def _overruled(below: TablesConfig, above: TablesConfig) -> dict[str, object]:
    # A query and a table are in place of each other: the configured one wins.
    replaced = {"table": QUERY_SETTINGS, "schema": QUERY_SETTINGS, "query": ("table", "schema", "where", "expand")}
    dropped = {name for given in above for name in replaced.get(given, ())}
    merged = {**{name: value for name, value in below.items() if name not in dropped}, **above}
    for name in below.keys() & above.keys():
        lower, upper = below[name], above[name]
        if isinstance(lower, dict) and isinstance(upper, dict) and name not in QUERY_SETTINGS:
            merged[name] = _overruled(lower, upper)
    return merged
