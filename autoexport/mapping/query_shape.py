"""Proves that every row of a query comes from at most one row of each table that the query joins.

Such a query selects, projects, joins and unites (UNION ALL). Take a row of its result that is new or different.
Then a row of one of its tables is new or different, and the result keeps the row if only that table's changed
rows are read. Tables that are read in a subquery of an expression, or by an outer join, are `indirect`: their
rows do not make rows of the result but change the values in them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence

from autoexport.mapping.query_text import Token
from autoexport.mapping.query_trace import Arm, Shape

AGGREGATES = frozenset(
    {
        "count", "sum", "avg", "total", "group_concat", "string_agg", "array_agg", "json_agg", "jsonb_agg",
        "json_object_agg", "jsonb_object_agg", "json_group_array", "json_group_object", "jsonb_group_array",
        "jsonb_group_object", "bool_and", "bool_or", "every", "bit_and", "bit_or", "xmlagg", "any_value", "mode",
        "percentile_cont", "percentile_disc", "range_agg", "stddev", "variance", "corr", "rank",
    }
)  # fmt: skip
"""Functions that make one value of many rows. Those of PostgreSQL beyond these are asked of the server."""

_BREAKING = (
    "group", "having", "window", "limit", "offset", "fetch", "except", "intersect", "order", "for", "over",
    "filter", "within",
)  # fmt: skip
_JOINING = ("join", "inner", "cross", "left", "right", "full", "outer", "natural")


class NotFollowed(Exception):
    """The changed rows of single tables do not show all changed rows of a query; the message says why."""


def followed(
    tokens: Sequence[Token], tables: Collection[str], covered: Collection[str], aggregates: Collection[str] = ()
) -> Shape:
    """The tables of a query whose changed rows show all its changed rows. Raises `NotFollowed` if they do not.

    `tables` are the names of all tables, in lower case. `covered` are those whose changes other queries find.
    `aggregates` are functions beside `AGGREGATES` that make one value of many rows.
    """
    reader = _Reader(tokens, frozenset(tables), AGGREGATES | frozenset(aggregates))
    shape = reader.query()
    if reader.index < len(tokens):
        raise NotFollowed(f"it has {reader.peek_text()}")
    for name, count in shape.direct.items():
        if count > 1:
            raise NotFollowed(f"it joins {name} twice")
        if name in shape.filtering:
            raise NotFollowed(f"it joins {name} and reads it in a condition or an outer join as well")
    if uncovered := sorted((shape.indirect | shape.filtering) - set(covered)):
        raise NotFollowed(f"it reads {uncovered[0]} in a subquery or an outer join, and no query beside it does")
    return shape


class _Reader:
    """A recursive descent over the tokens."""

    def __init__(self, tokens: Sequence[Token], tables: frozenset[str], aggregates: frozenset[str]) -> None:
        self.tokens = tokens
        self.index = 0
        self._tables = tables
        self._aggregates = aggregates

    # --- tokens ----------------------------------------------------------------------------------

    def peek(self, ahead: int = 0) -> Token:
        place = self.index + ahead
        return self.tokens[place] if 0 <= place < len(self.tokens) else Token("sign", "")

    def peek_text(self) -> str:
        return self.peek().value.upper() or "no end"

    def take(self) -> Token:
        token = self.peek()
        self.index += 1
        return token

    def accept(self, *words: str) -> bool:
        if self.peek().is_word(*words):
            self.index += 1
            return True
        return False

    def accept_sign(self, sign: str) -> bool:
        if self.peek().is_sign(sign):
            self.index += 1
            return True
        return False

    def require_sign(self, sign: str) -> None:
        if not self.accept_sign(sign):
            raise NotFollowed(f"it has {self.peek_text()} where {sign} was expected")

    # --- queries ---------------------------------------------------------------------------------

    def query(self) -> Shape:
        """One or more arms of UNION ALL."""
        return self._query()[0]

    def _query(self) -> tuple[Shape, list[Arm]]:
        shape, arm = self._arm()
        arms = [arm]
        while self.accept("union"):
            if not self.accept("all"):
                raise NotFollowed("it has UNION without ALL")
            other, arm = self._arm()
            shape.unite(other)
            arms.append(arm)
        if len(arms) > 1:
            shape.unions.append(arms)
        return shape, arms

    def _arm(self) -> tuple[Shape, Arm]:
        if self.accept_sign("("):
            shape, arms = self._query()
            self.require_sign(")")
            return shape, Arm(frozenset(shape.direct), inside=arms)
        if not self.accept("select"):
            raise NotFollowed(f"it has {self.peek_text()} where SELECT was expected")
        if self.peek().is_word("distinct"):
            raise NotFollowed("it has DISTINCT")
        self.accept("all")
        shape = Shape()
        self._expression(shape.indirect, lambda token: token.is_word("from", "where"))
        if self.accept("from"):
            shape.join(self._items())
        where = self.peek(-1).end if self.accept("where") else None
        if where is not None:
            self._expression(shape.filtering, lambda token: False)
        return shape, Arm(frozenset(shape.direct), where, self.peek(-1).end)

    def _expression(self, subquery_tables: set[str], ends: Callable[[Token], bool]) -> None:
        """Read up to a token that ends it. Tables of subqueries go into `subquery_tables`."""
        depth = 0
        while self.index < len(self.tokens):
            token = self.peek()
            following = self.peek(1)
            if token.is_sign("(") and following.is_word("select", "with", "values"):
                subquery_tables |= self._skip_subquery()
                continue
            if token.is_sign("("):
                depth += 1
            elif token.is_sign(")"):
                if depth == 0:
                    return
                depth -= 1
            elif depth == 0 and (ends(token) or token.is_word("union")):
                return
            elif token.is_word("distinct") and following.is_word("from"):
                self.index += 1
            elif token.is_word(*_BREAKING) and not (depth and token.is_word("for")):
                raise NotFollowed(f"it has {token.value.upper()}")
            elif token.is_name and following.is_sign("(") and self._is_aggregate(token):
                raise NotFollowed(f"it has {token.value}()")
            self.index += 1

    def _is_aggregate(self, token: Token) -> bool:
        name = token.value.lower()
        # SQLite's min and max of several values are no aggregates.
        return name in self._aggregates or (name in ("min", "max") and not self._has_comma(self.index + 1))

    def _has_comma(self, opened: int) -> bool:
        depth = 0
        for token in self.tokens[opened:]:
            depth += token.is_sign("(") - token.is_sign(")")
            if depth == 0:
                return False
            if depth == 1 and token.is_sign(","):
                return True
        return False

    def _skip_subquery(self) -> set[str]:
        """Skip a parenthesis, and return the tables that it names."""
        depth, names = 0, set()
        while self.index < len(self.tokens):
            token = self.take()
            depth += token.is_sign("(") - token.is_sign(")")
            if token.is_name and token.value.lower() in self._tables and not self._is_qualified():
                names.add(token.value.lower())
            if depth == 0:
                break
        return names

    def _is_qualified(self) -> bool:
        """Whether the token just taken stands before or after the dot of a column, so that it names no table."""
        if self.peek().is_sign("."):
            return True
        dot, opening = self.peek(-2), self.peek(-4)
        return dot.is_sign(".") and not (opening.is_word("from", "join") or opening.is_sign(","))

    # --- FROM ------------------------------------------------------------------------------------

    def _items(self) -> Shape:
        shape = self._item()
        while True:
            if self.accept_sign(","):
                shape.join(self._item())
            elif self.peek().is_word(*_JOINING):
                outer = self._join_words()
                item = self._item()
                if outer:
                    shape.filtering |= {*item.direct, *item.indirect, *item.filtering}
                else:
                    shape.join(item)
                if self.accept("on"):
                    self._expression(
                        shape.filtering, lambda token: token.is_sign(",") or token.is_word("where", *_JOINING)
                    )
                elif self.accept("using"):
                    self._skip_subquery()
            else:
                return shape

    def _join_words(self) -> bool:
        outer = False
        while self.peek().is_word(*_JOINING):
            word = self.take().value
            if word in ("right", "full"):
                raise NotFollowed(f"it has {word.upper()} JOIN")
            outer = outer or word == "left"
            if word == "join":
                break
        return outer

    def _item(self) -> Shape:
        self.accept("lateral")
        shape = self._parenthesis() if self.peek().is_sign("(") else self._named()
        self._alias()
        return shape

    def _parenthesis(self) -> Shape:
        names = self._tables_ahead()
        if not names:  # A function of the row alone: any shape will do.
            self._skip_subquery()
            return Shape()
        self.require_sign("(")
        inner = self.query() if self.peek().is_word("select") or self.peek().is_sign("(") else self._items()
        self.require_sign(")")
        return inner

    def _tables_ahead(self) -> set[str]:
        start = self.index
        names = self._skip_subquery()
        self.index = start
        return names

    def _named(self) -> Shape:
        token = self.take()
        if token.is_word("only"):
            raise NotFollowed("it has ONLY")
        if not token.is_name:
            raise NotFollowed(f"it has {token.value} in FROM")
        if self.peek().is_sign("."):
            raise NotFollowed(f"it names the schema {token.value}")
        if self.peek().is_sign("("):
            if names := self._tables_ahead():
                raise NotFollowed(f"it calls a function with {min(names)} in FROM")
            self._skip_subquery()
            if self.accept("with"):
                self.accept("ordinality")
            return Shape()
        if token.value.lower() not in self._tables:
            raise NotFollowed(f"it reads {token.value}, which is no table")
        return Shape(Counter([token.value.lower()]))

    def _alias(self) -> None:
        named = self.accept("as")
        if named or (self.peek().is_name and not self._ends_item(self.peek())):
            self.take()
            if self.peek().is_sign("("):
                self._skip_subquery()

    @staticmethod
    def _ends_item(token: Token) -> bool:
        return token.is_word("on", "using", "where", "union", *_JOINING, *_BREAKING)
