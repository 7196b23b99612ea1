"""Maps the tables of a snapshot, refuses to lose one that was exported before, and leaves out unused fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autoexport.errors import MappedTableGone, MappingError
from autoexport.formats.contract import Format, NarrowFormat
from autoexport.incremental.ledger import Ledger
from autoexport.mapping.mapper import map_catalog
from autoexport.mapping.overrides import TablesConfig
from autoexport.mapping.unseen import hidden, no_tables
from autoexport.model.catalog import Catalog
from autoexport.model.mapping import SHAPE_FIELDS, Mapping, TableMapping
from autoexport.runtime.logs import get_logger
from autoexport.values.expand import dialect

log = get_logger()


def mapping_of(catalog: Catalog, tables: TablesConfig | None, ledger: Ledger | None) -> Mapping:
    """Map the tables of the snapshot. Raises `MappingError`, or `MappedTableGone` for a missing exported table."""
    if not catalog.tables and ledger is None:
        raise no_tables(catalog)
    gone: set[str] = set()
    if ledger is not None:
        gone = {name for name in ledger.tables.values() if not catalog.exists(name)}
    try:
        mapping = map_catalog(catalog, tables)
    except MappingError as error:
        if gone:
            raise _gone(gone, catalog) from error
        raise
    if ledger is not None and gone and set(ledger.tables) - set(mapping.tables()):
        raise _gone(gone, catalog)
    for warning in mapping.warnings:
        log.warning("mapping.warning", warning=warning)
    return mapping


def shape_fields(mapping: Mapping) -> list[str]:
    """The fields of `SHAPE_FIELDS` that annotations have: columns, or what their documents give."""
    annotations = mapping.annotations
    if annotations is None:
        return []
    given = dialect(annotations.expand).shape_fields if annotations.expand else ()
    return [name for name in SHAPE_FIELDS if name in annotations.fields or name in given]


_COUNTED = {
    "images": {"id", "split", "is_labeled", "is_verified", "width", "height"},
    "annotations": {"id", "label", "label_id"},
}
"""The fields that the manifest, the page and the history count."""


def narrowed(mapping: Mapping, formats: Sequence[Format]) -> Mapping:
    """The mapping without the fields of images and annotations on which no file depends.

    Queries and documents are read as they are.
    """
    narrow = [output for output in formats if isinstance(output, NarrowFormat)]
    if len(narrow) < len(formats) or not narrow or mapping.has_queries or mapping.expand:
        return mapping
    kept = {name: own.union(*(output.fields[name] for output in narrow)) for name, own in _COUNTED.items()}
    annotations = mapping.annotations
    return replace(
        mapping,
        images=_with(mapping.images, kept["images"]),
        annotations=_with(annotations, kept["annotations"]) if annotations is not None else None,
    )


def _with(mapped: TableMapping, names: set[str]) -> TableMapping:
    return replace(mapped, fields={name: column for name, column in mapped.fields.items() if name in names})


def _gone(tables: set[str], catalog: Catalog) -> MappedTableGone:
    hint = hidden(tables, catalog)
    if hint:
        names = ", ".join(sorted(tables))
        return MappedTableGone(f"A table that was exported before can no longer be seen: {names}.", hint=hint)
    return MappedTableGone(
        f"A table that was exported before is missing: {', '.join(sorted(tables))}.",
        hint="The old files stay. If the table is gone for good, run `python -m autoexport --full` once.",
    )
