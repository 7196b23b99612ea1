"""Reads the `[tables]` section of the configuration file and words proposals for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import cast

from autoexport.errors import ConfigurationError, MappingError
from autoexport.mapping.queries import QUERY_SETTINGS, QueryOverride, read_query
from autoexport.mapping.synonyms import BOX_FORMATS, SETTINGS, is_private, plain
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import BoxFormat
from autoexport.values.expand import DIALECTS, EXPANDABLE

_KEEP_QUERY = 'Give a list of names of query parameters: keep_query = ["id"].'

TablesConfig = ReadOnly[str, object]
"""The section as parsed: `{"images": {"table": "asset", "columns": {"file_path": "storage_key"}}}`.

`MAPPING_OPTIONS` may stand beside the logical tables.
"""

MAPPING_OPTIONS = ("preset", "predictions")
"""Two settings about all tables: whether a preset counts, and whether predictions are exported."""


@dataclass(frozen=True, slots=True)
class TableOverride:
    """The configuration of one logical table. Tables and fields that are `false` in the file are left out."""

    table: str | None = None
    schema: str | None = None
    left_out: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    left_out_columns: frozenset[str] = frozenset()
    box_format: BoxFormat | None = None
    keep_query: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    where: str = ""
    expand: str = ""
    query: QueryOverride | None = None

    def ignores(self, table: Table) -> bool:
        """Whether the configuration says that this table, although it looks like one of these, is not exported."""
        names = {name.lower() for name in self.ignore}
        return table.name.lower() in names or table.full_name.lower() in names


def read_overrides(config: TablesConfig | None) -> dict[str, TableOverride]:
    """Read the overrides of all logical tables; that of a table without configuration is empty.

    Raises `ConfigurationError` for an unknown name or an invalid value.
    """
    config = config or {}
    for name in config:
        if name not in MAPPING_OPTIONS:
            _require_known(f"tables.{name}", str(name), SETTINGS)
    return {logical: _read_table(logical, config.get(logical, {})) for logical in SETTINGS}


def _read_table(logical: str, configured: object) -> TableOverride:
    setting = f"tables.{logical}"
    if not isinstance(configured, ReadOnly):
        raise ConfigurationError(
            f"{setting} must be a table, not {configured!r}.",
            hint=f"For example: {toml_lines(logical, table='my_table')}",
        )
    own = ("box_format", "ignore") if logical == "annotations" else ()
    expandable = ("expand",) if logical in EXPANDABLE else ()
    allowed = ("table", "schema", "columns", "keep_query", "where", *QUERY_SETTINGS, *expandable, *own)
    for name in configured:
        _require_known(f"{setting}.{name}", str(name), allowed)
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
        keep_query=_read_keep_query(logical, configured.get("keep_query", {})),
        ignore=_read_names(f"{setting}.ignore", configured.get("ignore", [])),
        where=_read_condition(f"{setting}.where", configured.get("where", "")),
        expand=_read_expand(f"{setting}.expand", configured.get("expand", "")),
        query=read_query(logical, configured),
    )


def _read_condition(setting: str, configured: object) -> str:
    if isinstance(configured, str) and (configured.strip() or not configured):
        return configured.strip()
    raise ConfigurationError(
        f"{setting} is {configured!r}.", hint='Give a condition in SQL, such as where = "NOT is_hidden".'
    )


def _read_expand(setting: str, configured: object) -> str:
    if configured is False or configured in DIALECTS or configured == "":
        return configured if isinstance(configured, str) else ""
    raise ConfigurationError(f"{setting} is {configured!r}.", hint=f"Allowed: {_listed(DIALECTS)}.")


def _read_names(setting: str, configured: object) -> tuple[str, ...]:
    if isinstance(configured, list) and all(isinstance(name, str) and name for name in configured):
        return tuple(configured)
    raise ConfigurationError(
        f"{setting} is {configured!r}.", hint='Allowed: a list of table names, such as ["predictions"].'
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
        _require_known(f"{setting}.{name}", str(name), SETTINGS[logical])
        columns[str(name)] = None if value is False else _text(f"{setting}.{name}", value)
    if columns.get("id", "") is None:
        raise ConfigurationError(f"{setting}.id cannot be false.", hint="Name the key column of the table.")
    return columns


def _read_keep_query(logical: str, configured: object) -> dict[str, tuple[str, ...]]:
    """The query parameters that URLs keep, by field; a list alone is that of all fields of the table."""
    setting = f"tables.{logical}.keep_query"
    if isinstance(configured, list):
        configured = dict.fromkeys(SETTINGS[logical], configured)
    if not isinstance(configured, ReadOnly):
        raise ConfigurationError(f"{setting} is {configured!r}.", hint=_KEEP_QUERY)
    for name, kept in configured.items():
        _require_known(f"{setting}.{name}", str(name), SETTINGS[logical])
        if not isinstance(kept, list) or not all(isinstance(item, str) and item for item in kept):
            raise ConfigurationError(f"{setting}.{name} is {kept!r}.", hint=_KEEP_QUERY)
    return {str(name): tuple(kept) for name, kept in configured.items()}


def _text(setting: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise ConfigurationError(
        f"{setting} is {value!r}.", hint="Allowed: a name in quotes, or false to leave it out of the export."
    )


def _require_known(setting: str, name: str, allowed: Iterable[str]) -> None:
    if name not in allowed:
        raise ConfigurationError(f"{setting} is not a setting.", hint=_suggestion(name, list(allowed), "Allowed"))


# --- names in the database -----------------------------------------------------------------------


def named_tables(catalog: Catalog, logical: str, configured: TableOverride) -> list[Table]:
    """The tables that an override names: several if the name occurs in several schemas and none is configured.

    Without a table name, all tables of the schema. Raises `MappingError` if there is no such table or schema.
    """
    setting = f"tables.{logical}"
    tables = [table for table in catalog.tables if configured.schema in (None, table.schema)]
    if not tables:
        schemas = sorted({table.schema for table in catalog.tables if table.schema})
        raise MappingError(
            f"{setting}.schema: there is no schema {configured.schema!r}.",
            hint=_suggestion(configured.schema or "", schemas, "The schemas are"),
        )
    if configured.table is None:
        return tables
    found = [table for table in tables if configured.table in (table.name, table.full_name)]
    found = found or [table for table in tables if table.name.lower() == configured.table.lower()]
    if not found:
        raise MappingError(
            f"{setting}.table: there is no table {configured.table!r}.",
            hint=_suggestion(configured.table, _shown(tables), "The tables are"),
        )
    return found


def _shown(tables: Iterable[Table]) -> list[str]:
    return [table.name for table in tables if not is_private(table.name)]


def named_column(logical: str, setting: str, table: Table, name: str) -> Column:
    """The column that an override names. Raises `MappingError` if the table has no such column."""
    found = table.column(name) or next(
        (column for column in table.columns if column.name.lower() == name.lower()), None
    )
    if found is None:
        raise MappingError(
            f"tables.{logical}.columns.{setting}: the table {table.full_name} has no column {name!r}.",
            hint=_suggestion(name, [column.name for column in table.columns], "Its columns are"),
        )
    return found


def _suggestion(name: str, known: Sequence[str], introduction: str) -> str:
    by_plain = {plain(candidate): candidate for candidate in known}
    matches = get_close_matches(plain(name), list(by_plain), n=1)
    question = f"Did you mean {by_plain[matches[0]]!r}? " if matches else ""
    return f"{question}{introduction}: {_listed(known)}." if known else "The database has none that can be read."


def _listed(names: Iterable[str], most: int = 40) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


# --- proposals for the file ----------------------------------------------------------------------


_OWN_SETTINGS = ("table", "schema", "box_format", "ignore")


def toml_lines(logical: str, **settings: str | bool | list[str]) -> str:
    """Lines of configuration: `table`, `schema`, `box_format` and `ignore` under `[tables.images]`, fields under
    `[tables.images.columns]`."""
    own = {name: value for name, value in settings.items() if name in _OWN_SETTINGS}
    columns = {name: value for name, value in settings.items() if name not in own}
    lines = [f"[tables.{logical}]", *_assignments(own)] if own else []
    lines += [f"[tables.{logical}.columns]", *_assignments(columns)] if columns else []
    return "\n".join(lines)


def _assignments(settings: ReadOnly[str, str | bool | list[str]]) -> list[str]:
    # A JSON string is a TOML basic string, and a JSON list of strings is a TOML array.
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]


def proposal(lines: str, *others: str) -> str:
    """Word the hint: the lines to add to autoexport.toml, and the alternatives as comments."""
    shown = set(lines.splitlines())
    alternatives = [
        f"# or: {', '.join(line for line in other.splitlines() if line not in shown or '=' in line)}"
        for other in others
    ]
    return "\n".join(["Decide in autoexport.toml:", lines, *alternatives])


def table_proposal(logical: str, tables: Sequence[Table], *others: str) -> str:
    """Word the hint that chooses one of several tables."""
    with_schema = len({table.name for table in tables}) < len(tables)
    choices = [
        toml_lines(logical, table=table.name, **({"schema": table.schema} if with_schema and table.schema else {}))
        for table in tables
    ]
    return proposal(*choices, *others)
