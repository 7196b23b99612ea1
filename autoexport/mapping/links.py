"""Finds the column by which a row names its parent in another table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoexport.errors import MappingError
from autoexport.mapping.columns import by_names
from autoexport.mapping.lack import Lack, Missing
from autoexport.mapping.overrides import TableOverride, named_column, proposal, toml_lines
from autoexport.mapping.synonyms import FIELD_NAMES, KEYS, LINK_NAMES, LINK_SETTING
from autoexport.model.catalog import Catalog, Column, ForeignKey, Table

_TITLES = ("name", "filename", "file_path")
"""Fields of which a parent needs one."""


@dataclass(frozen=True, slots=True)
class Link:
    """A column that names a parent, and the column of the parent that it names."""

    column: Column
    parent_column: Column


def referred_table(catalog: Catalog, child: Table, key: ForeignKey) -> Table | None:
    """The table that a foreign key refers to; None if the catalog does not contain it, or not unambiguously."""
    # Names in SQLite are not case-sensitive, so a foreign key may spell its table differently.
    named = catalog.named(key.referred_table)
    for schema in (key.referred_schema, child.schema, None):
        for table in named:
            if table.schema == schema:
                return table
    return named[0] if len(named) == 1 else None


def refers_elsewhere(catalog: Catalog, child: Table, column: Column, parent: Table | None) -> bool:
    """Whether `column` alone is a declared foreign key, but not to `parent`."""
    keys = [key for key in child.foreign_keys if key.columns == (column.name,)]
    return bool(keys) and all(parent is None or referred_table(catalog, child, key) is not parent for key in keys)


def declared_links(catalog: Catalog, child: Table, parent: Table, parent_key: Column) -> dict[str, Link]:
    """The declared links to `parent` for which one column suffices, by column name, in the order of the table."""
    links: dict[str, Link] = {}
    for key in child.foreign_keys:
        if referred_table(catalog, child, key) is not parent:
            continue
        referred = key.referred_columns or (parent_key.name,)
        pairs = zip(key.columns, referred, strict=False)
        for name, other in pairs:
            sufficient = len(key.columns) == 1 or parent.primary_key == (other,)
            column, parent_column = child.column(name), parent.column(other)
            if sufficient and column is not None and parent_column is not None:
                links[name] = Link(column, parent_column)
    return {column.name: links[column.name] for column in child.columns if column.name in links}


def comparable(column: Column, other: Column) -> bool:
    """Whether values of the two columns can be equal keys without a conversion."""
    numbers, words = ("integer", "numeric"), ("text", "enum", "uuid")
    if column.kind not in KEYS or other.kind not in KEYS:
        return False
    return "other" in (column.kind, other.kind) or any(
        column.kind in group and other.kind in group for group in (numbers, words, ("binary",))
    )


def find_link(
    catalog: Catalog,
    relation: tuple[str, str],
    child: Table,
    parent: Table,
    parent_key: Column,
    configured: TableOverride,
) -> Link | None:
    """Find the link of `child` to its parent: a declared foreign key, else a column of a conventional name.

    None if there is none. Raises `MappingError` if there are several, or if the link takes several columns.
    """
    logical, setting = relation[0], LINK_SETTING[relation[1]]
    if setting in configured.left_out_columns:
        return None
    links = declared_links(catalog, child, parent, parent_key)
    if setting in configured.columns:
        column = named_column(logical, setting, child, configured.columns[setting])
        _refuse_other_target(catalog, relation, (child, column), (parent, parent_key), list(links))
        return links.get(column.name, Link(column, parent_key))
    named = [c for c in by_names(child, LINK_NAMES[relation]) if not refers_elsewhere(catalog, child, c, parent)]
    conventional = [column for column in named if comparable(column, parent_key)]
    if links:
        declared = [column.name for column in named if column.name in links]
        rivals = [column.name for column in conventional if column.name not in links]
        possible = declared or [*rivals, *links]
        if len(possible) == 1:
            return links[possible[0]]
        raise MappingError(
            f"{child.full_name} names {parent.full_name} in several columns: {', '.join(possible)}.",
            hint=proposal(*(toml_lines(logical, **{setting: name}) for name in possible)),
        )
    composite = _composite(catalog, child, parent)
    if composite and not [column for column in conventional if column.name not in composite]:
        name = next((column.name for column in conventional), composite[-1])
        raise MappingError(
            f"{child.full_name} names {parent.full_name} by a foreign key of several columns "
            f"({', '.join(composite)}), which is not supported.",
            hint="If one of them identifies the row: " + proposal(toml_lines(logical, **{setting: name})),
        )
    free = [column for column in conventional if column.name not in composite]
    return Link(free[0], parent_key) if free else None


def _refuse_other_target(
    catalog: Catalog,
    relation: tuple[str, str],
    link: tuple[Table, Column],
    to: tuple[Table, Column],
    others: list[str],
) -> None:
    """Raise `MappingError` if a configured link is declared as the key of a table that is not the parent.

    Equal ids would then be a coincidence, unless the parent shares the ids of that table. A view may do so.
    """
    (child, column), (parent, parent_key) = link, to
    if parent.kind == "view" or not refers_elsewhere(catalog, child, column, parent):
        return
    targets = [key for key in child.foreign_keys if key.columns == (column.name,)]
    shared = [key for key in parent.foreign_keys if key.columns == (parent_key.name,)]
    if {(key.referred_table.lower(), key.referred_columns) for key in targets} & {
        (key.referred_table.lower(), key.referred_columns) for key in shared
    }:
        return
    setting, referred = LINK_SETTING[relation[1]], referred_table(catalog, child, targets[0])
    name = referred.full_name if referred else targets[0].referred_table
    choices = [toml_lines(relation[0], **{setting: other}) for other in others]
    if referred is not None and any(by_names(referred, FIELD_NAMES[relation[1]].get(f, ())) for f in _TITLES):
        choices.append(toml_lines(relation[1], table=referred.name))
    raise MappingError(
        f"tables.{relation[0]}.columns.{setting}: {child.full_name}.{column.name} refers to {name}, "
        f"not to {parent.full_name}.",
        hint=proposal(*choices)
        if choices
        else f"Remove the setting. If another table leads from {name} to {parent.full_name}, create a view of "
        f"{child.full_name} with the key of {parent.full_name}, and name the view as the table.",
    )


def missing_link(relation: tuple[str, str], child: Table, parent: Table, parent_key: Column) -> Lack:
    """The lack of a link to the parent. It mentions a column of a conventional name whose type does not fit."""
    for column in by_names(child, LINK_NAMES[relation]):
        if not comparable(column, parent_key):
            detail = (
                f"{parent.full_name}: {column.name} is {column.kind}, "
                f"{parent.full_name}.{parent_key.name} is {parent_key.kind}"
            )
            return Lack(Missing.LINK, detail)
    return Lack(Missing.LINK, parent.full_name)


def _composite(catalog: Catalog, child: Table, parent: Table) -> Sequence[str]:
    keys = [key for key in child.foreign_keys if len(key.columns) > 1]
    return next((key.columns for key in keys if referred_table(catalog, child, key) is parent), ())
