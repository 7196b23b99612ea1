"""Row groups are a function of the rows, have a least and a most size, and change only near a change."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats import row_groups
from autoexport.formats.row_groups import LEAST_ROWS, MOST_ROWS, Marks, cuts, marks

IMAGES = st.lists(st.tuples(st.uuids().map(str), st.integers(0, 12), st.integers(0, 3_000)), max_size=200)


def ends(images: list[tuple[str, int, int]]) -> list[int]:
    """The ends of the groups of these images: key, rows, bytes."""
    keys, rows, sizes = ([image[index] for image in images] for index in range(3))
    return list(cuts(marks(keys, rows, sizes), sum(rows)))


@pytest.fixture(autouse=True)
def _small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes under which a few images have many groups."""
    if "large" not in request.node.name:
        for name, value in (("SPACING_ROWS", 40), ("LEAST_ROWS", 30), ("MOST_ROWS", 90), ("LARGE_BYTES", 20_000)):
            monkeypatch.setattr(row_groups, name, value)


@given(IMAGES)
def test_groups_hold_all_rows(images: list[tuple[str, int, int]]) -> None:
    """They are no larger than the most, and together they are all rows."""
    found = [0, *ends(images)]
    assert found[-1] == sum(rows for _, rows, _ in images)
    assert all(0 < end - begin <= row_groups.MOST_ROWS for begin, end in pairwise(found))


@given(IMAGES, st.lists(st.integers(1, 9), min_size=1))
def test_blocks_do_not_show(images: list[tuple[str, int, int]], sizes: list[int]) -> None:
    """The marks of parts, one after the other, are those of the whole, wherever the parts end."""
    keys, rows, weights = ([image[index] for image in images] for index in range(3))
    whole = marks(keys, rows, weights)
    joined = Marks([], [])
    at = number = above = 0
    while at < len(images):
        to = at + sizes[number % len(sizes)]
        part = marks(keys[at:to], rows[at:to], weights[at:to])
        joined.light.extend(above + mark for mark in part.light)
        joined.heavy.extend(above + mark for mark in part.heavy)
        above += sum(rows[at:to])
        at, number = to, number + 1
    assert joined == whole


def test_large_tables_have_groups_of_the_right_size() -> None:
    """5,000 to 8,000 rows; the last one may have fewer."""
    found = [0, *ends([(str(number), number % 12, 0) for number in range(200_000)])]
    sizes = [end - begin for begin, end in pairwise(found)]
    assert all(LEAST_ROWS <= size <= MOST_ROWS for size in sizes[:-1])
    assert 6_000 < sum(sizes) / len(sizes) < 8_000


def test_large_tables_change_near_a_change() -> None:
    """An image that comes or goes changes a few groups after it."""
    images = [(str(number), 5, 0) for number in range(200_000)]
    before = ends(images)
    for place in (0, 70_000, 130_000, 199_999):
        for changed in (images[:place] + images[place + 1 :], [*images[:place], ("new", 7, 0), *images[place:]]):
            shift = sum(rows for _, rows, _ in changed) - sum(rows for _, rows, _ in images)
            same = {end for end in ends(changed) if end <= 5 * place}
            same |= {end - shift for end in ends(changed) if end > 5 * place}
            assert len({*before} ^ same) <= 20


def test_large_rows_make_small_groups() -> None:
    """Rows of 100 KB are in groups of some MB, not of 5,000 rows."""
    sizes = [end - begin for begin, end in pairwise([0, *ends([(str(n), 1, 100_000) for n in range(5_000)])])]
    assert 40 < sum(sizes) / len(sizes) < 160
    assert max(sizes) * 100_000 < 12 * row_groups.LARGE_BYTES


def test_images_without_rows_have_no_mark() -> None:
    """Where they are must not show, because a block of them has no rows in the file."""
    keys = [str(number) for number in range(500)]
    assert marks(keys, [0] * 500, [0] * 500) == Marks([], [])
