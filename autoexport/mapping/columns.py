"""Finds the column of a table for each logical field."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from autoexport.errors import MappingError
from autoexport.mapping.overrides import TableOverride, named_column
from autoexport.mapping.synonyms import (
    BOX_FIELDS,
    BOX_FORMATS,
    BOX_JSON_NAMES,
    BOXES,
    DELETED_KINDS,
    DELETED_NAMES,
    DELETED_TIME_KINDS,
    FIELD_NAMES,
    KEYS,
    KINDS,
    MORE_CORNERS,
    TURN_NAMES,
    WORDED_KINDS,
    is_time_of_deletion,
    key_names,
    plain,
)
from autoexport.model.catalog import Column, Table
from autoexport.model.mapping import BoxReading


@dataclass(slots=True)
class TableFields:
    """The columns found for the logical fields of a table, those that mark deleted rows, and settings."""

    fields: dict[str, Column] = field(default_factory=dict)
    deleted: tuple[Column, ...] = ()
    warnings: list[str] = field(default_factory=list)
    where: str = ""
    expand: str = ""

    def free(self, column: Column) -> bool:
        """Whether the column is not yet the column of a field."""
        return all(column.name != used.name for used in self.fields.values())


def by_names(table: Table, names: Iterable[str]) -> list[Column]:
    """The columns with these names, in the order of the names; exact spellings before other ones."""
    found: dict[str, Column] = {}
    for name in names:
        alike = [column for column in table.columns if plain(column.name) == plain(name)]
        for column in sorted(alike, key=lambda column: column.name != name):
            found.setdefault(column.name, column)
    return list(found.values())


def fits(column: Column, setting: str, *, worded: bool = True) -> bool:
    """Whether the type of the column can hold this field; `worded`: also a number or a flag as text."""
    return column.kind in KINDS[setting] or (worded and column.kind in WORDED_KINDS.get(setting, ()))


def overridden(logical: str, setting: str, table: Table, configured: TableOverride) -> Column | None:
    """The column that the configuration names for a field; None if it names none.

    Raises `MappingError` if the table lacks the column. The same if it is a URL, or if its type does not fit.
    """
    if setting not in configured.columns:
        return None
    column = named_column(logical, setting, table, configured.columns[setting])
    path = f"tables.{logical}.columns.{setting}"
    if is_url(column):
        raise MappingError(
            f"{path}: {column.name!r} is a URL, which may contain a signed token.",
            hint="Name another column, such as a path or a storage key.",
        )
    unfit = setting in WORDED_KINDS and _holds_words(logical, table, column)
    if setting in KINDS and (unfit or not fits(column, setting)):
        raise MappingError(
            f"{path}: the column {column.name!r} is {_type(column)}.",
            hint=f"Name a column of kind {', '.join(sorted(KINDS[setting]))}.",
        )
    return column


def _holds_words(logical: str, table: Table, column: Column) -> bool:
    """Whether a text column has the usual name of a text, such as `filename`: then it holds no number or flag."""
    texts = [names for field, names in FIELD_NAMES[logical].items() if KINDS[field] is KINDS["name"]]
    return column.kind in ("text", "enum") and any(column in by_names(table, names) for names in texts)


def is_url(column: Column) -> bool:
    """Whether a column holds URLs, by its name; these are never published.

    >>> [is_url(Column(name, "text")) for name in ("imageUrl", "signed_URL", "urls", "curl", "luring")]
    [True, True, True, False, False]
    """
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", column.name).lower().split("_")
    return not {"url", "urls", "uri", "uris"}.isdisjoint(words)


def _type(column: Column) -> str:
    return f"of type {column.type_name}" if column.type_name else f"of kind {column.kind}"


# --- keys, fields, deletion marks -----------------------------------------------------------------


def key_column(logical: str, table: Table, configured: TableOverride) -> Column | None:
    """Find the key: the configured column, a primary key of one column, else a column of a conventional name."""
    chosen = overridden(logical, "id", table, configured)
    if chosen is not None:
        return chosen
    names = table.primary_key if len(table.primary_key) == 1 else ()
    declared = [column for column in map(table.column, names) if column is not None]
    named = [column for column in by_names(table, key_names(table.name)) if column.name not in names]
    # A primary key of one column that is unfit to be read as a key is not replaced by another column.
    possible = (column for column in declared or named if column.kind in KEYS and not is_url(column))
    return next(possible, None)


def find_fields(logical: str, table: Table, configured: TableOverride) -> TableFields:
    """Find the key, the fields of `FIELD_NAMES` and the deletion marks; missing fields are absent."""
    found = TableFields(where=configured.where, expand=configured.expand)
    key = key_column(logical, table, configured)
    if key is not None:
        found.fields["id"] = key
        if len(table.primary_key) > 1:
            found.warnings.append(
                f"{table.full_name}: the primary key has several columns ({', '.join(table.primary_key)}); "
                f"rows are distinguished by {key.name} alone."
            )
    settings = FIELD_NAMES[logical]
    if table.query is not None:  # Its columns are called as the fields are.
        settings = {setting: (setting, *names) for setting, names in settings.items()}
    for setting in settings:
        chosen = overridden(logical, setting, table, configured)
        if chosen is not None:
            found.fields[setting] = chosen
    assigned = {name.lower() for name in configured.columns.values()}
    for setting, names in _paired(table, settings).items():
        if setting not in found.fields and setting not in configured.left_out_columns:
            candidates = [column for column in by_names(table, names) if column.name.lower() not in assigned]
            _find_field(logical, setting, candidates, table, found)
    if found.expand and "document" not in found.fields:
        raise MappingError(
            f"tables.{logical}.expand: no column of {table.full_name} is named as its document.",
            hint=f'Name the column of JSON under [tables.{logical}.columns]: document = "<column>".',
        )
    found.deleted = _deleted(logical, table, configured, found)
    return found


def _paired(table: Table, settings: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The names to search; width and height come from the same pair if the table has a complete one."""
    if "width" not in settings:
        return settings
    for pair in zip(settings["width"], settings["height"], strict=True):
        if all(by_names(table, [name]) for name in pair):
            return {**settings, "width": pair[:1], "height": pair[1:]}
    return settings


