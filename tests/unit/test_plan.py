"""A plan keeps blocks and renders ranges, and no image is in neither."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.incremental import plan
from autoexport.incremental.key_kinds import incomparable
from autoexport.incremental.plan import Blocks, Plan, make_plan, render_all
from autoexport.model.blocks import BlockRecord, Counts, Part, Range, pack
from autoexport.model.catalog import Key

LAST = 1000


def record(dataset: Key, first: Key, last: Key, images: int = 256) -> BlockRecord:
    """A block with this number of images."""
    return BlockRecord(dataset, first, last, pack(Counts(images=images)), "", 0, [])


def row(dataset: Key, *lasts: int, images: int = 256) -> list[BlockRecord]:
    """The blocks of a dataset that end with these images."""
    firsts = [1, *(last + 2 for last in lasts[:-1])]
    return [record(dataset, first, last, images) for first, last in zip(firsts, lasts, strict=True)]


def planned(
    records: Sequence[BlockRecord],
    dirty: set[int],
    *,
    gone: frozenset[Key] = frozenset(),
    whole: Sequence[Key] = (),
) -> Plan:
    """The plan for dirty blocks, with all datasets of the records there but those that are gone."""
    datasets = ({item.dataset for item in records} | set(whole)) - gone
    return make_plan(Blocks(records), datasets, dirty, whole, "because")


@pytest.fixture
def always_incremental(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many blocks are dirty."""
    monkeypatch.setattr(plan, "MOST_DIRTY", 1.0)


# --- which block -----------------------------------------------------------------------------------


def test_an_image_between_two_blocks_belongs_to_the_second() -> None:
    """The range of the second block is rendered for a new image."""
    blocks = Blocks(row(1, 10, 20, 30))
    assert [blocks.of(1, image) for image in (0, 1, 10, 11, 12, 20, 21, 30)] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_an_image_after_the_last_block_belongs_to_it() -> None:
    """The last range has no end."""
    assert Blocks(row(1, 10, 20)).of(1, 21) == 1


def test_a_dataset_without_blocks_has_no_block() -> None:
    """It is rendered whole instead."""
    assert Blocks(row(1, 10)).of(2, 5) is None


def test_keys_of_another_type_cannot_be_compared() -> None:
    """They have no order with the keys of the ledger: `'1'` and 1, bytes and text, None."""
    for key in ("5", 5.0, b"5", None):
        assert incomparable(("int", "int"), 1, key)
        assert incomparable(("int", "int"), key, 5)
        assert incomparable(("int", ""), key, 5)
    for key in (5, b"a", None):
        assert incomparable(("str", "str"), "d", key)
    assert not incomparable(("int", "int"), 1, 5)
    assert not incomparable(("str", "str"), "d", "x")
    assert not incomparable(("str", ""), "d", 5)
    assert not incomparable(("", ""), 1, b"a")
    assert incomparable(("", ""), 1, None)


# --- keep, render, drop ------------------------------------------------------------------------------


def test_nothing_dirty_keeps_everything() -> None:
    """The ranges are empty, not None: None would render everything."""
    found = planned(row(1, 10, 20) + row(2, 10), set())
    assert (found.keep, found.ranges, found.mode) == ((0, 1, 2), (), "incremental")


def test_a_dirty_block_is_rendered_up_to_its_neighbours() -> None:
    """The range includes the gap before the block, for new images; the last range has no end."""
    records = row(1, 10, 20, 30) + row(2, 10, 20)
    assert planned(records, {1}).ranges == (Range(1, 10, 20),)
    assert planned(records, {0}).ranges == (Range(1, None, 10),)
    assert planned(records, {2}).ranges == (Range(1, 20, None),)
    assert planned(records, {2}).keep == (0, 1, 3, 4)


def test_dirty_neighbours_are_one_range() -> None:
    """Blocks are cut again inside it."""
    records = row(1, 10, 20, 30, 40, 50)
    assert planned(records, {1, 2}).ranges == (Range(1, 10, 30),)
    assert planned(records, {0, 2}).ranges == (Range(1, None, 10), Range(1, 20, 30))


def test_blocks_of_a_dataset_that_went_are_dropped() -> None:
    """Neither kept nor rendered."""
    found = planned(row(1, 10) + row(2, 10, 20, 30), set(), gone=frozenset({1}))
    assert (found.keep, found.ranges) == ((1, 2, 3), ())


def test_a_dataset_that_came_is_rendered_whole() -> None:
    """It has no blocks; its range is sorted by its key."""
    found = planned(row(1, 10) + row(3, 10, 20), {1}, whole=[2])
    assert found.ranges == (Range(2, None, None), Range(3, None, 10))
    assert found.keep == (0, 2)


