"""Quotes names of tables and columns in statements that an operator is to execute."""

from __future__ import annotations

import re

from autoexport.model.catalog import Table

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_WORDS = """
add after all alter analyse analyze and any array as asc asymmetric attach authorization autoincrement
before begin between binary both by cascade case cast check collate column commit conflict constraint
create cross current_catalog current_date current_role current_schema current_time current_timestamp
current_user database default deferrable deferred delete desc detach distinct do drop each else end
escape except exclusive exists explain fail false fetch for foreign freeze from full glob grant group
having if ignore ilike immediate in index indexed initially inner insert instead intersect into is isnull
join key leading left like limit localtime localtimestamp match natural new not notnull null of off
offset old on only or order outer over overlaps placing plan pragma primary query raise references
reindex rename replace restrict returning right rollback row select session_user set similar some
symmetric table temp temporary then to trailing transaction trigger true union unique update user using
vacuum values variadic verbose view virtual when where window with
"""
"""Reserved words of PostgreSQL (manual, appendix C) and of SQLite (https://www.sqlite.org/lang_keywords.html)."""

_RESERVED = frozenset(_WORDS.split())


def quoted(name: str) -> str:
    """The name as both databases read it: in quotes if it has capitals or other characters, or is reserved.

    >>> [quoted(name) for name in ("image_id", "datasetId", "order", 'a"b')]
    ['image_id', '"datasetId"', '"order"', '"a""b"']
    """
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def quoted_table(table: Table, name: str | None = None) -> str:
    """The name of a table, or another `name` in its place, with the schema of the table."""
    own = quoted(name or table.name)
    return f"{quoted(table.schema)}.{own}" if table.schema else own
