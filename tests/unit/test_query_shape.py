"""Which queries can be followed by the changed rows of their tables, and which cannot."""

from __future__ import annotations

import pytest

from autoexport.mapping.query_shape import NotFollowed, followed
from autoexport.mapping.query_text import of_the_moment, tokens_of
from autoexport.mapping.query_trace import only_arms_of

TABLES = ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("sql", "joined"),
    [
        ("SELECT id FROM a", {"a"}),
        ("SELECT x.id, max(1, y.v) FROM a x JOIN b AS y ON y.a = x.id WHERE y.v > 3", {"a", "b"}),
        ("SELECT id FROM a UNION ALL SELECT id FROM a WHERE v IS DISTINCT FROM 3", {"a"}),
        ("SELECT q.id FROM (SELECT id FROM a UNION ALL SELECT id FROM b) q, c WHERE q.id = c.id", {"a", "b", "c"}),
        ("SELECT a.id, (SELECT count(*) FROM c WHERE c.a = a.id) FROM a", {"a"}),
        ("SELECT a.id FROM a LEFT JOIN c ON c.a = a.id", {"a"}),
        ("SELECT a.id FROM a WHERE EXISTS (SELECT 1 FROM c WHERE c.a = a.id)", {"a"}),
        (
            "SELECT a.id, s.p FROM a CROSS JOIN LATERAL (SELECT max(o) AS p FROM series(a.v) o) s",
            {"a"},
        ),
        ("SELECT a.id, substring(a.v from 2 for 3) FROM (a JOIN b USING (id))", {"a", "b"}),
        ("SELECT \"a\".id, ':x', 'it''s FROM d' FROM \"a\" -- FROM b\n/* c */", {"a"}),
    ],
)
def test_followed(sql: str, joined: set[str]) -> None:
    """The tables whose rows make the rows of the result; `c` has a query beside."""
    assert set(followed(tokens_of(sql), TABLES, ("c",)).direct) == joined


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT DISTINCT id FROM a", "DISTINCT"),
        ("SELECT id FROM a UNION SELECT id FROM b", "UNION without ALL"),
        ("SELECT id FROM a EXCEPT SELECT id FROM b", "EXCEPT"),
        ("SELECT v, count(*) FROM a GROUP BY v", "count"),
        ("SELECT max(v) FROM a", "max"),
        ("SELECT v FROM a ORDER BY v LIMIT 3", "ORDER"),
        ("SELECT v, row_number() OVER (ORDER BY v) FROM a", "OVER"),
        ("WITH q AS (SELECT * FROM a) SELECT * FROM q", "WITH"),
        ("SELECT x.id FROM a x JOIN a y ON x.id = y.v", "joins a twice"),
        ("SELECT id FROM a WHERE v IN (SELECT v FROM d)", "reads d in a subquery"),
        ("SELECT a.id FROM a LEFT JOIN d ON d.a = a.id", "reads d in a subquery or an outer join"),
        ("SELECT a.id FROM a WHERE NOT EXISTS (SELECT 1 FROM a x WHERE x.v = a.id)", "in a condition"),
        ("SELECT a.id FROM a FULL JOIN b ON b.id = a.id", "FULL JOIN"),
        ("SELECT id FROM public.a", "names the schema public"),
        ("SELECT id FROM other", "reads other"),
        ("SELECT q.v FROM (SELECT count(*) AS v FROM a) q", "count"),
        ("VALUES (1)", "VALUES"),
    ],
)
def test_not_followed(sql: str, reason: str) -> None:
    """The reason names the word or the table."""
    with pytest.raises(NotFollowed, match=reason):
        followed(tokens_of(sql), TABLES, ("c",))


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT id, random() FROM a", "random"),
        ("SELECT id, CURRENT_TIMESTAMP FROM a", "current_timestamp"),
        ("SELECT id, datetime('now') FROM a", "datetime"),
        ("SELECT id, date() FROM a", "date"),
        ("SELECT id, date(created) FROM a", ""),
        ('SELECT id, "current_date", random FROM a', ""),
    ],
)
def test_words_of_the_moment(sql: str, word: str) -> None:
    """A query that uses the time or a random number gives other rows from the same tables."""
    assert of_the_moment(tokens_of(sql)) == word


@pytest.mark.parametrize(
    ("sql", "traced"),
    [
        ("SELECT id FROM a UNION ALL SELECT id FROM b", "SELECT id FROM a UNION ALL SELECT id FROM b WHERE 1 = 0"),
        (
            "(SELECT id FROM b WHERE x OR y) UNION ALL SELECT id FROM a JOIN b USING (id)",
            "(SELECT id FROM b WHERE 1 = 0 AND ( x OR y)) UNION ALL SELECT id FROM a JOIN b USING (id)",
        ),
        (
            "SELECT q.id FROM (SELECT id FROM a UNION ALL SELECT id FROM b) q JOIN d ON d.id = q.id",
            "SELECT q.id FROM (SELECT id FROM a UNION ALL SELECT id FROM b WHERE 1 = 0) q JOIN d ON d.id = q.id",
        ),
        (
            "SELECT q.id FROM (SELECT id FROM d UNION ALL SELECT id FROM b) q JOIN a ON a.id = q.id",
            "SELECT q.id FROM (SELECT id FROM d UNION ALL SELECT id FROM b) q JOIN a ON a.id = q.id",
        ),
        ("SELECT id FROM a", "SELECT id FROM a"),
    ],
)
def test_arms_without_a_table(sql: str, traced: str) -> None:
    """Arms without the table are false where another arm has it, and stay where none has."""
    shape = followed(tokens_of(sql), TABLES, ())
    assert only_arms_of(sql, shape.unions, "a") == traced
