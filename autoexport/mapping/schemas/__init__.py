"""Presets: one TOML file beside this one for each known application, found by the tables of the database."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

from autoexport.mapping.overrides import MAPPING_OPTIONS, TablesConfig
from autoexport.mapping.schemas.contract import DATABASES, ApplicationSchema
from autoexport.mapping.synonyms import SETTINGS
from autoexport.model.catalog import Catalog

_NEEDED = ("id", "document")
"""Fields without which a table cannot be mapped: their absence is an error."""


@lru_cache(maxsize=1)
def schemas() -> tuple[ApplicationSchema, ...]:
    """Every shipped preset, by name; the first one that fits is taken."""
    found = (item for item in files(__name__).iterdir() if item.name.endswith(".toml"))
    return tuple(
        read_preset(item.name.removesuffix(".toml"), item.read_text(encoding="utf-8"))
        for item in sorted(found, key=lambda item: item.name)
    )


def read_preset(preset: str, text: str) -> ApplicationSchema:
    """The preset of this name, from the text of its file."""
    declared = tomllib.loads(text)
    return ApplicationSchema(
        name=declared["name"],
        signature={table: frozenset(columns) for table, columns in declared["when"].items()},
        tables=declared.get("tables", {}),
        preset=preset,
        databases=tuple(declared.get("databases", DATABASES)),
        predictions=declared.get("predictions", {}),
        counted=tuple((each["query"], each["note"]) for each in declared.get("counted", ())),
    )


def recognise(catalog: Catalog, configured: TablesConfig | None = None) -> ApplicationSchema | None:
    """The application whose database this is; None if no signature fits, or with `preset = false`."""
    if configured is not None and configured.get("preset") is False:
        return None
    return next((schema for schema in schemas() if schema.fits(catalog)), None)


def with_schema(
    schema: ApplicationSchema | None, configured: TablesConfig | None, catalog: Catalog | None = None
) -> TablesConfig | None:
    """The settings of a preset, overruled by the configured ones.

    A configured `table` or `query` replaces the preset's settings of that logical table, any other setting only
    itself. Of a table of the preset, no column is searched by its name. `catalog` tells the schema of the tables.
    """
    if schema is None or not schema.tables:
        return configured
    above = dict(configured or {})
    below = {**schema.tables, **(schema.predictions if above.get("predictions") is True else {})}
    place = _place(schema, above, catalog)
    merged: dict[str, object] = {name: above[name] for name in MAPPING_OPTIONS if name in above}
    for logical in SETTINGS:
        lower, upper = below.get(logical, {}), above.get(logical, {})
        if not isinstance(lower, dict) or not isinstance(upper, dict) or _replaces(upper, lower):
            merged[logical] = upper
        else:
            merged[logical] = _overruled(_complete(logical, {**lower, **place}, catalog), upper)
    return merged


def _place(schema: ApplicationSchema, configured: TablesConfig, catalog: Catalog | None) -> dict[str, object]:
    """The setting that names the schema of the application, if tables of another one could be meant."""
    told = any(isinstance(table, dict) and "schema" in table for table in configured.values())
    found = schema.found_in(catalog) if catalog is not None and not told else []
    if len(found) != 1 or found[0] is None or catalog is None:
        return {}
    several = {table.name for table in catalog.tables if table.schema != found[0]}
    return {"schema": found[0]} if several & set(schema.signature) else {}


def _replaces(upper: dict[str, object], lower: dict[str, object]) -> bool:
    return "query" in upper or ("table" in upper and upper["table"] != lower.get("table"))


def _complete(logical: str, settings: dict[str, object], catalog: Catalog | None) -> dict[str, object]:
    """The settings of a preset's table, with `false` for every column that they do not name.

    The same for one that the table lacks: older versions of an application have fewer columns.
    """
    if not isinstance(settings.get("table"), str):
        return {name: value for name, value in settings.items() if name != "schema"}
    columns = settings.get("columns", {})
    tables = [table for table in catalog.tables if table.name == settings["table"]] if catalog else []
    there = {column.name for table in tables for column in table.columns}
    named: dict[str, object] = {
        field: column
        for field, column in (columns.items() if isinstance(columns, dict) else ())
        if not tables or column in there or field in _NEEDED
    }
    return {**settings, "columns": {**dict.fromkeys(SETTINGS[logical], False), **named}}


def _overruled(below: dict[str, object], above: dict[str, object]) -> dict[str, object]:
    merged = {**below, **above}
    for name in below.keys() & above.keys():
        lower, upper = below[name], above[name]
        if isinstance(lower, dict) and isinstance(upper, dict):
            merged[name] = _overruled(lower, upper)
    return merged


def presets() -> Iterator[tuple[str, str]]:
    """The name of each preset, and of its application."""
    return ((schema.preset, schema.name) for schema in schemas())
