"""Integer ids: stable, unique, never 0, and a function of the keys of a table alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.runtime.duplicates import Numbers
from autoexport.values import integer_ids
from autoexport.values.integer_ids import LARGEST_ID, IdRule, fits


def test_keys_that_fit_are_kept():
    assert IdRule().ids([1, 7, LARGEST_ID]) == [1, 7, LARGEST_ID]
    assert [fits(key) for key in (0, 1, LARGEST_ID, LARGEST_ID + 1, -1, "1", True, None, 1.0)] == [
        False, True, True, False, False, False, False, False, False,
    ]  # fmt: skip


@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers()), unique_by=str))
def test_hashed_ids_are_in_the_range_of_a_double(keys):
    ids = IdRule(hashed=True).ids(keys)
    assert all(1 <= found <= LARGEST_ID for found in ids)
    assert IdRule(hashed=True).ids(keys[::-1]) == ids[::-1]


def test_published_ids_never_change():
    # The ids of published files: other ones would be another export.
    assert IdRule(hashed=True).ids(["a", "b", 5, "5"]) == [
        8119645718696649, 3073415842405136, 7841111341013263, 7841111341013263,
    ]  # fmt: skip


def _rule(keys: list[object], folder: Path) -> IdRule:
    """The rule for a table with these keys, as an export finds it."""
    rule = IdRule(hashed=True)
    while not rule.shared:
        again = Numbers(folder, 53)
        again.add(found for found in rule.ids(keys) if found is not None)
        repeated = again.repeated()
        again.close()
        if not repeated:
            break
        rule = rule.again(frozenset(repeated))
    return rule


def test_only_colliding_keys_are_hashed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(integer_ids, "_SPARE_BITS", 64 - 12)
    monkeypatch.setattr(integer_ids, "_all_hashed", lambda keys: [integer_ids._hashed(key, 0) for key in keys])
    keys = [f"key {number}" for number in range(150)]
    first = IdRule(hashed=True).ids(keys)
    rule = _rule(keys, tmp_path)
    ids = rule.ids(keys)
    assert len(set(ids)) == len(keys)
    alone = [index for index, found in enumerate(first) if first.count(found) == 1]
    assert len(alone) < len(keys)
    assert [ids[index] for index in alone] == [first[index] for index in alone]
    shuffled = random.Random(1).sample(keys, len(keys))
    assert dict(zip(shuffled, _rule(shuffled, tmp_path).ids(shuffled), strict=True)) == dict(
        zip(keys, ids, strict=True)
    )
    assert IdRule.from_plain(rule.plain()) == rule


def test_a_number_and_its_text_are_two_keys(tmp_path):
    rule = _rule([1, "1", "2"], tmp_path)
    assert len(set(rule.ids([1, "1", "2"]))) == 3


def test_equal_keys_and_null_have_no_id(tmp_path):
    rule = _rule(["a", "b", "a", None], tmp_path)
    assert rule.ids(["a", "b", "a", None]) == [None, IdRule(hashed=True).ids(["b"])[0], None, None]


@pytest.mark.parametrize("held", [10, 1000])
@given(st.lists(st.integers(0, 2**53 - 1) | st.integers(0, 50)))
def test_duplicates_are_found_outside_memory(tmp_path_factory, held, numbers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoexport.runtime.duplicates._HELD", held)
        found = Numbers(tmp_path_factory.getbasetemp(), 53)
        for begin in range(0, len(numbers), 7):
            found.add(numbers[begin : begin + 7])
        assert found.repeated() == {number for number in numbers if numbers.count(number) > 1}
        found.close()
