"""Words queries for the database of an unknown application, filled in as far as its tables tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autoexport.errors import MappingError
from autoexport.mapping.columns import by_names, find_box, find_fields
from autoexport.mapping.links import referred_table
from autoexport.mapping.overrides import TableOverride, toml_lines
from autoexport.mapping.sql_names import quoted
from autoexport.mapping.synonyms import (
    BOX_FIELDS,
    GEOMETRY_NAMES,
    LABEL_ID_NAMES,
    LABEL_NAMES,
    MORE_CORNERS,
    is_private,
    plain,
)
from autoexport.model.catalog import Catalog, Column, Table
from autoexport.model.mapping import BoxReading

NO_IMAGES = "No table of images was found."

_FILES = (
    "path", "file", "filename", "image", "img", "picture", "photo", "source", "src", "location", "key", "url",
    "uri",
)  # fmt: skip
_IMAGES = (
    "image", "img", "picture", "photo", "frame", "media", "sample", "example", "item", "file", "asset", "slide",
    "document", "task", "scan",
)  # fmt: skip
_ANNOTATIONS = (
    "annotation", "shape", "box", "bbox", "region", "object", "mark", "polygon", "detection", "segment",
)  # fmt: skip
_BOX_NAMES: dict[BoxReading, tuple[str, ...]] = {
    "corners": ("x_min", "y_min", "x_max", "y_max"),
    "origin": ("x", "y", "width", "height"),
    "center": ("x_center", "y_center", "width", "height"),
}
_COLOURED = ("color", "colour")
_MOST_SHOWN = 4
_NOT_CONFIGURED = TableOverride()


@dataclass(slots=True)
class _Guess:
    """A table that may have a role, how much speaks for it, and the columns that do."""

    table: Table
    score: int = 0
    seen: list[Column] = field(default_factory=list)

    def see(self, columns: Iterable[Column | None], points: int) -> None:
        """Count these columns as reasons."""
        found = [item for item in columns if item is not None and item not in self.seen]
        self.seen += found
        self.score += points if found else 0

    def __str__(self) -> str:
        shown = ", ".join(item.name for item in self.seen[:_MOST_SHOWN])
        return f"{self.table.full_name} ({shown})" if shown else self.table.full_name


def unknown_application(catalog: Catalog, similar: Sequence[Table] = ()) -> MappingError | None:
    """The error for a database in which no table of images was found, with queries to begin with.

    It says which tables look like images and annotations. `similar` are those that are images as they are, if
    their name were a usual one. None if no table looks like images and none like annotations.
    """
    tables = [table for table in catalog.tables if not is_private(table.name) and table.columns]
    images = _best(_as_images(table) for table in similar or tables)
    if images is None:
        return None
    annotations = _best(_as_annotations(catalog, table, images.table) for table in tables if table != images.table)
    if annotations is None and (similar or images.score < 3):
        return None
    message = f"{NO_IMAGES} {images} looks like images"
    message += f", {annotations} like annotations." if annotations else "; no table looks like annotations."
    lines = _lines(catalog, images.table, annotations.table if annotations else None)
    whole = [f"# or, for {table.full_name} as it is: {_one_line(table)}" for table in similar]
    return MappingError(message, hint="\n".join(["Complete these queries in autoexport.toml:", *lines, *whole]))


def _one_line(table: Table) -> str:
    return toml_lines("images", table=table.name).replace("\n", ", ")


def _best(guesses: Iterable[_Guess]) -> _Guess | None:
    likely = [guess for guess in guesses if guess.score > 1]
    return max(likely, key=lambda guess: guess.score, default=None)


def _words(name: str) -> list[str]:
    parts = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower().split("_")
    return [part.removesuffix("s") if len(part) > 3 else part for part in parts]


def _as_images(table: Table) -> _Guess:
    guess = _Guess(table)
    file = _file(table)
    guess.see([file], 1 if file is not None and plain(file.name) == "name" else 2)
    guess.see(by_names(table, ("width", "height")), 1)
    guess.score += 1 if _words(table.name)[-1] in _IMAGES else 0
    if _box(table)[0] or by_names(table, GEOMETRY_NAMES):
        guess.score -= 2
    return guess if guess.seen else _Guess(table)


def _as_annotations(catalog: Catalog, table: Table, images: Table) -> _Guess:
    guess = _Guess(table)
    link = _link(catalog, table, images)
    guess.see([link], 2)
    guess.see(_box(table)[0], 2)
    guess.see(by_names(table, (*GEOMETRY_NAMES, *MORE_CORNERS)), 2)
    guess.see(by_names(table, (*LABEL_NAMES, *LABEL_ID_NAMES)), 1)
    guess.score += 2 if set(_words(table.name)) & set(_ANNOTATIONS) else 0
    return guess if guess.seen else _Guess(table)


def _file(table: Table) -> Column | None:
    """The column of the file, by the usual names, else by a word in its name."""
    fields = find_fields("images", table, _NOT_CONFIGURED).fields
    usual = fields.get("file_path") or fields.get("filename")
    if usual is not None and plain(usual.name) != "name":
        return usual
    texts = [item for item in table.columns if item.kind in ("text", "other")]
    ranked = [item for word in _FILES for item in texts if word in _words(item.name)]
    return next(iter(ranked), usual)


def _box(table: Table) -> tuple[list[Column], BoxReading | None]:
    try:
        found, reading = find_box(table, _NOT_CONFIGURED)
    except MappingError:
        return [], None
    return [found[name] for name in BOX_FIELDS if name in found], reading


def _link(catalog: Catalog, child: Table, parent: Table) -> Column | None:
    """The column by which a table names another one: a declared key, else by the name of that table."""
    for key in child.foreign_keys:
        if len(key.columns) == 1 and referred_table(catalog, child, key) is parent:
            return child.column(key.columns[0])
    word = _words(parent.name)[-1]
    return next(
        (item for item in child.columns if word in _words(item.name) and item.name not in child.primary_key), None
    )


def _parent(catalog: Catalog, table: Table, others: Sequence[Table]) -> tuple[Table, Column] | None:
    """A table with a name that another one refers to, and the column."""
    for key in table.foreign_keys:
        parent = referred_table(catalog, table, key)
        if parent is None or parent in others or is_private(parent.name) or len(key.columns) > 1:
            continue
        column = table.column(key.columns[0])
        if column is not None and "name" in find_fields("datasets", parent, _NOT_CONFIGURED).fields:
            return parent, column
    return None


# --- the queries ---------------------------------------------------------------------------------


def _lines(catalog: Catalog, images: Table, annotations: Table | None) -> list[str]:
    parent = _parent(catalog, images, [annotations] if annotations else [])
    lines: list[str] = []
    if parent is not None:
        lines += _query("datasets", parent[0], _key(parent[0]) + _found("datasets", parent[0], ("name",)))
    else:
        lines += ["[tables.datasets]", "table = false"]
    lines += ["[tables.projects]", "table = false"]
    lines += _query("images", images, _image_columns(images, parent[1] if parent else None))
    if annotations is None:
        return [*lines, "[tables.annotations]", "table = false"]
    labels = _labels(catalog, annotations, images)
    lines += _query("annotations", annotations, _annotation_columns(catalog, annotations, images, labels))
    if labels is None:
        return [*lines, "[tables.labels]", "table = false"]
    colour = [(item, "color") for item in by_names(labels[0], _COLOURED)[:1]]
    return [
        *lines,
        *_query("labels", labels[0], [*_key(labels[0]), *_found("labels", labels[0], ("name",)), *colour]),
    ]


def _query(logical: str, table: Table, columns: Sequence[tuple[Column | None, str]]) -> list[str]:
    selected = [
        f"  {quoted(item.name)}{'' if item.name == name else f' AS {name}'}" if item else f"  NULL AS {name}"
        for item, name in columns
    ]
    return [
        f"[tables.{logical}]", "query = '''", "SELECT", ",\n".join(selected), f"FROM {quoted(table.name)}", "'''",
    ]  # fmt: skip


def _key(table: Table) -> list[tuple[Column | None, str]]:
    return [(find_fields("images", table, _NOT_CONFIGURED).fields.get("id"), "id")]


def _found(logical: str, table: Table, names: Sequence[str]) -> list[tuple[Column | None, str]]:
    fields = find_fields(logical, table, _NOT_CONFIGURED).fields
    return [(fields.get(name), name) for name in names]


def _image_columns(images: Table, parent: Column | None) -> list[tuple[Column | None, str]]:
    columns = [*_key(images), (_file(images), "file_path")]
    for name in ("width", "height"):
        columns += [(item, name) for item in by_names(images, (name, name[0]))[:1]]
    return [*columns, (parent, "dataset_id")] if parent else columns


def _labels(catalog: Catalog, annotations: Table, images: Table) -> tuple[Table, Column] | None:
    found = _parent(catalog, annotations, [images])
    return found if found and find_fields("labels", found[0], _NOT_CONFIGURED).fields.get("name") else None


def _annotation_columns(
    catalog: Catalog, table: Table, images: Table, labels: tuple[Table, Column] | None
) -> list[tuple[Column | None, str]]:
    columns = [*_key(table), (_link(catalog, table, images), "image_id")]
    if labels is not None:
        columns.append((labels[1], "label_id"))
    else:
        columns.append((next(iter(by_names(table, (*LABEL_NAMES, "name", "type"))), None), "label"))
    box, reading = _box(table)
    if reading in _BOX_NAMES and box:
        return [*columns, *zip(box, _BOX_NAMES[reading], strict=True)]
    shapes = by_names(table, GEOMETRY_NAMES)
    return [*columns, (next(iter(shapes), None), "polygon")]
