"""The places between ranges survive JSON, whatever the keys are."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.model.blocks import Stretch
from autoexport.pipeline.tasks.places import stretch_of, written

KEYS = st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec=None)) | st.binary()


@given(st.lists(st.tuples(KEYS, KEYS), max_size=4))
def test_the_ranges_follow_one_another(places: list[tuple[object, object]]) -> None:
    """Each begins where the one before it ends; the first and the last have no limit."""
    read = json.loads(json.dumps([written(place) for place in places]))  # type: ignore[arg-type]
    found = [stretch_of(read, task) for task in range(len(places) + 1)]
    ends = [None, *places, None]
    assert found == [Stretch(*pair) for pair in pairwise(ends)]  # type: ignore[arg-type]


@pytest.mark.parametrize("task", [1, 2, 7])
def test_more_tasks_than_ranges_have_nothing_to_do(task: int) -> None:
    """A database with few images has fewer ranges than was asked for."""
    assert stretch_of([], task) is None