def _find_field(logical: str, setting: str, candidates: list[Column], table: Table, found: TableFields) -> None:
    # A foreign key holds the key of another table, not a time, a name or a flag; as text it may be a word.
    referring = {name for key in table.foreign_keys for name in key.columns}
    candidates = [
        column
        for column in candidates
        if (
            found.free(column)
            or (column is found.fields.get("id") and setting in ("name", "filename", "file_path"))
        )
        and (column.name not in referring or column.kind in ("text", "enum") or setting == "model_id")
    ]
    fitting = [column for column in candidates if fits(column, setting, worded=False)]
    # A text called `size` may hold "1.2 MB" or "640x480"; the other names say what they count.
    fitting += [column for column in candidates if fits(column, setting) and plain(column.name) != "size"]
    if fitting:
        found.fields[setting] = fitting[0]
    elif candidates:
        unfit = candidates[0]
        if setting == "is_labeled" and plain(unfit.name) == plain(setting) and unfit.kind != "opaque":
            found.fields[setting] = unfit  # Unreadable values are null: nothing is derived in their place.
            return
        found.warnings.append(
            f"{logical}.{setting}: {table.full_name}.{unfit.name} is {_type(unfit)} and is not read."
        )


def _deleted(logical: str, table: Table, configured: TableOverride, found: TableFields) -> tuple[Column, ...]:
    if "deleted" in configured.left_out_columns:
        return ()
    chosen = overridden(logical, "deleted", table, configured)
    marks = []
    for column in [chosen] if chosen is not None else by_names(table, DELETED_NAMES):
        is_time = is_time_of_deletion(column.name)
        unfit = chosen is not None and not is_time and _holds_words(logical, table, column)
        if not unfit and column.kind in (DELETED_TIME_KINDS if is_time else DELETED_KINDS):
            marks.append(column)
        elif chosen is not None:
            raise MappingError(
                f"tables.{logical}.columns.deleted: the column {column.name!r} is {_type(column)}.",
                hint="Name a time, a boolean, a number or a text of words such as yes and no.",
            )
        else:
            found.warnings.append(
                f"{table.full_name}.{column.name} is {_type(column)} and is not read: rows that it marks as "
                f"deleted are exported."
            )
    return tuple(marks)


