"""The `[tables]` part of the configuration file: what the operator says about the tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast

from autoexport.errors import ConfigurationError, MappingError
from autoexport.mapping.synonyms import BOX_FORMATS, SETTINGS, plain
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import BoxFormat

TablesConfig = ReadOnly[str, object]
"""As it stands in the file: `{"images": {"table": "asset", "columns": {"file_path": "storage_key"}}}`."""


@dataclass(frozen=True, slots=True)
class TableOverride:
    """What is said about one logical table; `left_out` tables and fields are `false` in the file."""

    table: str | None = None
    schema: str | None = None
    left_out: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    left_out_columns: frozenset[str] = frozenset()
    box_format: BoxFormat | None = None


def read_overrides(config: TablesConfig | None) -> dict[str, TableOverride]:
    """The overrides by logical table, each there, empty where nothing is said.

    Raises `ConfigurationError` for a name or a value that is not known.
    """
    config = config or {}
    for name in config:
        _known(f"tables.{name}", str(name), SETTINGS)
    return {logical: _read_table(logical, config.get(logical, {})) for logical in SETTINGS}


def _read_table(logical: str, configured: object) -> TableOverride:
    setting = f"tables.{logical}"
    if not isinstance(configured, ReadOnly):
        raise ConfigurationError(
            f"{setting} must be a table, not {configured!r}.",
            hint=f"For example: {toml_lines(logical, table='my_table')}",
        )
    allowed = ("table", "schema", "columns", *(("box_format",) if logical == "annotations" else ()))
    for name in configured:
        _known(f"{setting}.{name}", str(name), allowed)
    table = configured.get("table")
    if table is False and logical == "images":
        raise ConfigurationError(
            "tables.images.table cannot be false: without images there is nothing to export.",
            hint="Give the name of the images table.",
        )
    box_format = configured.get("box_format")
    if box_format is not None and box_format not in BOX_FORMATS:
        raise ConfigurationError(
            f"{setting}.box_format is {box_format!r}.", hint=f"Allowed: {_listed(BOX_FORMATS)}."
        )
    columns = _read_columns(logical, configured.get("columns", {}))
    return TableOverride(
        table=None if table is False else _text(f"{setting}.table", table),
        schema=_text(f"{setting}.schema", configured.get("schema")),
        left_out=table is False,
        columns={name: value for name, value in columns.items() if value is not None},
        left_out_columns=frozenset(name for name, value in columns.items() if value is None),
        box_format=cast("BoxFormat | None", box_format),
    )


def _read_columns(logical: str, configured: object) -> dict[str, str | None]:
    setting = f"tables.{logical}.columns"
    if not isinstance(configured, ReadOnly):
        raise ConfigurationError(
            f"{setting} must be a table of fields and column names, not {configured!r}.",
            hint=f"Allowed fields: {_listed(SETTINGS[logical])}.",
        )
    columns: dict[str, str | None] = {}
    for name, value in configured.items():
        _known(f"{setting}.{name}", str(name), SETTINGS[logical])
        columns[str(name)] = None if value is False else _text(f"{setting}.{name}", value)
    if columns.get("id", "") is None:
        raise ConfigurationError(f"{setting}.id cannot be false.", hint="Name the key column of the table.")
    return columns


def _text(setting: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(
        f"{setting} is {value!r}.", hint="Allowed: a name in quotes, or false to leave it out of the export."
    )


def _known(setting: str, name: str, allowed: Iterable[str]) -> None:
    if name not in allowed:
        raise ConfigurationError(f"{setting} is not a setting.", hint=_nearest(name, list(allowed), "Allowed"))


# --- names in the database -----------------------------------------------------------------------


def named_tables(catalog: Catalog, logical: str, configured: TableOverride) -> list[Table]:
    """The tables that an override names: more than one where the schema is not said.

    Raises `MappingError` where there is none.
    """
    setting = f"tables.{logical}"
    tables = [table for table in catalog.tables if configured.schema in (None, table.schema)]
    if not tables:
        schemas = sorted({table.schema for table in catalog.tables if table.schema})
        raise MappingError(
            f"{setting}.schema: there is no schema {configured.schema!r}.",
            hint=_nearest(configured.schema or "", schemas, "The schemas are"),
        )
    if configured.table is None:
        return tables
    found = [table for table in tables if configured.table in (table.name, table.full_name)]
    found = found or [table for table in tables if table.name.lower() == configured.table.lower()]
    if not found:
        raise MappingError(
            f"{setting}.table: there is no table {configured.table!r}.",
            hint=_nearest(configured.table, [table.name for table in tables], "The tables are"),
        )
    return found


def named_column(logical: str, setting: str, table: Table, name: str) -> Column:
    """The column that an override names. Raises `MappingError` where there is none."""
    found = table.column(name) or next(
        (column for column in table.columns if column.name.lower() == name.lower()), None
    )
    if found is None:
        raise MappingError(
            f"tables.{logical}.columns.{setting}: the table {table.full_name} has no column {name!r}.",
            hint=_nearest(name, [column.name for column in table.columns], "Its columns are"),
        )
    return found


def _nearest(name: str, known: Sequence[str], introduction: str) -> str:
    by_plain = {plain(candidate): candidate for candidate in known}
    near = get_close_matches(plain(name), list(by_plain), n=1)
    meant = f"Did you mean {by_plain[near[0]]!r}? " if near else ""
    return f"{meant}{introduction}: {_listed(known)}." if known else "There are none that can be read."


def _listed(names: Iterable[str], most: int = 40) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


# --- what to write into the file -----------------------------------------------------------------


def toml_lines(logical: str, **settings: str | bool) -> str:
    """Lines of configuration: `[tables.images]`, `table = "assets"`; a field in place of `table` or
    `schema` goes under `[tables.images.columns]`."""
    own = {name: value for name, value in settings.items() if name in ("table", "schema", "box_format")}
    columns = {name: value for name, value in settings.items() if name not in own}
    lines = [f"[tables.{logical}]", *_assignments(own)] if own else []
    lines += [f"[tables.{logical}.columns]", *_assignments(columns)] if columns else []
    return "\n".join(lines)


def _assignments(settings: dict[str, str | bool]) -> list[str]:
    # A JSON string is a TOML basic string.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]


def settle(lines: str, *others: str) -> str:
    """The hint that shows which lines of autoexport.toml decide; the others are comments."""
    heads = set(lines.splitlines())
    alternatives = [
        f"# or: {', '.join(line for line in other.splitlines() if line not in heads or '=' in line)}"
        for other in others
    ]
    return "\n".join(["Decide in autoexport.toml:", lines, *alternatives])


def settle_table(logical: str, tables: Sequence[Table], *others: str) -> str:
    """The hint that shows how to choose one of several tables."""
    with_schema = len({table.name for table in tables}) < len(tables)
    choices = [
        toml_lines(logical, table=table.name, **({"schema": table.schema} if with_schema and table.schema else {}))
        for table in tables
    ]
    return settle(*choices, *others)
