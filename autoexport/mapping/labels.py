"""Finds the table of labels."""

from __future__ import annotations

from collections.abc import Sequence

from autoexport.mapping.columns import by_names, fits
from autoexport.mapping.labelling import names_an_image
from autoexport.mapping.links import comparable, find_link, referred_table, refers_elsewhere
from autoexport.mapping.survey import ImageHierarchy, Survey, TableRole
from autoexport.mapping.synonyms import LABEL_ID_NAMES, LABEL_NAMES, LABEL_STEMS, is_stem
from autoexport.model.catalog import Table


def find_labels(survey: Survey, hierarchy: ImageHierarchy, annotations: TableRole | None) -> TableRole | None:
    """Find the labels table: the target of a declared foreign key of the annotations, else one with its name.

    None if no table fits. Raises `MappingError` if two tables fit, or if the configured one does not.
    """
    above = (hierarchy.images, hierarchy.datasets, hierarchy.projects, annotations)
    used = [role.table for role in above if role is not None]
    tables = [table for table in survey.candidates("labels") if table not in used]
    if "labels" not in survey.assigned:
        tables = [table for table in tables if not names_an_image(survey, table, hierarchy.images)]
    referred = _referred_labels(survey, annotations, tables, used) if annotations else []
    if annotations and not referred and not any(survey.role("labels", table)[1] is None for table in tables):
        tables += _labels_by_stem(survey, annotations, used)
    roles = [survey.role("labels", table) for table in referred or tables]
    for role, lack in roles:
        if lack is not None:
            survey.refuse_assigned("labels", role.table, lack)
    found = [role for role, lack in roles if lack is None]
    if len(found) > 1:
        raise survey.two_fit("labels", [role.table for role in found])
    if not found:
        return None
    labels = found[0]
    for logical, parent in (("projects", hierarchy.projects), ("datasets", hierarchy.datasets)):
        if parent is not None and labels.link is None:
            labels.link = find_link(
                survey.catalog,
                ("labels", logical),
                labels.table,
                parent.table,
                parent.key,
                survey.configured["labels"],
            )
            labels.link_to = logical if labels.link else ""
    return labels


def _referred_labels(
    survey: Survey, annotations: TableRole, named: Sequence[Table], used: Sequence[Table]
) -> list[Table]:
    if survey.configured["labels"].left_out:
        return []
    label_columns = {column.name for column in by_names(annotations.table, LABEL_ID_NAMES + LABEL_NAMES)}
    tables: list[Table] = []
    for key in annotations.table.foreign_keys:
        table = referred_table(survey.catalog, annotations.table, key)
        by_column = "labels" not in survey.assigned and bool(label_columns & set(key.columns))
        if table is not None and table not in used and table not in tables and (table in named or by_column):
            tables.append(table)
    tables = [table for table in tables if survey.role("labels", table)[1] is None]
    both = [table for table in tables if table in named]
    return both if len(both) == 1 else tables


def _labels_by_stem(survey: Survey, annotations: TableRole, used: Sequence[Table]) -> list[Table]:
    """Tables such as `classes`, if annotations name their label by `class_id`, `class_name` or `class`."""
    if survey.configured["labels"].left_out or "labels" in survey.assigned:
        return []
    for stem in LABEL_STEMS:
        named = [table for table in survey.catalog.tables if table not in used and is_stem(table.name, stem)]
        found = [table for table in named if _names_by_stem(survey, annotations.table, table, stem)]
        if found:
            return found
    return []


def _names_by_stem(survey: Survey, annotations: Table, table: Table, stem: str) -> bool:
    labels, lack = survey.role("labels", table)
    if lack is not None:
        return False
    return any(
        fits(column, "label") or comparable(column, labels.key)
        for column in by_names(annotations, (f"{stem}_id", f"{stem}_name", stem))
        if not refers_elsewhere(survey.catalog, annotations, column, table)
    )
