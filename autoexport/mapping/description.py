"""Describes the mapping in words for `check`."""

from __future__ import annotations

from autoexport.mapping.synonyms import BOX_FIELDS, FOUND_FIELDS, LINK_SETTING
from autoexport.model.mapping import SHAPE_FIELDS, Mapping, TableMapping
from autoexport.values.expand import dialect

_INSTEAD = {
    "projects": "one project holds everything",
    "datasets": "each project has one dataset of its own name",
    "annotations": "no annotations are exported",
    "labels": "labels come from the annotations' names",
    "images.filename": "the last part of the path",
    "images.is_labeled": "true if it has an annotation",
    "annotations.type": "polygon, bbox or classification",
}
"""The value that is exported in place of a table or column that was not found."""


def describe(mapping: Mapping) -> list[tuple[str, str, str]]:
    """List logical table, logical field, and the real column or the consequence of its absence."""
    rows: list[tuple[str, str, str]] = []
    tables = mapping.tables()
    for logical, fields in FOUND_FIELDS.items():
        table = tables.get(logical)
        if table is None:
            rows.append((logical, "table", _absent(logical)))
            continue
        kind = "" if table.table.kind == "table" else f" ({table.table.kind})"
        rows.append((logical, "table", f"{table.table.full_name}{kind}"))
        for name in fields:
            note = _label(mapping) if (logical, name) == ("annotations", "label") else None
            if table.fields.get(name) is None and name in given_by_documents(tables, logical):
                note = "in the document"
            column = table.fields.get(name)
            rows.append((logical, name, note or (column.name if column else _absent(f"{logical}.{name}"))))
        if logical == "annotations":
            rows.append((logical, "box", _box(mapping, table)))
            rows += [(logical, name, table.fields[name].name) for name in SHAPE_FIELDS if name in table.fields]
        if table.expand:
            rows.append((logical, "document", f"{table.fields['document'].name}: read as {table.expand}"))
        if table.where:
            rows.append((logical, "where", table.where))
        rows += _link(mapping, logical, table)
        rows += [(logical, "deleted", f"{column.name}: marked rows are not exported") for column in table.deleted]
    return rows


def given_by_documents(tables: dict[str, TableMapping], logical: str) -> tuple[str, ...]:
    """The fields of a logical table that documents give."""
    if logical == "annotations" and tables[logical].expand:
        read = dialect(tables[logical].expand)
        return (*read.fields, *read.constants)
    dialects = [dialect(table.expand) for name, table in tables.items() if table.expand and name != "projects"]
    return tuple(name for found in dialects for name in found.image_fields) if logical == "images" else ()


def _absent(name: str) -> str:
    return f"not found: {_INSTEAD[name]}" if name in _INSTEAD else "not found"


def _label(mapping: Mapping) -> str | None:
    if not mapping.label_joined or mapping.labels is None or mapping.annotations is None:
        return None
    labels = mapping.labels
    key = mapping.annotations.fields["label_id"].name
    return f"{key} → {labels.table.full_name}.{labels.fields['name'].name}"


def _link(mapping: Mapping, logical: str, table: TableMapping) -> list[tuple[str, str, str]]:
    parents = {
        "datasets": "projects",
        "images": "datasets" if mapping.datasets else "projects",
        "annotations": "images",
        "labels": "datasets" if mapping.labels_by_dataset else "projects",
    }
    parent = mapping.tables().get(parents.get(logical, ""))
    if parent is None:
        return []
    setting = LINK_SETTING[parents[logical]]
    if table.parent_link is None or table.parent_column is None:
        return [(logical, setting, "not found")]
    return [(logical, setting, f"{table.parent_link.name} → {parent.table.full_name}.{table.parent_column.name}")]


def _box(mapping: Mapping, table: TableMapping) -> str:
    if table.expand:
        return "in the document"
    if mapping.box is None:
        return _absent("annotations.box")
    if mapping.box != "json":
        names = ", ".join(table.fields[name].name for name in BOX_FIELDS)
        readings = {"corners": "corners", "origin": "top-left corner and size", "center": "centre and size"}
        return f"{names}: {readings[mapping.box]}"
    column = table.fields["box_json"]
    if column.kind in ("box", "composite"):
        return f"{column.name}: {column.type_name}"
    lists = f"lists as {mapping.box_format}" if mapping.box_format else "set box_format to read lists"
    return f"{column.name}: JSON, {lists}"
