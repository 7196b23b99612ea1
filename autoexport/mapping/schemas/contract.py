"""The contract of a preset: how the database of an application is recognised, and how it is mapped."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from autoexport.mapping.overrides import TablesConfig
from autoexport.model.catalog import Catalog

DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True)
class ApplicationSchema:
    """The preset of one annotation application.

    `signature` names, by table, columns that tell this application from others. `tables` are settings as in the
    `[tables]` part of the configuration file; what the file says wins over them. `predictions` are the settings in
    place of them, by table, if predictions are exported. `preset` is the name of the preset. `counted` are
    queries of a number of rows that `check` shows, each with its sentence.
    """

    name: str
    signature: Mapping[str, Set[str]]
    tables: TablesConfig = field(default_factory=dict)
    preset: str = ""
    databases: tuple[str, ...] = DATABASES
    predictions: TablesConfig = field(default_factory=dict)
    counted: tuple[tuple[str, str], ...] = ()

    def fits(self, catalog: Catalog) -> bool:
        """Whether one schema of the catalog has every table of the signature, with these columns."""
        return bool(self.found_in(catalog))

    def found_in(self, catalog: Catalog) -> list[str | None]:
        """The schemas of the catalog that have every table of the signature; `[None]` in SQLite."""
        schemas = dict.fromkeys(table.schema for table in catalog.tables)
        return [
            schema
            for schema in schemas
            if ("sqlite" if schema is None else "postgresql") in self.databases
            and all(self._has(catalog, schema, name, columns) for name, columns in self.signature.items())
        ]

    @staticmethod
    def _has(catalog: Catalog, schema: str | None, name: str, columns: Set[str]) -> bool:
        return any(
            (table.schema, table.name) == (schema, name) and columns <= {column.name for column in table.columns}
            for table in catalog.tables
        )
