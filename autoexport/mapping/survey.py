"""Finds the tables of images, datasets and projects and the links between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autoexport.errors import MappingError
from autoexport.mapping.columns import TableFields, by_names, find_fields
from autoexport.mapping.join_tables import view_hint
from autoexport.mapping.lack import Lack, Missing
from autoexport.mapping.links import Link, find_link, missing_link, referred_table
from autoexport.mapping.overrides import TableOverride, named_tables, proposal, table_proposal, toml_lines
from autoexport.mapping.skeleton import NO_IMAGES, unknown_application
from autoexport.mapping.synonyms import LINK_NAMES, LINK_SETTING, is_named, is_private
from autoexport.mapping.unseen import no_tables, unseen_hint
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import BoxReading, TableMapping

MISSING_SETTING = {Missing.KEY: "id", Missing.NAME: "name", Missing.LABEL: "label", Missing.LINK: "image_id"}
"""The setting that supplies the missing thing, for a table that the configuration assigns to a role."""


@dataclass(slots=True)
class TableRole:
    """A real table in the role of a logical one. For labels, `link_to` is their parent: projects or datasets."""

    table: Table
    found: TableFields
    link: Link | None = None
    link_to: str = ""
    box: BoxReading | None = None

    @property
    def key(self) -> Column:
        """The key column. Raises KeyError if the table has none."""
        return self.found.fields["id"]

    def mapped(self) -> TableMapping:
        """The record for the other packages."""
        link, found = self.link, self.found
        child, parent = (link.column, link.parent_column) if link else (None, None)
        return TableMapping(self.table, found.fields, child, parent, found.deleted, found.where, found.expand)


@dataclass(slots=True)
class ImageHierarchy:
    """The images with their datasets and projects, as far as the database has them."""

    images: TableRole
    datasets: TableRole | None = None
    projects: TableRole | None = None
    warnings: list[str] = field(default_factory=list)


class Survey:
    """Finds the logical tables in a catalog: those that are configured, and the others by their names.

    The constructor raises `MappingError` if a configured table does not exist or has two roles.
    """

    def __init__(self, catalog: Catalog, configured: dict[str, TableOverride]) -> None:
        self.catalog = catalog
        self.configured = configured
        self.assigned = {
            logical: [catalog.queries[logical]] if override.query else named_tables(catalog, logical, override)
            for logical, override in configured.items()
            if override.table is not None or override.query is not None
        }
        self._refuse_double_use()

    def _refuse_double_use(self) -> None:
        users: dict[str, str] = {}
        for logical, tables in self.assigned.items():
            for name in (table.full_name for table in tables):
                if name in users:
                    raise MappingError(
                        f"tables.{users[name]} and tables.{logical} both name the table {name}.",
                        hint="A table can have only one role: remove one of the two settings.",
                    )
                users[name] = logical

    def candidates(self, logical: str) -> list[Table]:
        """The tables that the configuration names, else those with a conventional name."""
        if self.configured[logical].left_out:
            return []
        if logical in self.assigned:
            return self.assigned[logical]
        assigned = [table for tables in self.assigned.values() for table in tables]
        schema = self.configured[logical].schema
        tables = named_tables(self.catalog, logical, self.configured[logical]) if schema else self.catalog.tables
        return [
            table
            for table in tables
            if is_named(table.name, logical)
            and table not in assigned
            and not self.configured[logical].ignores(table)
        ]

    def role(self, logical: str, table: Table) -> tuple[TableRole, Lack | None]:
        """The table in this role, and the key or name that it lacks for it. Links are checked elsewhere."""
        found = find_fields(logical, table, self.configured[logical])
        lack = None if "id" in found.fields else Lack(Missing.KEY)
        wanted = {"images": ("filename", "file_path"), "annotations": ()}.get(logical, ("name",))
        if wanted and not {*wanted, *(("document",) if logical == "images" else ())} & set(found.fields):
            lack = lack or Lack(Missing.NAME, " or ".join(wanted))
        return TableRole(table, found), lack

    def fitting(self, logical: str, *others: Table) -> list[Table]:
        """The candidates that have a key and a name, without `others`, which have another role."""
        tables = [table for table in self.candidates(logical) if table not in others]
        return [table for table in tables if self.role(logical, table)[1] is None]

    def unfit(self, logical: str) -> list[str]:
        """Warnings about candidates of this logical table that lack a key or a name."""
        roles = [(table, self.role(logical, table)[1]) for table in self.candidates(logical)]
        return [f"the table {table.full_name} is not exported as {logical}: it has {lack}."
                for table, lack in roles if lack]  # fmt: skip

    # --- parents -----------------------------------------------------------------------------------

    def parent(self, relation: tuple[str, str], child: Table) -> TableRole | None:
        """Find the parent of a table by declared foreign keys, else by name. Its `link` is the link of the child.

        `relation` is the logical child and parent. Raises `MappingError` if two tables fit, or if the configured
        one does not.
        """
        _, logical = relation
        found = self._linked(relation, child, self._referred(relation, child))
        found = found or self._linked(relation, child, self.candidates(logical))
        if len(found) > 1:
            raise self.two_fit(logical, [role.table for role in found])
        return found[0] if found else None

    def _linked(self, relation: tuple[str, str], child: Table, tables: Sequence[Table]) -> list[TableRole]:
        child_logical, logical = relation
        found = []
        for table in tables:
            if table is child:
                continue
            role, lack = self.role(logical, table)
            if lack is not None:
                self.refuse_assigned(logical, table, lack)
                continue
            role.link = find_link(self.catalog, relation, child, table, role.key, self.configured[child_logical])
            if role.link is not None:
                found.append(role)
        return found

    def _referred(self, relation: tuple[str, str], child: Table) -> list[Table]:
        """The tables to which declared foreign keys refer, if the table or the column has a conventional name."""
        _, logical = relation
        candidates = self.candidates(logical)
        chosen = self.configured[relation[0]].columns.get(LINK_SETTING[logical])
        conventional = {column.name for column in by_names(child, [chosen] if chosen else LINK_NAMES[relation])}
        schema = self.configured[logical].schema
        decided = logical in self.assigned or self.configured[logical].left_out
        tables: list[Table] = []
        for key in child.foreign_keys:
            table = referred_table(self.catalog, child, key)
            if table is None or table in tables:
                continue
            possible = not decided and schema in (None, table.schema) and not self._has_other_role(table, logical)
            if table in candidates or (possible and conventional & set(key.columns)):
                tables.append(table)
        return tables

    def _has_other_role(self, table: Table, logical: str) -> bool:
        return any(table in self.candidates(other) for other in self.configured if other != logical)

    def refuse_assigned(self, logical: str, table: Table, lack: Lack) -> None:
        """Raise `MappingError` if the configuration gives this table a role that it does not fit."""
        if logical in self.assigned:
            raise MappingError(
                f"tables.{logical}.table: {table.full_name} has {lack}.",
                hint=proposal(toml_lines(logical, **{MISSING_SETTING[lack.missing]: "<column>"})),
            )

    def two_fit(self, logical: str, tables: Sequence[Table]) -> MappingError:
        """The error for several tables that fit one role."""
        names = " and ".join(table.full_name for table in tables)
        return MappingError(f"{names} fit as the {logical} table.", hint=table_proposal(logical, tables))

    # --- images, datasets, projects ----------------------------------------------------------------

    def hierarchy(self) -> ImageHierarchy:
        """Find the images with their datasets and projects. Raises `MappingError` if no table fits, or several."""
        lacking: list[tuple[Table, Lack]] = []
        hierarchies: list[ImageHierarchy] = []
        errors: list[tuple[Table, MappingError]] = []
        for table in self.candidates("images"):
            role, lack = self.role("images", table)
            if lack is None:
                try:
                    hierarchy, lack = self._hierarchy_of(role)
                    if lack is None:
                        hierarchies.append(hierarchy)
                except MappingError as error:
                    errors.append((table, error))
            if lack is not None:
                lacking.append((table, lack))
        fitting = [hierarchy.images.table for hierarchy in hierarchies] + [table for table, _ in errors]
        if len(fitting) > 1:
            raise self.two_fit("images", fitting)
        if errors:
            raise errors[0][1]
        if not hierarchies:
            raise self._no_images(lacking)
        return hierarchies[0]

    def _hierarchy_of(self, images: TableRole) -> tuple[ImageHierarchy, Lack | None]:
        hierarchy = ImageHierarchy(images)
        hierarchy.datasets = self.parent(("images", "datasets"), images.table)
        if hierarchy.datasets is not None:
            images.link, hierarchy.datasets.link = hierarchy.datasets.link, None
            self._projects_of_datasets(hierarchy, hierarchy.datasets)
            return hierarchy, None
        others = self.fitting("datasets", images.table)
        hierarchy.projects = self.parent(("images", "projects"), images.table)
        if hierarchy.projects is not None:
            images.link, hierarchy.projects.link = hierarchy.projects.link, None
            for table in others:
                self._leave_out(hierarchy, "datasets", table, images.table, "images")
            return hierarchy, None
        for logical, above in (("datasets", others), ("projects", self.fitting("projects", images.table))):
            if above:
                key = self.role(logical, above[0])[0].key
                return hierarchy, missing_link(("images", logical), images.table, above[0], key)
        columns = by_names(images.table, LINK_NAMES["images", "datasets"] + LINK_NAMES["images", "projects"])
        expected = [name for name in ("datasets", "projects") if not self.configured[name].left_out]
        if columns and expected:
            hierarchy.warnings.append(
                f"{images.table.full_name}.{columns[0].name} names a parent, but no table of datasets or "
                "projects was found: all images are in one dataset."
            )
        return hierarchy, None

    def _projects_of_datasets(self, hierarchy: ImageHierarchy, datasets: TableRole) -> None:
        hierarchy.projects = self.parent(("datasets", "projects"), datasets.table)
        if hierarchy.projects is not None:
            datasets.link, hierarchy.projects.link = hierarchy.projects.link, None
            return
        unnamed = self.fitting("projects", datasets.table, hierarchy.images.table)
        if unnamed and self.parent(("images", "projects"), hierarchy.images.table):
            name = datasets.table.full_name
            raise MappingError(
                f"{hierarchy.images.table.full_name} names {name} and {unnamed[0].full_name}, "
                f"but {name} does not name its project.",
                hint=proposal(toml_lines("projects", table=False), toml_lines("datasets", table=False)),
            )
        for table in unnamed:
            self._leave_out(hierarchy, "projects", table, datasets.table, "datasets")

    def _leave_out(
        self, hierarchy: ImageHierarchy, logical: str, table: Table, child: Table, child_logical: str
    ) -> None:
        setting = LINK_SETTING[logical]
        if logical in self.assigned:
            raise MappingError(
                f"tables.{logical}.table: no column of {child.full_name} names {table.full_name}.",
                hint=proposal(toml_lines(child_logical, **{setting: "<column>"})),
            )
        hierarchy.warnings.append(
            f"{table.full_name} is not exported: no column of {child.full_name} names it "
            f"(tables.{child_logical}.columns.{setting}, or tables.{logical}.table = false)."
        )

    def _no_images(self, lacking: Sequence[tuple[Table, Lack]]) -> MappingError:
        if not self.catalog.tables:
            return no_tables(self.catalog)
        if lacking:
            reasons = "; ".join(f"{table.full_name} has {lack}" for table, lack in lacking)
            return MappingError(f"No table of images was found: {reasons}.", hint=self._supply(*lacking[0]))
        similar = [table for table in self.catalog.tables if self._resembles_images(table)]
        hint = table_proposal("images", similar) if similar else unseen_hint(self.catalog)
        hint = hint or proposal(toml_lines("images", table="<table>"))
        return unknown_application(self.catalog, similar) or MappingError(NO_IMAGES, hint=hint)

    def _supply(self, table: Table, lack: Lack) -> str:
        """Word the hint that names the column which an images table lacks."""
        if lack.missing is Missing.KEY:
            return proposal(toml_lines("images", table=table.name, id="<column>"))
        if lack.missing is Missing.NAME:
            return proposal(toml_lines("images", table=table.name, file_path="<column>"))
        logical = "datasets" if self.fitting("datasets", table) else "projects"
        parents = [(logical, parent, self.role(logical, parent)[0].key) for parent in self.fitting(logical, table)]
        hint = view_hint(self.catalog, (table, self.role("images", table)[0].key), parents)
        named = toml_lines("images", table=table.name, **{LINK_SETTING[logical]: "<column>"})
        return hint or proposal(named, toml_lines(logical, table=False))

    def _resembles_images(self, table: Table) -> bool:
        if is_private(table.name) or any(is_named(table.name, logical) for logical in self.configured):
            return False
        role, lack = self.role("images", table)
        return lack is None and bool({"file_path", "width"} & set(role.found.fields))
