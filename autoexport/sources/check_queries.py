"""Asks a snapshot for rows that no export contains, and for boxes, label ids and long values that do not fit."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, column, func, literal, or_, select, table

from autoexport.errors import AnnotationsLeftOut, MappingError, SourceError
from autoexport.mapping.left_out import left_out_error
from autoexport.model.catalog import Table
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.sources.contract import Snapshot
from autoexport.sources.query_changes import queries_of
from autoexport.sources.reader import SnapshotReader
from autoexport.sources.sql import subquery
from autoexport.values.boxes import corners, is_ambiguous
from autoexport.values.expand import dialect
from autoexport.values.json_columns import parse

EXCEL_CELL = 32_767
"""The most characters of a cell ("Excel specifications and limits")."""

_SAMPLED_BOXES = 1_000


async def orphans(reader: SnapshotReader, totals: Totals) -> dict[str, int]:
    """Count, by logical table, the rows of which a parent does not exist or is soft-deleted.

    No export contains them.
    `totals` are those of the same snapshot. Raises `SourceError`.
    """
    counts: dict[str, int] = {}
    for logical in ("datasets", "images", "annotations"):
        if logical not in reader.tables.chain:
            continue
        joined, condition = reader.tables.reachable(logical)
        statement = select(func.count()).select_from(joined).where(condition)
        async for part in reader.snapshot.stream(statement):
            counts[logical] = int(str(part[0][0]))
    return totals.orphans(counts)


async def left_out(snapshot: Snapshot, mapping: Mapping) -> AnnotationsLeftOut | None:
    """The error for the tables that look like annotations, have rows and are not mapped; None if there is none.

    Raises `SourceError`.
    """
    losing = [item for item in mapping.left_out if await _has_rows(snapshot, item.table)]
    return left_out_error(mapping, losing) if losing else None


async def _has_rows(snapshot: Snapshot, unmapped: Table) -> bool:
    named = table(unmapped.name, schema=unmapped.schema)
    found = [part async for part in snapshot.stream(select(literal(1)).select_from(named).limit(1))]
    return bool(found)


async def refuse_conditions(reader: SnapshotReader) -> None:
    """Raise `MappingError` for a configured condition that the database does not understand."""
    for logical, mapped in reader.tables.mapped.items():
        if mapped.where:
            statement = select(*reader.tables.sql[logical].c).limit(0)
            try:
                async for _ in reader.snapshot.stream(statement):
                    pass
            except SourceError as error:
                raise MappingError(
                    f"tables.{logical}.where: {error}",
                    hint=f"Give a condition on columns of {mapped.table.full_name}, as in WHERE.",
                ) from error


async def unread_boxes(reader: SnapshotReader) -> tuple[int, int]:
    """Count the boxes, among the first 1,000, that are ambiguous, and those whose JSON gives no box.

    A list of four numbers is ambiguous without a configured `box_format`. In an array column none is counted as
    such: the mapping itself warns about arrays. From then on the snapshot is read leniently. Raises `SourceError`.
    """
    mapping, tables = reader.tables.mapping, reader.tables
    if mapping.box != "json" or mapping.annotations is None:
        return 0, 0
    column = mapping.annotations.fields["box_json"]
    await reader.snapshot.read_leniently()
    statement = select(tables.read("annotations", column)).where(tables.at("annotations", column).is_not(None))
    ambiguous = unreadable = 0
    async for part in reader.snapshot.stream(statement.limit(_SAMPLED_BOXES)):
        stored = [value for (value,) in part]
        boxes, _ = corners({"box_json": stored}, mapping, len(stored))
        for value in (value for value, boxed in zip(stored, boxes["boxed"], strict=True) if not boxed):
            if is_ambiguous(value):
                ambiguous += mapping.box_format is None and column.kind != "array"
            else:
                unreadable += parse(value)[0] is not None
    return ambiguous, unreadable


async def unread_projects(reader: SnapshotReader) -> int:
    """Count the projects whose documents, which declare their labels, cannot be read. Raises `SourceError`."""
    mapped = reader.tables.mapped.get("projects")
    read = dialect(mapped.expand).read_project if mapped is not None and mapped.expand else None
    if read is None or mapped is None:
        return 0
    await reader.snapshot.read_leniently()
    statement = select(reader.tables.read("projects", mapped.fields["document"]))
    unread = 0
    async for part in reader.snapshot.stream(statement.where(reader.tables.live("projects"))):
        unread += sum(read(stored).unreadable for (stored,) in part)
    return unread


async def dangling_label_ids(reader: SnapshotReader) -> int:
    """Count the live annotations whose `label_id` names no row of the labels, or one of another name.

    0 if there are no such ids. Raises `SourceError`.
    """
    tables, mapped = reader.tables, reader.tables.mapped
    if "labels" not in mapped or "label_id" not in mapped.get("annotations", mapped["images"]).fields:
        return 0
    annotations, labels = mapped["annotations"].fields, mapped["labels"].fields
    reference = tables.at("annotations", annotations["label_id"])
    linked = reader.snapshot.same(
        (annotations["label_id"], reference), (labels["id"], tables.at("labels", labels["id"]))
    )
    wrong: ColumnElement[bool] = tables.at("labels", labels["id"]).is_(None)
    name = annotations.get("label")
    if name is not None and name.kind == labels["name"].kind == "text":
        wrong = or_(wrong, tables.at("annotations", name) != tables.at("labels", labels["name"]))
    joined = tables.sql["annotations"].outerjoin(tables.sql["labels"], linked)
    condition = and_(tables.live("annotations"), reference.is_not(None), wrong)
    async for part in reader.snapshot.stream(select(func.count()).select_from(joined).where(condition)):
        return int(str(part[0][0]))
    return 0


async def long_cells(reader: SnapshotReader) -> dict[str, int]:
    """The longest value in characters, by the name of its column, of text columns that no cell of Excel can hold.

    Raises `SourceError`.
    """
    longest: dict[str, int] = {}
    for logical in ("projects", "datasets", "images"):
        mapped = reader.tables.mapped.get(logical)
        if mapped is None:
            continue
        columns = {
            item.name: item
            for name, item in mapped.fields.items()
            if item.kind in ("text", "json", "other") and name != "document"
        }
        lengths = [
            func.coalesce(func.max(func.length(reader.tables.read(logical, item))), 0) for item in columns.values()
        ]
        if not lengths:
            continue
        async for part in reader.snapshot.stream(select(*lengths).select_from(reader.tables.sql[logical])):
            named = zip(columns, part[0], strict=True)
            longest |= {
                f"{mapped.table.full_name}.{name}": int(str(length))
                for name, length in named
                if int(str(length)) > EXCEL_CELL
            }
    return longest


async def key_types(reader: SnapshotReader, logical: str) -> set[type]:
    """The types of the first and the last key of a logical table, which differ if any two keys have other types.

    Databases that store several types in a column sort them one after the other. Raises `SourceError`.
    """
    tables = reader.tables
    order, types = tables.order(logical), set()
    for direction in (order.asc(), order.desc()):
        statement = select(tables.read_key(logical)).where(tables.key(logical).is_not(None))
        async for part in reader.snapshot.stream(statement.order_by(direction).limit(1)):
            types |= {type(key) for (key,) in part}
    return types


async def query_notes(snapshot: Snapshot, mapping: Mapping) -> list[str]:
    """Which queries cannot be followed, and the counts of a preset. Raises `SourceError`."""
    notes = [
        f"A change in a table of tables.{logical}.query renders everything: {query.obstacle}."
        for logical, query in queries_of(mapping).items()
        if query.obstacle
    ]
    for sql, note in mapping.counted:
        async for part in snapshot.stream(
            select(column("count")).select_from(subquery(sql, ["count"]).alias("c"))
        ):
            count = int(str(part[0][0]))
            notes += [note.format(count=f"{count:,}")] if count else []
    return notes
