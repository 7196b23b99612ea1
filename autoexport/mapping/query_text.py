"""Splits the text of an SQL query into tokens, and tells which names and functions it uses.

It knows the lexical rules that SQLite and PostgreSQL share (sqlite.org/lang_expr.html; manual, "Lexical
Structure"). It never rejects a query: the database does that. It errs to the safe side: it finds too many names,
never too few.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`)
    |(?P<name>[^\W\d][\w$]*)
    |(?P<number>\d[\w.]*)
    |(?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_MOMENT = frozenset(
    {
        "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_user", "user",
        "session_user", "current_role", "current_catalog", "current_schema", "tablesample",
    }
)  # fmt: skip
_SQLITE_CHANGING = frozenset({"random", "randomblob", "changes", "total_changes", "last_insert_rowid"})
_SQLITE_TIMES = frozenset({"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"})

_NO_CALLS = frozenset(
    {
        "and", "any", "array", "as", "between", "by", "case", "cast", "cross", "distinct", "else", "except",
        "exists", "filter", "from", "having", "in", "intersect", "is", "join", "like", "not", "null", "on", "or",
        "over", "row", "select", "some", "then", "union", "using", "values", "when", "where", "with", "all",
        "lateral", "limit", "offset", "interval", "end", "ilike", "glob", "within", "group", "order", "partition",
        "materialized",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """A token, with its first offset in the text and the offset after it.

    A `name` is in lower case unless it was quoted. `quoted` names are never keywords.
    """

    kind: Literal["name", "quoted", "text", "number", "sign"]
    value: str
    start: int = 0
    end: int = 0

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords, given in lower case."""
        return self.kind == "name" and self.value in words

    def is_sign(self, sign: str) -> bool:
        """Whether this is this character."""
        return self.kind == "sign" and self.value == sign

    @property
    def is_name(self) -> bool:
        """Whether this may be the name of a table, a column or a function."""
        return self.kind in ("name", "quoted")


def tokens_of(sql: str) -> list[Token]:
    """The tokens of a text, without space and comments.

    >>> [token.value for token in tokens_of('SELECT "A"."b" -- c' + chr(10) + "FROM t WHERE x = 'it''s'")]
    ['select', 'A', '.', 'b', 'from', 't', 'where', 'x', '=', "it's"]
    """
    tokens = []
    for match in _TOKEN.finditer(sql):
        kind, text, span = match.lastgroup, match.group(), match.span()
        if match["text"] is not None:
            tokens.append(Token("text", text[1:-1].replace("''", "'"), *span))
        elif match["quoted"] is not None:
            tokens.append(Token("quoted", text[1:-1].replace(text[0] * 2, text[0]), *span))
        elif kind == "name":
            tokens.append(Token("name", text.lower(), *span))
        elif kind in ("number", "sign"):
            tokens.append(Token("number" if kind == "number" else "sign", text, *span))
    return tokens


def names_in(tokens: Iterable[Token]) -> frozenset[str]:
    """Every word that may be a name, in lower case."""
    return frozenset(token.value.lower() for token in tokens if token.is_name)


def called_in(tokens: Sequence[Token]) -> frozenset[str]:
    """The functions that a text calls, in lower case: words before an opening parenthesis, except keywords.

    >>> sorted(called_in(tokens_of("SELECT max(a), lower (b) FROM t WHERE c IN (1, 2)")))
    ['lower', 'max']
    """
    return frozenset(
        token.value.lower()
        for token, following in itertools.pairwise(tokens)
        if token.is_name and following.is_sign("(") and not (token.kind == "name" and token.value in _NO_CALLS)
    )


def of_the_moment(tokens: Sequence[Token]) -> str:
    """A word by which the result of a query may change while its tables do not; empty if there is none.

    It knows the keywords of both databases and the functions of SQLite. PostgreSQL declares those that change.
    """
    calls = called_in(tokens)
    has_now = any(token.kind == "text" and token.value.strip().lower() == "now" for token in tokens)
    without_time = _calls_without_arguments(tokens)
    for token in tokens:
        word = token.value.lower()
        if token.kind == "name" and word in _MOMENT:
            return word
        if word in calls & _SQLITE_CHANGING or (
            word in calls & _SQLITE_TIMES and (has_now or word in without_time)
        ):
            return word
    return ""


def _calls_without_arguments(tokens: Sequence[Token]) -> frozenset[str]:
    triples = zip(tokens, tokens[1:], tokens[2:], strict=False)
    return frozenset(
        name.value.lower() for name, opened, closed in triples if opened.is_sign("(") and closed.is_sign(")")
    )


def bare(sql: str) -> str:
    """A query without the semicolon and the space at its end, so that it can stand in parentheses.

    A line break follows, which ends a comment.

    >>> bare("SELECT 1 ;  ")
    'SELECT 1\\n'
    """
    return sql.strip().rstrip(";").rstrip() + "\n"
