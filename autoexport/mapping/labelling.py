"""Finds the table of annotations, and the label of an annotation."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoexport.errors import MappingError
from autoexport.mapping.columns import (
    TableFields,
    box_warnings,
    by_names,
    find_box,
    find_fields,
    fits,
    overridden,
    unread_boxes,
)
from autoexport.mapping.lack import Lack, Missing
from autoexport.mapping.links import (
    Link,
    comparable,
    declared_links,
    find_link,
    missing_link,
    referred_table,
    refers_elsewhere,
)
from autoexport.mapping.overrides import TableOverride, proposal, toml_lines
from autoexport.mapping.survey import ImageHierarchy, Survey, TableRole
from autoexport.mapping.synonyms import (
    BOX_JSON_NAMES,
    BOXES,
    FIELD_NAMES,
    LABEL_ID_NAMES,
    LABEL_NAMES,
    LINK_NAMES,
    MORE_CORNERS,
    is_named,
    plain,
)
from autoexport.model.catalog import Column, Table

_NOT_CONFIGURED = TableOverride()
_SHAPES = frozenset(map(plain, (*BOX_JSON_NAMES, *MORE_CORNERS, *FIELD_NAMES["annotations"]["polygon"])))
_BOXES = [frozenset(map(plain, names)) for _, names in BOXES]


# --- annotations ---------------------------------------------------------------------------------


def find_annotations(survey: Survey, hierarchy: ImageHierarchy) -> TableRole | None:
    """Find the annotations table with its link and its box; `find_label` finds its label.

    None if no table fits. Raises `MappingError` if two tables fit, or if the configured one does not.
    """
    above = [role.table for role in (hierarchy.images, hierarchy.datasets, hierarchy.projects) if role]
    tables = [table for table in survey.candidates("annotations") if table not in above]
    if "annotations" not in survey.assigned and not survey.configured["annotations"].left_out:
        tables += [table for table in _label_tables_of_images(survey, hierarchy) if table not in tables]
    found: list[TableRole] = []
    errors: list[tuple[Table, MappingError]] = []
    for table in tables:
        try:
            role, lack = annotation_role(survey, table, hierarchy.images)
        except MappingError as error:
            errors.append((table, error))
            continue
        if lack is None:
            found.append(role)
        else:
            survey.refuse_assigned("annotations", table, lack)
    fitting = [role.table for role in found] + [table for table, _ in errors]
    if len(fitting) > 1:
        raise survey.two_fit("annotations", fitting)
    if errors:
        raise errors[0][1]
    return found[0] if found else None


def annotation_role(survey: Survey, table: Table, images: TableRole) -> tuple[TableRole, Lack | None]:
    """The table in the role of the annotations, and the thing that it lacks. Raises `MappingError`."""
    relation, configured = ("annotations", "images"), survey.configured["annotations"]
    role, lack = survey.role("annotations", table)
    role.link = find_link(survey.catalog, relation, table, images.table, images.key, configured)
    if role.link is None:
        lack = lack or missing_link(relation, table, images.table, images.key)
    if role.found.expand:
        return role, lack  # Boxes and labels are in the documents.
    box, role.box = find_box(table, configured)
    role.found.fields.update(box)
    role.found.warnings += box_warnings(table, box, turned="rotation" in role.found.fields)
    if role.box is None:
        role.found.warnings += unread_boxes(table, configured)
    if role.box is None and "polygon" not in role.found.fields and not _has_label(table, configured):
        lack = lack or Lack(Missing.LABEL)
    return role, lack


def _label_names(table: Table) -> tuple[str, ...]:
    return (*LABEL_NAMES, "name") if is_named(table.name, "labels") else LABEL_NAMES


def _has_label(table: Table, configured: TableOverride) -> bool:
    named = by_names(table, _label_names(table) + LABEL_ID_NAMES)
    assigned = {"label", "label_id"} & set(configured.columns)
    return bool(assigned) or any(fits(column, "label") or fits(column, "label_id") for column in named)


def _label_tables_of_images(survey: Survey, hierarchy: ImageHierarchy) -> list[Table]:
    """Tables that are called labels but hold annotations, because they name an image."""
    assigned = [table for tables in survey.assigned.values() for table in tables]
    tables = [table for table in survey.catalog.tables if is_named(table.name, "labels") and table not in assigned]
    tables = [table for table in tables if not survey.configured["annotations"].ignores(table)]
    return [table for table in tables if names_an_image(survey, table, hierarchy.images)]


def names_an_image(survey: Survey, table: Table, images: TableRole) -> bool:
    """Whether the rows of a table describe an image; a mere reference, as to a cover image, does not count."""
    to_images: set[str] = set()
    to_others: set[str] = set()
    for key in table.foreign_keys:
        refers = referred_table(survey.catalog, table, key) is images.table
        (to_images if refers else to_others).update(key.columns)
    for column in by_names(table, LINK_NAMES["annotations", "images"]):
        if column.name in to_images or (column.name not in to_others and comparable(column, images.key)):
            return True
    return bool(to_images) and has_geometry(table)


def has_geometry(table: Table) -> bool:
    """Whether the table has a box or a polygon, by the conventional names."""
    named = {plain(column.name) for column in table.columns}
    if _SHAPES.isdisjoint(named) and not any(names <= named for names in _BOXES):
        return False  # Asked first: a database may have thousands of tables that are not of interest.
    _, box = find_box(table, _NOT_CONFIGURED)
    if by_names(table, MORE_CORNERS):
        return True
    return box is not None or "polygon" in find_fields("annotations", table, _NOT_CONFIGURED).fields


# --- the label of an annotation ------------------------------------------------------------------


@dataclass(slots=True)
class Labelling:
    """Whether `label_id` is joined to the labels table, and warnings about it."""

    joined: bool = False
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Declared:
    """The links of the annotations to the labels table by declared foreign keys, by column name.

    `names` refer to the name of a label, `keys` to its key, `others` to any other column.
    """

    names: dict[str, Link]
    keys: dict[str, Link]
    others: dict[str, Link]


def find_label(survey: Survey, annotations: TableRole, labels: TableRole | None) -> Labelling:
    """Add `label` and `label_id` to the fields of the annotations.

    An integer called label or category is an id. It is joined to the labels table only by a declared foreign key,
    or if no name is stored. Raises `MappingError` if several columns may be the id. The same if the id refers to
    another column of the labels than their key.
    """
    configured, table, found = survey.configured["annotations"], annotations.table, annotations.found
    declared = _declared(survey, table, labels)
    name = _stored_name(table, configured, found, declared)
    if name is not None:
        found.fields["label"] = name
    key = _label_key(table, configured, found, declared)
    if key is None:
        return Labelling()
    found.fields["label_id"] = key
    if labels is None:
        return Labelling(warnings=[] if name else [_unnamed(table, key, "there is no labels table")])
    if name is None and key.name in declared.others:
        refers_to = declared.others[key.name].parent_column.name
        target = f"{labels.table.full_name}.{refers_to}"
        raise MappingError(
            f"{table.full_name}.{key.name} refers to {target}, which is not the key of the labels.",
            hint=proposal(toml_lines("labels", table=labels.table.name, id=refers_to)),
        )
    assigned = "label" in configured.columns
    if key.name in declared.keys:
        return Labelling(joined=not assigned)
    if name is not None:
        return Labelling()
    if refers_elsewhere(survey.catalog, table, key, labels.table) or not comparable(key, labels.key):
        return Labelling(warnings=[_unnamed(table, key, f"it does not refer to {labels.table.full_name}")])
    return Labelling(joined=True)


def _unnamed(table: Table, key: Column, reason: str) -> str:
    return f"annotations have no label names: {table.full_name}.{key.name} is an id, and {reason}."


def _declared(survey: Survey, table: Table, labels: TableRole | None) -> _Declared:
    if labels is None:
        return _Declared({}, {}, {})
    name = labels.found.fields["name"].name
    declared = _Declared({}, {}, {})
    for column, link in declared_links(survey.catalog, table, labels.table, labels.key).items():
        referred = link.parent_column.name
        kind = (
            declared.names
            if referred == name
            else declared.keys
            if referred == labels.key.name
            else declared.others
        )
        kind[column] = link
    return declared


def _stored_name(
    table: Table, configured: TableOverride, found: TableFields, declared: _Declared
) -> Column | None:
    if "label" in configured.left_out_columns:
        return None
    referring = {name for key in table.foreign_keys for name in key.columns}
    named = by_names(table, (*_label_names(table), *declared.names))
    possible = [column for column in named if column.name in declared.names or column.name not in referring]
    fitting = [column for column in possible if fits(column, "label") and found.free(column)]
    return overridden("annotations", "label", table, configured) or next(iter(fitting), None)


def _label_key(table: Table, configured: TableOverride, found: TableFields, declared: _Declared) -> Column | None:
    if "label_id" in configured.left_out_columns:
        return None
    chosen = overridden("annotations", "label_id", table, configured)
    if chosen is not None:
        return chosen
    named = [
        column for column in by_names(table, LABEL_ID_NAMES) if fits(column, "label_id") and found.free(column)
    ]
    codes = [column for column in by_names(table, LABEL_NAMES) if found.free(column)]
    # A column that is another field already, such as the own key of annotations, says nothing about labels.
    links = {name: link for name, link in {**declared.keys, **declared.others}.items() if found.free(link.column)}
    if links:
        conventional = [column for column in named + codes if column.name in links]
        possible = conventional or [link.column for link in links.values()]
        if len(possible) > 1:
            names = ", ".join(column.name for column in possible)
            raise MappingError(
                f"{table.full_name} names its label in several columns: {names}.",
                hint=proposal(*(toml_lines("annotations", label_id=column.name) for column in possible)),
            )
        return possible[0]
    numbers = [column for column in codes if fits(column, "label_id") and not fits(column, "label")]
    referring = [column for column in codes if any(key.columns == (column.name,) for key in table.foreign_keys)]
    return next(iter(named + numbers + referring), None)
