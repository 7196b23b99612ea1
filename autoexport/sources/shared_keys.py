"""Finds rows that share a key, where the declarations do not rule it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import FromClause, func, select

from autoexport.mapping.keys import not_unique
from autoexport.model.catalog import Column

if TYPE_CHECKING:
    from autoexport.sources.reader import SnapshotReader


async def refuse_shared_keys(reader: SnapshotReader) -> None:
    """Raise the `SourceError` of an export for two projects, datasets, or images of a dataset with one key."""
    tables = reader.tables
    for logical in ("projects", "datasets", "images"):
        mapped = tables.mapped.get(logical)
        if mapped is None or _is_unique(reader, logical, tables.key_column(logical)):
            continue
        joined: FromClause = tables.sql[logical]
        condition = tables.live(logical)
        if logical in tables.chain:
            joined, condition = tables.reachable(logical)
        levels = [logical, *filter(None, [tables.dataset_level() if logical == "images" else None])]
        # By the order as well: a collation may take two keys for one that the export tells apart.
        orders = [tables.order(level).label(f"order_{level}") for level in levels]
        keys = select(tables.read_key(logical).label("key"), *orders).select_from(joined)
        keys_of_rows = keys.where(condition, tables.key(logical).is_not(None)).subquery()
        shared = select(keys_of_rows.c.key).group_by(*keys_of_rows.c).having(func.count() > 1)
        async for part in reader.snapshot.stream(shared.order_by(*list(keys_of_rows.c)[1:]).limit(1)):
            raise not_unique(logical, mapped, part[0][0])


async def published_again(reader: SnapshotReader) -> int:
    """How many annotations more are published than there are, because several images have the key that they name.

    Images of different datasets may share a key. The rows of a configured query are not looked through. Raises
    `SourceError`.
    """
    tables = reader.tables
    if "annotations" not in tables.chain or tables.mapped["images"].table.query is not None:
        return 0
    link, named = tables.link_columns("annotations", "images")
    if _is_unique(reader, "images", named):
        return 0
    joined, condition = tables.reachable("images")
    key = tables.at("images", named)
    grouped = select(key.label("key"), (func.count() - 1).label("more")).select_from(joined).where(condition)
    shared = grouped.group_by(key).having(func.count() > 1).subquery()
    linked = reader.snapshot.same((link, tables.at("annotations", link)), (named, shared.c.key))
    statement = select(func.coalesce(func.sum(shared.c.more), 0)).select_from(
        tables.sql["annotations"].join(shared, linked)
    )
    async for part in reader.snapshot.stream(statement.where(tables.live("annotations"))):
        return int(str(part[0][0]))
    return 0


def _is_unique(reader: SnapshotReader, logical: str, column: Column) -> bool:
    """Whether a primary key rules out two rows with the same value. It does not bind tables that inherit."""
    table = reader.tables.mapped[logical].table
    if table.kind != "table" or table.query is not None or table.primary_key != (column.name,):
        return False
    return not any(table.full_name in other.ancestors for other in reader.snapshot.catalog.tables)
