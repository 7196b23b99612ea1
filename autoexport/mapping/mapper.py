"""Maps the logical tables and fields to the tables and columns of a database."""

from __future__ import annotations

import json
from collections.abc import Iterable

import xxhash

from autoexport.mapping.description import given_by_documents
from autoexport.mapping.labelling import Labelling, find_annotations, find_label
from autoexport.mapping.labels import find_labels
from autoexport.mapping.left_out import LeftOut
from autoexport.mapping.links import referred_table
from autoexport.mapping.overrides import TableOverride, TablesConfig, read_overrides
from autoexport.mapping.schemas import recognise, with_schema
from autoexport.mapping.survey import ImageHierarchy, Survey, TableRole
from autoexport.mapping.synonyms import FOUND_FIELDS
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import BoxFormat, Mapping, TableMapping


def map_catalog(catalog: Catalog, overrides: TablesConfig | None = None) -> Mapping:
    """Find the logical tables and fields: by declared foreign keys first, then by conventional names.

    `overrides` is the `[tables]` section of the configuration file. Raises `ConfigurationError` for an unknown
    setting, and `MappingError` if a table or a link is missing or ambiguous. The hint contains the lines of
    configuration that resolve it.
    """
    schema = recognise(catalog, overrides)
    configured = configured_tables(catalog, overrides)
    survey = Survey(catalog, configured)
    hierarchy = survey.hierarchy()
    annotations = find_annotations(survey, hierarchy)
    labels = find_labels(survey, hierarchy, annotations)
    labelled = annotations if annotations and not annotations.found.expand else None
    labelling = find_label(survey, labelled, labels) if labelled else Labelling()
    roles = {
        "projects": hierarchy.projects,
        "datasets": hierarchy.datasets,
        "images": hierarchy.images,
        "annotations": annotations,
        "labels": labels,
    }
    used = [role.table for role in roles.values() if role is not None]
    left_out = LeftOut(survey, hierarchy, annotations, [*used, *read_by_queries(used)])
    mapped = {logical: role.mapped() for logical, role in roles.items() if role is not None}
    box = annotations.box if annotations else None
    return Mapping(
        projects=mapped.get("projects"),
        datasets=mapped.get("datasets"),
        images=mapped["images"],
        annotations=mapped.get("annotations"),
        labels=mapped.get("labels"),
        box=box,
        box_format=configured["annotations"].box_format if box == "json" else None,
        label_joined=labelling.joined,
        labels_by_dataset=labels is not None and labels.link_to == "datasets",
        warnings=tuple(dict.fromkeys(_warnings(survey, hierarchy, roles, labelling, left_out))),
        not_found=tuple(_not_found(mapped, box is not None, labelling.joined)),
        application=schema.name if schema is not None else "",
        preset=schema.preset if schema is not None and schema.tables else "",
        counted=schema.counted if schema is not None and configured["annotations"].query is not None else (),
        keep_query={name: override.keep_query for name, override in configured.items() if override.keep_query},
        left_out=tuple(left_out.tables()),
        ignored=configured["annotations"].ignore,
    )


def read_by_queries(tables: Iterable[Table]) -> list[Table]:
    """The stored tables and views that the queries among these tables read."""
    read = [stored for table in tables if table.query is not None for stored in table.query.stored]
    return list(dict.fromkeys(read))


def configured_tables(catalog: Catalog, overrides: TablesConfig | None) -> dict[str, TableOverride]:
    """The settings of every logical table: those of a known application, overruled by the configuration file.

    Raises `ConfigurationError` for an unknown setting or a wrong value.
    """
    read_overrides(overrides)  # A mistake in the file is told as such, not as one of a schema.
    return read_overrides(with_schema(recognise(catalog, overrides), overrides, catalog))


def _warnings(
    survey: Survey,
    hierarchy: ImageHierarchy,
    roles: dict[str, TableRole | None],
    labelling: Labelling,
    left_out: LeftOut,
) -> list[str]:
    warnings = [*hierarchy.warnings, *_from_another_schema(survey, roles)]
    mapped = [role for role in roles.values() if role is not None]
    for role in mapped:
        warnings += role.found.warnings
    warnings += labelling.warnings
    for logical in ("projects", "datasets", "labels"):
        if roles[logical] is None:
            warnings += survey.unfit(logical)
    warnings += left_out.warnings()
    return warnings + _unread_boxes(roles["annotations"], survey.configured["annotations"].box_format)


def _unread_boxes(annotations: TableRole | None, box_format: BoxFormat | None) -> list[str]:
    boxes = annotations.found.fields.get("box_json") if annotations else None
    if annotations is None or boxes is None or boxes.kind != "array" or box_format is not None:
        return []
    return [
        f"{annotations.table.full_name}.{boxes.name} is a list of four numbers, which is ambiguous and not read: "
        "set tables.annotations.box_format to xyxy, xywh or cxcywh."
    ]


def _not_found(mapped: dict[str, TableMapping], has_box: bool, joined: bool) -> list[str]:
    missing = [logical for logical in FOUND_FIELDS if logical not in mapped]
    for logical, table in mapped.items():
        absent = [name for name in FOUND_FIELDS[logical] if name not in table.fields]
        absent = [name for name in absent if name not in given_by_documents(mapped, logical)]
        if logical == "annotations":
            absent = [name for name in absent if not (joined and name == "label")]
            absent += [] if has_box or table.expand else ["box"]
        if logical == "labels" and table.parent_link is None and "projects" in mapped:
            absent.append("project_id")
        missing += [f"{logical}.{name}" for name in absent]
    return missing


# --- digest --------------------------------------------------------------------------------------


def mapping_digest(mapping: Mapping) -> str:
    """Digest the parts of the mapping that affect the published files: 16 hexadecimal digits of xxh3."""
    tables = {
        logical: [
            table.table.schema,
            table.table.name,
            table.table.kind,
            sorted([name, *_column(column)] for name, column in table.fields.items()),
            _column(table.parent_link),
            _column(table.parent_column),
            [_column(column) for column in table.deleted],
            *([table.where, table.expand] if table.where or table.expand else []),
            *(
                [table.table.query.sql, [item.sql for item in table.table.query.beside]]
                if table.table.query
                else []
            ),
        ]
        for logical, table in mapping.tables().items()
    }
    flags: list[object] = [mapping.box, mapping.box_format, mapping.label_joined, mapping.labels_by_dataset]
    if mapping.keep_query:
        flags.append(mapping.keep_query)
    return xxhash.xxh3_64_hexdigest(json.dumps([tables, flags], sort_keys=True).encode())


def _column(column: Column | None) -> list[str]:
    return [column.name, column.kind, column.type_name] if column else []


def _from_another_schema(survey: Survey, roles: dict[str, TableRole | None]) -> list[str]:
    """Warn about tables that were found by name in a schema that the configuration does not name for others."""
    named = {override.schema for override in survey.configured.values() if override.schema}
    found = {logical: role.table for logical, role in roles.items() if role is not None}
    declared = [
        referred_table(survey.catalog, table, key) for table in found.values() for key in table.foreign_keys
    ]
    return [
        f"{table.full_name} is exported as {logical}, although other tables are configured in the schema "
        f"{' and '.join(sorted(named))}: set tables.{logical}.schema, or tables.{logical}.table = false."
        for logical, table in found.items()
        if named
        and table.schema not in named
        and survey.configured[logical].table is None
        and table not in declared
    ]
