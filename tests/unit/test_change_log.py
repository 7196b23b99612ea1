"""changes.jsonl: its lines, and the sum of several of them."""

from __future__ import annotations

import json

import pytest

from autoexport.overview.change_log import (
    GENERATIONS,
    MOST_BYTES,
    MOST_IDS,
    TABLES,
    Difference,
    compare,
    full_line,
    line,
    since,
    with_line,
)

STAMP = "2026-03-31T12:00:00Z"


def logged(generation: int, added: str = "", changed: str = "", removed: str = "") -> bytes:
    """A line about images whose ids are the words of the texts."""
    found = {table: Difference() for table in TABLES}
    ids = ([f'"{word}"'.encode() for word in text.split()] for text in (added, changed, removed))
    found["images"] = Difference(*ids)
    return line(generation, STAMP, found)


def images(text: bytes, generation: int, latest: int) -> dict[str, list[str]]:
    record = since(text, generation, latest, STAMP)
    assert record["full"] is False
    return {verb: own["ids"] for verb, own in record["images"].items() if own["count"]}


def test_two_states_are_compared_by_id() -> None:
    """An id is added, changed, removed, or the same."""
    found = compare({b"1": 1, b"2": 2, b"3": 3}, {b"2": 2, b"3": 4, b"5": 5})
    assert (found.added, found.changed, found.removed) == ([b"5"], [b"3"], [b"1"])


def test_only_the_first_ids_are_named() -> None:
    """The count is that of all."""
    found = {table: Difference() for table in TABLES}
    found["images"].added = [b"%d" % number for number in range(MOST_IDS + 5)]
    record = json.loads(line(3, STAMP, found))
    assert record["images"]["added"]["count"] == MOST_IDS + 5
    assert record["images"]["added"]["ids"] == list(range(MOST_IDS))


def test_several_generations_are_summed_up() -> None:
    """An image that came and went is in no list; one that went and came back has changed."""
    text = b""
    for generation, own in enumerate([("a b", "c", "d"), ("d e", "a c", "b"), ("", "x", "e c")], 2):
        text = with_line(text, generation, logged(generation, *own))
    assert images(text, 1, 4) == {"added": ["a"], "changed": ["d", "x"], "removed": ["c"]}
    later = images(text, 2, 4)
    assert {verb: sorted(ids) for verb, ids in later.items()} == {
        "added": ["d"], "changed": ["a", "x"], "removed": ["b", "c"]
    }  # fmt: skip
    assert images(text, 3, 4) == {"changed": ["x"], "removed": ["e", "c"]}
    assert images(text, 4, 4) == {}


def test_it_says_full_where_the_changes_are_not_known() -> None:
    """A full export, a missing or damaged line, a generation of the future, and a list that was cut."""
    text = b""
    for generation in range(1, 6):
        text = with_line(text, generation, full_line(2, STAMP) if generation == 2 else logged(generation, "a"))
    assert since(text, 1, 5, STAMP) == {"since": 1, "generation": 5, "timestamp": STAMP, "full": True}
    assert since(text, 2, 5, STAMP)["full"] is False
    assert since(text, 6, 5, STAMP)["full"] is True
    assert since(text, 4, 7, STAMP)["full"] is True
    assert since(b"", 1, 2, STAMP)["full"] is True
    assert since(text.replace(b'"added"', b'"odd"'), 2, 5, STAMP)["full"] is True
    found = {table: Difference() for table in TABLES}
    found["images"].changed = [b"%d" % number for number in range(MOST_IDS + 1)]
    cut = with_line(text, 6, line(6, STAMP, found))
    assert since(cut, 5, 6, STAMP)["images"]["changed"]["count"] == MOST_IDS + 1
    assert since(cut, 4, 6, STAMP)["full"] is True


def test_the_file_is_bounded() -> None:
    """By generations and by bytes; the newest line always stays."""
    text = b""
    for generation in range(1, GENERATIONS + 20):
        text = with_line(text, generation, logged(generation, "a"))
    assert len(text.splitlines()) == GENERATIONS
    long = " ".join("x" * 60 + str(number) for number in range(MOST_IDS))
    for generation in range(200, 230):
        text = with_line(text, generation, logged(generation, long, long))
    assert MOST_BYTES / 2 < len(text) <= MOST_BYTES
    assert json.loads(text.splitlines()[-1])["generation"] == 229


@pytest.mark.parametrize("stale", [5, 6])
def test_lines_that_were_never_published_go(stale: int) -> None:
    """A killed exporter left them, or the generations began again."""
    text = with_line(b"", 4, logged(4, "a"))
    text = with_line(text, stale, logged(stale, "b"))
    text = with_line(text, 5, logged(5, "c"))
    assert [json.loads(own)["generation"] for own in text.splitlines()] == [4, 5]
