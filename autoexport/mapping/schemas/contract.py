"""The contract of an application schema: how its database is recognised, and how it is mapped."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from autoexport.mapping.overrides import TablesConfig
from autoexport.model.catalog import Catalog


@dataclass(frozen=True, slots=True)
class ApplicationSchema:
    """The database of one annotation application.

    `signature` names, by table, columns that tell this application from others. `tables` are settings as in the
    `[tables]` part of the configuration file; what the file says wins over them.
    """

    name: str
    signature: Mapping[str, Set[str]]
    tables: TablesConfig = field(default_factory=dict)

    def fits(self, catalog: Catalog) -> bool:
        """Whether one schema of the catalog has every table of the signature, with these columns."""
        return any(
            all(self._has(catalog, schema, name, columns) for name, columns in self.signature.items())
            for schema in {table.schema for table in catalog.tables}
        )

    @staticmethod
    def _has(catalog: Catalog, schema: str | None, name: str, columns: Set[str]) -> bool:
        return any(
            (table.schema, table.name) == (schema, name) and columns <= {column.name for column in table.columns}
            for table in catalog.tables
        )
