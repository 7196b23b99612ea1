"""Words the errors for tables that are there and cannot be seen: another schema, or no right to use it."""

from __future__ import annotations

from collections.abc import Iterable

from autoexport.errors import EmptyDatabase
from autoexport.mapping.overrides import proposal, toml_lines
from autoexport.mapping.sql_names import quoted
from autoexport.mapping.synonyms import is_named, is_private
from autoexport.model.catalog import Catalog, UnseenTables
from autoexport.runtime.wording import counted

_SHOWN = 8
"""Schemas that a message lists."""


def no_tables(catalog: Catalog) -> EmptyDatabase:
    """The error for a catalog without tables: the database is empty, or the tables are elsewhere."""
    schemas = _schemas(catalog)
    if not schemas:
        return _nothing_or_virtual(catalog)
    first, path = schemas[0], catalog.search_path
    if not first.usable and (_on_path(first.schema, catalog) or not any(schema.usable for schema in schemas)):
        return EmptyDatabase(
            f"The role {catalog.role} may not use the schema {first.schema}, which has {_count(first)}.",
            hint=_grant(first, catalog),
        )
    return EmptyDatabase(f"The search path ({path}) has no tables; {_listed(schemas)}.", hint=unseen_hint(catalog))


def unseen_hint(catalog: Catalog) -> str:
    """The hint that makes tables of images visible; empty if no schema that is not listed may hold them."""
    schemas = [schema for schema in _schemas(catalog) if not is_private(schema.schema)]
    named = [schema for schema in schemas if _has_images(schema)]
    if catalog.tables:
        schemas = named
    if not schemas:
        return ""
    if not schemas[0].usable:
        return _grant(schemas[0], catalog)
    usable = [schema.schema for schema in schemas if schema.usable]
    return proposal(*(toml_lines("images", schema=name) for name in usable[:_SHOWN]))


def hidden(tables: Iterable[str], catalog: Catalog) -> str:
    """The hint for tables, by full name, that were exported and are now unseen; empty if they are really gone."""
    wanted = set(tables)
    for schema in _schemas(catalog):
        if wanted & {f"{schema.schema}.{name}" for name in schema.names}:
            if not schema.usable:
                return _grant(schema, catalog)
            return proposal(toml_lines("images", schema=schema.schema))
    return ""


def _schemas(catalog: Catalog) -> list[UnseenTables]:
    """The schemas, first those on the search path and those with a table of images."""
    schemas = [unseen for unseen in catalog.unseen if unseen.schema]
    return sorted(schemas, key=lambda unseen: (not _on_path(unseen.schema, catalog), not _has_images(unseen)))


def _has_images(unseen: UnseenTables) -> bool:
    return any(is_named(name, "images") for name in unseen.names)


def _on_path(schema: str, catalog: Catalog) -> bool:
    path = [part.strip().strip('"') for part in catalog.search_path.split(",")]
    return schema in [catalog.role if part == "$user" else part for part in path]


def _count(unseen: UnseenTables) -> str:
    return counted(len(unseen.names), "table")


def _listed(schemas: list[UnseenTables]) -> str:
    shown = " and ".join(f"{schema.schema} ({_count(schema)})" for schema in schemas[:_SHOWN])
    more = f" and {len(schemas) - _SHOWN} more" if len(schemas) > _SHOWN else ""
    return f"there are tables in the schema{'s' if len(schemas) > 1 else ''} {shown}{more}"


def _grant(unseen: UnseenTables, catalog: Catalog) -> str:
    schema, role = quoted(unseen.schema), quoted(catalog.role)
    return (
        f"As the owner of the schema: GRANT USAGE ON SCHEMA {schema} TO {role}; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"
    )


def _nothing_or_virtual(catalog: Catalog) -> EmptyDatabase:
    names = [name for unseen in catalog.unseen for name in unseen.names]
    if names:
        return EmptyDatabase(
            f"The database has only virtual tables, which cannot be read: {', '.join(names[:_SHOWN])}.",
            hint="Check the URL: it should name the database of the annotation application.",
        )
    return EmptyDatabase("The database has no tables.", hint="Start the application once, or check the URL.")
