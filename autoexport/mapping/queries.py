"""Reads queries in place of tables from the configuration, and finds out what each of them reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field

from autoexport.errors import ConfigurationError, MappingError
from autoexport.mapping.query_shape import NotFollowed, followed
from autoexport.mapping.query_text import Token, bare, called_in, names_in, of_the_moment, tokens_of
from autoexport.mapping.query_trace import Shape, only_arms_of
from autoexport.model.catalog import Catalog, Column, Query, QueryBeside, Table

DIALECTS = ("sqlite", "postgresql")

QUERY_SETTINGS = ("query", "reads", "beside")

_ROW_NAMES = frozenset({"rowid", "_rowid_", "xmin", "xmax", "ctid", "tableoid"})
"""Columns that rows have by themselves. A query of the changed rows alone lacks them."""

_TITLES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class QueryOverride:
    """The query of a logical table, by dialect, as the configuration gives it.

    `reads` names tables, and columns as `table.column`; if it is empty, the query may read the tables that it
    names. `beside` are queries of the keys of images, by dialect.
    """

    texts: dict[str, str]
    reads: tuple[str, ...] = ()
    beside: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_query(logical: str, configured: ReadOnly[object, object]) -> QueryOverride | None:
    """The query of a `[tables.X]` section; None if it has none. Raises `ConfigurationError` for a wrong value."""
    setting = f"tables.{logical}"
    given = [name for name in QUERY_SETTINGS if name in configured]
    if not given:
        return None
    if "query" not in configured:
        raise ConfigurationError(
            f"{setting}.{given[0]} belongs to a query, and there is none.", hint=f"Give {setting}.query as well."
        )
    if "table" in configured or "schema" in configured:
        raise ConfigurationError(f"{setting} has a table and a query.", hint="Remove one of the two.")
    texts = _by_dialect(f"{setting}.query", configured["query"])
    for dialect, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise ConfigurationError(f"{setting}.query.{dialect} is {text!r}.", hint="Give a SELECT in quotes.")
    beside = _by_dialect(f"{setting}.beside", configured.get("beside", []))
    return QueryOverride(
        {dialect: str(text) for dialect, text in texts.items()},
        _texts(f"{setting}.reads", configured.get("reads", [])),
        {dialect: _texts(f"{setting}.beside", listed) for dialect, listed in beside.items()},
    )


def _by_dialect(setting: str, value: object) -> dict[str, object]:
    if not isinstance(value, ReadOnly):
        return dict.fromkeys(DIALECTS, value)
    for dialect in value:
        if dialect not in DIALECTS:
            raise ConfigurationError(
                f"{setting}.{dialect} is not a setting.", hint=f"Allowed: {', '.join(DIALECTS)}."
            )
    return dict(value)


def _texts(setting: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value):
        return tuple(value)
    raise ConfigurationError(f"{setting} is {value!r}.", hint="Allowed: a list of texts.")


# --- what a query reads --------------------------------------------------------------------------


def make_query(
    logical: str,
    override: QueryOverride,
    catalog: Catalog,
    dialect: str,
    aggregates: Collection[str] = (),
) -> Query:
    """The query for this kind of database. `aggregates` are its functions that make one value of many rows.

    Raises `MappingError` if there is none for it, or if `reads` names a table that does not exist.
    """
    if dialect not in override.texts:
        title, other = _TITLES[dialect], _TITLES[next(iter(override.texts))]
        raise MappingError(
            f"tables.{logical}.query is for {other}, and this is {title}.",
            hint=f"Give tables.{logical}.query.{dialect} as well.",
        )
    sql = bare(override.texts[dialect])
    beside = [bare(text) for text in override.beside.get(dialect, ())]
    tokens, tokens_beside = tokens_of(sql), [tokens_of(text) for text in beside]
    names = names_in(tokens).union(*map(names_in, tokens_beside))
    named = _named_in(names, catalog)
    declared, columns = _declared(logical, override.reads, catalog)
    reason, shapes = _follow(tokens, tokens_beside, catalog, aggregates)
    known: list[Shape | None] = [*shapes] or [None] * (1 + len(beside))
    main, *others = known
    return Query(
        sql=sql,
        stored=tuple(dict.fromkeys((*named, *declared))),
        traces=_traces(sql, main, named),
        columns={
            table.full_name: tuple(
                column.name
                for column in table.columns
                if column.name.lower() in names or (table.full_name, column.name.lower()) in columns
            )
            for table in declared or named
        },
        beside=tuple(
            QueryBeside(text, tuple(joined), Column("image_id", "other"), _traces(text, shape, joined))
            for text, shape, found in zip(beside, others, tokens_beside, strict=True)
            for joined in [_named_in(names_in(found), catalog)]
        ),
        obstacle=reason,
        changing=next(filter(None, map(of_the_moment, (tokens, *tokens_beside))), ""),
    )


def _named_in(names: Collection[str], catalog: Catalog) -> list[Table]:
    return [table for table in catalog.tables if table.name.lower() in names]


def _declared(logical: str, reads: Sequence[str], catalog: Catalog) -> tuple[list[Table], set[tuple[str, str]]]:
    """The tables that `reads` names, and its columns as full name of the table and name in lower case."""
    tables: list[Table] = []
    columns: set[tuple[str, str]] = set()
    for name in reads:
        whole, _, column = name.rpartition(".")
        found = _named(catalog, name)
        if not found and whole:
            found = [table for table in _named(catalog, whole) if column == "*" or table.column(column)]
            every = {(table.full_name, item.name.lower()) for table in found for item in table.columns}
            columns |= every if column == "*" else {(table.full_name, column.lower()) for table in found}
        if not found:
            raise MappingError(
                f"tables.{logical}.reads: there is no table {name!r}.",
                hint="Name the tables that the query reads, or leave out reads.",
            )
        tables += [table for table in found if table not in tables]
    return tables, columns


def _named(catalog: Catalog, name: str) -> list[Table]:
    wanted = name.lower()
    return [table for table in catalog.tables if wanted in (table.name.lower(), table.full_name.lower())]


def _traces(sql: str, shape: Shape | None, tables: Iterable[Table]) -> dict[str, str]:
    """By full name of each table that makes rows of a query, a text that gives at least its rows from that
    table.
    """
    if shape is None:
        return {}
    return {
        table.full_name: only_arms_of(sql, shape.unions, table.name.lower())
        for table in tables
        if table.name.lower() in shape.direct
    }


def _follow(
    tokens: Sequence[Token], beside: Sequence[Sequence[Token]], catalog: Catalog, aggregates: Collection[str]
) -> tuple[str, list[Shape]]:
    """Why changes of single rows cannot be followed, empty if they can.

    Then the shapes of the query and of those beside it follow.
    """
    tables = Counter(table.name.lower() for table in catalog.tables)
    names = names_in(tokens).union(*map(names_in, beside))
    if double := sorted(name for name in names if tables[name] > 1):
        return f"several schemas have a table {double[0]}", []
    if hidden := sorted(names & _ROW_NAMES):
        return f"it names {hidden[0]}", []
    try:
        others = [followed(text, tables, (), aggregates) for text in beside]
        covered = frozenset[str]().union(*(shape.direct for shape in others))
        return "", [followed(tokens, tables, covered, aggregates), *others]
    except NotFollowed as reason:
        return str(reason), []


def functions(query: Query) -> frozenset[str]:
    """The functions that a query and those beside it call, in lower case."""
    return frozenset().union(
        *(called_in(tokens_of(text)) for text in (query.sql, *(item.sql for item in query.beside)))
    )