def test_a_whole_dataset_that_has_blocks_loses_them() -> None:
    """Its images are not both kept and rendered."""
    found = planned(row(1, 10) + row(2, 10, 20, 30), set(), whole=[1])
    assert (found.keep, found.ranges) == ((1, 2, 3), (Range(1, None, None),))


def test_most_blocks_dirty_renders_all() -> None:
    """More than half of them: one pass over the tables costs less. Half of them: incremental."""
    records = row(1, 10, 20, 30, 40)
    assert planned(records, {0, 1}).mode == "incremental"
    found = planned(records, {0, 1, 2})
    assert (found.mode, found.keep, found.ranges) == ("full", (), None)
    assert "3 of 4" in found.reason


def test_dropped_blocks_count_as_dirty() -> None:
    """Neither kind is kept."""
    assert planned(row(1, 10, 20, 30) + row(2, 10), set(), gone=frozenset({1})).mode == "full"


def test_no_blocks_at_all_is_incremental() -> None:
    """An empty database that stays empty."""
    assert planned([], set()).ranges == ()
    assert planned([], set(), whole=[1]).ranges == (Range(1, None, None),)


def test_a_small_dirty_block_takes_a_neighbour_along() -> None:
    """Blocks that lost most of their images are merged when they are rendered anyway, those of the same
    dataset only; a small block whose neighbours are clean as well is left alone."""
    small = plan.SMALL_IMAGES - 1
    records = [record(1, 1, 10), record(1, 11, 20, small), record(1, 21, 30), *row(2, 10, 20, 30, 40)]
    assert planned(records, {1}).ranges == (Range(1, None, 20),)
    assert planned([*records, record(1, 31, 40)], {3}).ranges == (Range(2, None, 10),)
    assert planned([record(1, 1, 10, small), *records[1:]], {0}).ranges == (Range(1, None, 20),)
    assert planned([record(1, 1, 10, small), *row(2, 10, 20)], {0}).ranges == (Range(1, None, None),)


def test_a_dirty_block_takes_its_small_neighbours_along() -> None:
    """A small block that was cut off from it is merged again."""
    small = plan.SMALL_IMAGES - 1
    records = [record(1, 1, 5, small), *row(1, 10, 20, 30), record(1, 31, 35, small), record(1, 36, 39, small)]
    assert planned(records, {1}).ranges == (Range(1, None, 10),)
    assert planned(records, {2}).ranges == (Range(1, 10, 20),)
    assert planned(records, {3}).ranges == (Range(1, 20, 35),)
    assert planned(records, {4}).ranges == (Range(1, 30, None),)


def test_a_few_heavy_images_are_no_small_block() -> None:
    """They were cut because of their bytes, and would be cut again."""
    heavy = [record(1, last - 9, last, 2) for last in (10, 20, 30)]
    for item in heavy:
        item.parts = [Part(0, plan.SMALL_BYTES - 1, 0), Part(0, 1, 0)]
    assert planned(heavy, {1}).ranges == (Range(1, 10, 20),)


def test_rendering_all_says_why() -> None:
    """The reason is for the log."""
    found = render_all("the settings changed")
    assert (found.mode, found.ranges, found.reason) == ("full", None, "the settings changed")


@pytest.mark.usefixtures("always_incremental")
@given(
    lasts=st.dictionaries(st.integers(1, 4), st.lists(st.integers(1, LAST), min_size=1, unique=True), min_size=1),
    data=st.data(),
)
def test_every_image_is_kept_or_rendered_once(lasts: dict[int, list[int]], data: st.DataObject) -> None:
    """Whatever is dirty, came or went: each possible image of a living dataset is in exactly one place, and the
    places are in the order of the tree's keys."""
    records = [item for dataset in sorted(lasts) for item in row(dataset, *sorted(lasts[dataset]), images=100)]
    dirty = data.draw(st.sets(st.integers(0, len(records) - 1)))
    gone = data.draw(st.sets(st.sampled_from(sorted(lasts))))
    whole = data.draw(st.sets(st.integers(1, 6)))
    living = (set(lasts) | whole) - gone
    blocks = Blocks(records)
    found = make_plan(blocks, living, set(dirty), whole - gone, "")
    assert found.ranges is not None
    order = [(item.dataset, item.after or 0) for item in found.ranges]
    assert order == sorted(order)
    for dataset in living:
        for image in range(LAST + 2):
            rendered = [
                item
                for item in found.ranges
                if item.dataset == dataset
                and (item.after is None or item.after < image)  # type: ignore[operator]
                and (item.to is None or image <= item.to)  # type: ignore[operator]
            ]
            kept = blocks.of(dataset, image) in found.keep
            assert len(rendered) + kept == 1 or (dataset not in lasts and not whole)
    assert not {number for number in found.keep if records[number].dataset in gone or number in dirty}
