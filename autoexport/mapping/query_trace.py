"""Records the tables and the arms of a query, and makes a text that gives at least its rows from one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Arm:
    """A part of UNION ALL: its tables, and where a condition can be added to it.

    `where` is the offset after the word WHERE, None if it has none, and `end` the offset after the arm. An arm in
    parentheses has the arms `inside` it in place of both.
    """

    tables: frozenset[str]
    where: int | None = None
    end: int = 0
    inside: list[Arm] = field(default_factory=list)


@dataclass(slots=True)
class Shape:
    """The tables of a query, in lower case as the text names them.

    `direct` has the most occurrences of each joined table in one arm. `indirect` are the tables of subqueries in
    the selected values. `filtering` are those of subqueries in conditions and of outer joins. `unions` are the
    arms of each UNION ALL.
    """

    direct: Counter[str] = field(default_factory=Counter)
    indirect: set[str] = field(default_factory=set)
    filtering: set[str] = field(default_factory=set)
    unions: list[list[Arm]] = field(default_factory=list)

    def join(self, other: Shape) -> None:
        """Add a joined part."""
        self.direct.update(other.direct)
        self._add_subqueries(other)

    def unite(self, other: Shape) -> None:
        """Add an arm of UNION ALL."""
        self.direct |= other.direct
        self._add_subqueries(other)

    def _add_subqueries(self, other: Shape) -> None:
        self.indirect |= other.indirect
        self.filtering |= other.filtering
        self.unions += other.unions


def only_arms_of(sql: str, unions: Sequence[Sequence[Arm]], table: str) -> str:
    """The query, in which an arm without this table (in lower case) is false if another arm of its union has it.

    The columns and their types stay, because no arm is taken out.
    """
    edits = [
        edit
        for arms in unions
        if any(table in arm.tables for arm in arms)
        for arm in arms
        if table not in arm.tables
        for edit in _emptied(arm)
    ]
    for offset, text in sorted(edits, key=lambda edit: -edit[0]):
        sql = sql[:offset] + text + sql[offset:]
    return sql


def _emptied(arm: Arm) -> Iterator[tuple[int, str]]:
    """Insertions, by offset, that make an arm give no row."""
    if arm.inside:
        for inner in arm.inside:
            yield from _emptied(inner)
    elif arm.where is None:
        yield arm.end, " WHERE 1 = 0"
    else:
        yield arm.end, ")"
        yield arm.where, " 1 = 0 AND ("
