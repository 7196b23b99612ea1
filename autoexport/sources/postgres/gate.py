"""Checks, by the plan of a query, that it reads only the tables and columns that it names.

`EXPLAIN (VERBOSE)` names the relations of a plan and the columns that each step hands on (manual, "EXPLAIN"). A
scan below a join may list columns that nothing reads; every other step lists only what is needed above it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from autoexport.errors import MappingError
from autoexport.mapping.query_text import called_in, tokens_of
from autoexport.model.catalog import Query
from autoexport.sources.readable_columns import not_declared, of_query

Plan = dict[str, Any]

_PASSING = ("Append", "Merge Append", "Subquery Scan", "Gather", "Gather Merge", "Limit", "Result", "Sort")
"""Steps that hand on what the step below them hands on."""

_SYSTEM = frozenset({"xmin", "xmax", "cmin", "cmax", "ctid", "tableoid"})

# A function or an operator of the database itself replaces a built-in one only if its types are built in.
_OWN = """
SELECT DISTINCT f.name FROM (
  SELECT lower(p.proname::text) AS name, p.pronamespace AS schema,
    pg_catalog.pg_function_is_visible(p.oid) AS visible,
    string_to_array(p.proargtypes::text, ' ')::oid[] AS types
  FROM pg_catalog.pg_proc p
  UNION ALL
  SELECT o.oprname::text, o.oprnamespace, pg_catalog.pg_operator_is_visible(o.oid), ARRAY[o.oprleft, o.oprright]
  FROM pg_catalog.pg_operator o
) f
WHERE f.name = ANY ($1::text[]) AND f.visible AND f.schema <> 'pg_catalog'::regnamespace AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_type t WHERE t.oid = ANY (f.types) AND t.typnamespace <> 'pg_catalog'::regnamespace
)
"""
_OPERATORS = ("||", "=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "^", "->", "->>", "~", "%")


async def refuse_undeclared(connection: AsyncConnection, logical: str, query: Query) -> None:
    """Raise `MappingError` if the query reads a table or a column that it does not name. Raises driver errors."""
    if any(table.kind != "table" for table in query.stored):
        return  # A view reads tables of its own, which the operator named with it.
    readable = of_query(query)
    for sql in (query.sql, *(item.sql for item in query.beside)):
        statement = f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM ({sql}) AS query"  # noqa: S608
        answer = (await connection.exec_driver_sql(statement)).scalar_one()
        [explained] = json.loads(answer) if isinstance(answer, str) else answer
        plan = explained["Plan"]
        relations = {
            node["Alias"]: f"{node['Schema']}.{node['Relation Name']}"
            for node in _nodes(plan)
            if "Relation Name" in node
        }
        for name in relations.values():
            if name not in readable:
                raise not_declared(logical, name, "")
        for alias, column in _columns(plan, joined=False):
            name = relations.get(alias, "")
            if name and column not in readable[name] and column not in _SYSTEM:
                raise not_declared(logical, name, column)


async def refuse_own_functions(connection: AsyncConnection, texts: Sequence[str]) -> None:
    """Raise `MappingError` if the database has functions of its own that these queries of a preset would call."""
    called = sorted(frozenset().union(*(called_in(tokens_of(text)) for text in texts)))
    own: Sequence[Any] = (await connection.exec_driver_sql(_OWN, ([*called, *_OPERATORS],))).all()
    if own:
        raise MappingError(
            f"The preset's queries would call {own[0][0]} of this database, not PostgreSQL's.",
            hint="Drop it, or copy the queries of the preset to autoexport.toml, which makes them yours.",
        )


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _columns(plan: Plan, *, joined: bool) -> Iterator[tuple[str, str]]:
    """Alias and column, or `*`, of all that the steps hand on. `joined`: a step above this one joins or groups."""
    is_scan = "Relation Name" in plan
    if not (is_scan and joined):
        for text in plan.get("Output", ()):
            yield from _references(text)
    joins = joined or plan["Node Type"] not in _PASSING
    for below in plan.get("Plans", ()):
        # A subplan computes a value of its own.
        yield from _columns(
            below, joined=joins and below.get("Parent Relationship") not in ("SubPlan", "InitPlan")
        )


def _references(text: str) -> Iterator[tuple[str, str]]:
    tokens = tokens_of(text)
    for alias, dot, column in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if alias.is_name and dot.is_sign(".") and (column.is_name or column.is_sign("*")):
            yield alias.value, column.value
