"""Words the hint for images that a table of its own joins to their datasets: a view to create."""

from __future__ import annotations

from collections.abc import Sequence

from autoexport.mapping.columns import by_names
from autoexport.mapping.links import declared_links
from autoexport.mapping.overrides import proposal, toml_lines
from autoexport.mapping.sql_names import quoted, quoted_table
from autoexport.mapping.synonyms import LINK_NAMES, LINK_SETTING, is_named
from autoexport.model.catalog import Catalog, Column, Table

_Parent = tuple[str, Table, Column]
"""A logical name, the table and its key."""


def view_hint(catalog: Catalog, images: tuple[Table, Column], parents: Sequence[_Parent]) -> str:
    """The hint with a view that names the parent of each image; empty if no table joins it to one of these."""
    table, key = images
    for join in catalog.tables:
        to_images = _link(catalog, join, table, key, LINK_NAMES["annotations", "images"])
        if to_images is None or join is table or is_named(join.name, "annotations"):
            continue
        for logical, parent, parent_key in parents:
            to_parent = _link(catalog, join, parent, parent_key, LINK_NAMES["images", logical])
            if to_parent not in (None, to_images) and join is not parent:
                return _hint(catalog, images, logical, join, (to_images, to_parent))
    return ""


def _link(catalog: Catalog, join: Table, table: Table, key: Column, names: tuple[str, ...]) -> Column | None:
    declared = _declared_links_of(catalog, join, table, key)
    elsewhere = {name for foreign in join.foreign_keys for name in foreign.columns}
    named = [column for column in by_names(join, names) if column.name not in elsewhere]
    return next(iter(declared + named), None)


def _hint(
    catalog: Catalog, images: tuple[Table, Column], logical: str, join: Table, links: tuple[Column, Column]
) -> str:
    (table, key), setting = images, LINK_SETTING[logical]
    view = f"{table.name}_with_{setting.removesuffix('_id')}"
    to_images, to_parent = (quoted(column.name) for column in links)
    # The operator executes it, not this program.
    statement = (
        f"CREATE VIEW {quoted_table(table, view)} AS "  # noqa: S608
        f"SELECT i.*, (SELECT j.{to_parent} FROM {quoted_table(join)} j "
        f"WHERE j.{to_images} = i.{quoted(key.name)} ORDER BY 1 LIMIT 1) AS {setting} "
        f"FROM {quoted_table(table)} i;"
    )
    lines = [toml_lines("images", table=view, **({} if key.name == "id" else {"id": key.name}))]
    lines += [
        toml_lines("annotations", image_id=column.name)
        for child in catalog.tables
        if is_named(child.name, "annotations")
        for column in _declared_links_of(catalog, child, table, key)
    ][:1]
    introduction = f"{join.full_name} joins them. Create a view, which has an image of several {logical} in one:"
    return "\n".join([introduction, statement, proposal("\n".join(lines))])


def _declared_links_of(catalog: Catalog, child: Table, table: Table, key: Column) -> list[Column]:
    return [link.column for link in declared_links(catalog, child, table, key).values()]
