"""Finds tables that look like annotations and are not mapped, and words the settings that decide about them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoexport.errors import AnnotationsLeftOut, MappingError
from autoexport.mapping.columns import by_names, find_fields
from autoexport.mapping.labelling import annotation_role, has_geometry, names_an_image
from autoexport.mapping.links import missing_link, referred_table
from autoexport.mapping.overrides import TableOverride, proposal, toml_lines
from autoexport.mapping.survey import MISSING_SETTING, ImageHierarchy, Survey, TableRole
from autoexport.mapping.synonyms import GEOMETRY_NAMES, KINDS, LABEL_ID_NAMES, is_named, plain
from autoexport.model.catalog import Table
from autoexport.model.mapping import LeftOutTable, Mapping

_LABELLED = ("class_name", "label", "label_name", *LABEL_ID_NAMES)
_HISTORY = re.compile(r"^historical_?|_?(?:history|audit|aud|logs?|revisions?|versions?)$", re.IGNORECASE)
_NOT_CONFIGURED = TableOverride()


class LeftOut:
    """The tables that look like annotations and have no role in the mapping.

    `annotations` is the mapped annotations table, if there is one. `mapped` are all tables with a role.
    """

    def __init__(
        self, survey: Survey, hierarchy: ImageHierarchy, annotations: TableRole | None, mapped: Sequence[Table]
    ) -> None:
        self._survey = survey
        self._images = hierarchy.images
        self._annotations = annotations.table if annotations else None
        self._configured = survey.configured["annotations"]
        free = [table for table in survey.catalog.tables if table not in mapped and not self._is_decided(table)]
        self._similar = [table for table in free if self._is_similar(table)]
        self._called = [
            table for table in free if table not in self._similar and is_named(table.name, "annotations")
        ]

    def warnings(self) -> list[str]:
        """A warning for each of the tables, whether or not it has rows, and for ignored ones that do not exist."""
        tables = self._survey.catalog.tables
        found = [table for table in tables if table in self._similar or table in self._called]
        known = {name.lower() for table in tables for name in (table.name, table.full_name)}
        return [self._warning(table) for table in found] + [
            f"tables.annotations.ignore names {name!r}, which is no table of the database."
            for name in self._configured.ignore
            if name.lower() not in known
        ]

    def tables(self) -> list[LeftOutTable]:
        """The tables that would lose annotations if they have rows.

        Beside mapped annotations, neither a view nor the history of the annotations loses any.
        """
        losing = [table for table in (*self._similar, *self._called) if self._may_lose(table)]
        return [LeftOutTable(table, self._name(table), self._lacking(table)) for table in losing]

    def _is_decided(self, table: Table) -> bool:
        """Whether the configuration leaves the table out, or its rows are read as those of its ancestor."""
        if self._configured.left_out or self._configured.ignores(table):
            return True
        return self._annotations is not None and self._annotations.full_name in table.ancestors

    def _is_similar(self, table: Table) -> bool:
        if names_an_image(self._survey, table, self._images):
            if has_geometry(table) or by_names(table, _LABELLED) or is_named(table.name, "annotations"):
                return True
        elif self._annotations is not None or not self._refers_to_an_image(table):
            return False
        # Without any annotations, a table with a less usual name or type of column is not passed over either.
        shapes = [c for c in by_names(table, GEOMETRY_NAMES) if c.kind in KINDS["polygon"] or c.kind == "binary"]
        return self._annotations is None and bool(shapes or by_names(table, _LABELLED))

    def _refers_to_an_image(self, table: Table) -> bool:
        catalog = self._survey.catalog
        return any(referred_table(catalog, table, key) is self._images.table for key in table.foreign_keys)

    def _warning(self, table: Table) -> str:
        has_key = "id" in find_fields("annotations", table, _NOT_CONFIGURED).fields
        reason = "" if has_key else ": it has no key column"
        if not table.readable:
            reason = ": this user may not read its rows"
        elif table in self._called:
            lack = missing_link(("annotations", "images"), table, self._images.table, self._images.key)
            reason = f": it has {lack}"
        return f"{table.full_name} looks like annotations and is not exported{reason}."

    def _may_lose(self, table: Table) -> bool:
        if not table.readable:
            return False
        if self._annotations is None:
            return True
        if table in self._called or table.kind == "view":
            return False
        name = _HISTORY.sub("", table.name)
        return name == table.name or plain(name).rstrip("s") != plain(self._annotations.name).rstrip("s")

    def _name(self, table: Table) -> str:
        alike = [other for other in self._survey.catalog.tables if other.name.lower() == table.name.lower()]
        return table.name if len(alike) == 1 else table.full_name

    def _lacking(self, table: Table) -> str:
        try:
            _, lack = annotation_role(self._survey, table, self._images)
        except MappingError:
            return "image_id"
        return MISSING_SETTING[lack.missing] if lack else ""


def left_out_error(mapping: Mapping, losing: Sequence[LeftOutTable]) -> AnnotationsLeftOut:
    """The error for left out tables that have rows. The first lines of its hint settle it."""
    names = " and ".join(item.table.full_name for item in losing)
    one, several = "looks like annotations, has rows and is", "look like annotations, have rows and are"
    verb = one if len(losing) == 1 else several
    return AnnotationsLeftOut(f"{names} {verb} not exported.", hint=proposal(*_choices(mapping, losing)))


def _choices(mapping: Mapping, losing: Sequence[LeftOutTable]) -> list[str]:
    if mapping.annotations is not None:
        return [toml_lines("annotations", ignore=[*mapping.ignored, *(item.name for item in losing)])]
    nothing = toml_lines("annotations", table=False)
    fitting = [item for item in losing if not item.lacking]
    if not fitting:
        return [nothing] + [
            toml_lines("annotations", table=item.name, **{item.lacking: "<column>"}) for item in losing
        ]
    return [_chosen(mapping, item, losing) for item in fitting] + [nothing]


def _chosen(mapping: Mapping, chosen: LeftOutTable, losing: Sequence[LeftOutTable]) -> str:
    ignored = [*mapping.ignored, *(item.name for item in losing if item is not chosen)]
    lists = {"ignore": ignored} if ignored else {}
    return toml_lines("annotations", table=chosen.name, **lists)