# --- boxes ---------------------------------------------------------------------------------------


def find_box(table: Table, configured: TableOverride) -> tuple[dict[str, Column], BoxReading | None]:
    """Find the columns of the box and how they are read; four columns take precedence over one of JSON.

    Raises `MappingError` if the configuration names only some of the four columns, or no `box_format` for them.
    """
    chosen = {
        setting: column
        for setting in (*BOX_FIELDS, "box_json")
        if (column := overridden("annotations", setting, table, configured)) is not None
    }
    if "box_json" in chosen and len(chosen) == 1:
        return chosen, "json"
    if chosen:
        if set(chosen) != set(BOX_FIELDS) or configured.box_format is None:
            raise MappingError(
                f"tables.annotations.columns names {', '.join(chosen)}: a box needs box_0 to box_3 and a "
                "box_format, or box_json alone.",
                hint=f"Name all four and set box_format to one of {', '.join(BOX_FORMATS)}.",
            )
        return chosen, BOX_FORMATS[configured.box_format]
    if not set(BOX_FIELDS) & configured.left_out_columns:
        for worded, (reading, names) in product((False, True), BOXES):
            if names[0].endswith("x1") and by_names(table, [names[0][:-1] + "3"]):
                continue  # The first two of four corners are no box.
            columns = [_length(table, name, worded=worded) for name in names]
            if all(columns):
                found = {key: column for key, column in zip(BOX_FIELDS, columns, strict=True) if column}
                return found, _box_reading(reading, names, configured)
    if "box_json" not in configured.left_out_columns:
        for column in by_names(table, BOX_JSON_NAMES):
            if fits(column, "box_json"):
                return {"box_json": column}, "json"
    return {}, None


def box_warnings(table: Table, box: Iterable[str], *, turned: bool = False) -> list[str]:
    """Warnings about columns that say more of a box than the four that are read; `box` are the fields found.

    `turned`: the rotation of the boxes is read.
    """
    if "box_0" in box and turned:
        return []
    if "box_0" in box:
        return [
            f"{table.full_name}.{column.name} is not read: turned boxes are exported as if they were not turned "
            f"(tables.annotations.columns.rotation reads degrees clockwise about the centre)."
            for column in by_names(table, TURN_NAMES)
            if fits(column, "box_0")
        ]
    return [
        f"{table.full_name}.{column.name} is not read: a shape of more than two corners is no box."
        for column in by_names(table, MORE_CORNERS)
    ]


def _length(table: Table, name: str, *, worded: bool) -> Column | None:
    """The column of this name if it may be a coordinate or a length: a number outside the primary key."""
    named = [column for column in by_names(table, [name]) if column.name not in table.primary_key]
    return next((column for column in named if fits(column, "box_0", worded=worded)), None)


def unread_boxes(table: Table, configured: TableOverride) -> list[str]:
    """Warnings about columns that are named like a box, but whose type cannot hold one."""
    if "box_json" in configured.left_out_columns:
        return []
    return [
        f"annotations.box_json: {table.full_name}.{column.name} is {_type(column)} and is not read."
        for column in by_names(table, BOX_JSON_NAMES)
        if not fits(column, "box_json")
    ]


def _box_reading(by_name: BoxReading, names: tuple[str, ...], configured: TableOverride) -> BoxReading:
    assigned = BOX_FORMATS[configured.box_format] if configured.box_format else by_name
    # Some applications keep the centre in x and y; the other names are unambiguous.
    if assigned == by_name or (by_name == "origin" and assigned == "center"):
        return assigned
    raise MappingError(
        f"tables.annotations.box_format is {configured.box_format!r}, but {', '.join(names)} are {by_name}.",
        hint="Remove box_format, or name the columns as box_0 to box_3, or the JSON column as box_json.",
    )
