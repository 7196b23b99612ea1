"""Rows for training do not depend on how images are cut into blocks, so a whole column gives what its rows give.

A block whose annotations are all usual is encoded by columns, any other one annotation by annotation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.training.coco_rows import CocoRows
from autoexport.formats.training.yolo_rows import YoloRows
from autoexport.model.blocks import Block
from autoexport.rendering.bodies import each_block
from autoexport.values.integer_ids import IdRule

CLASSES = {"car": 1, 'say "花"': 2}

numbers = st.one_of(st.integers(-1, 12), st.floats(-1, 12), st.just(1e-7))
huge = st.tuples(st.just(0), st.just(0), *[st.sampled_from([2**31 - 1, 2**31, 2**62])] * 2)
usual = st.tuples(st.floats(0, 4), st.integers(0, 4), st.integers(5, 8), st.floats(5, 8))
boxes = st.one_of(usual, usual, usual, huge, st.just((None,) * 4), st.tuples(*[st.none() | numbers] * 4))
inside = st.lists(st.tuples(st.integers(0, 8), st.floats(0, 8)).map(list), min_size=3, max_size=6)
polygons = st.one_of(
    st.none(),
    inside,
    inside.map(lambda ring: [*ring, ring[0]]),
    st.lists(inside, min_size=1, max_size=3),
    st.lists(st.tuples(numbers, numbers).map(list), max_size=5),
    st.just({"x": 1}),
)
annotations = st.tuples(st.sampled_from(["car", "car", 'say "花"', "unknown", None]), boxes, polygons)
images = st.tuples(
    st.sampled_from(["train", "train", "val", None, "spare"]),
    st.sampled_from([8, 8, 8, 8.0, 0, None, 7.5, 2**31 - 1, 2**31, 2**62]),
    st.booleans(),
    st.lists(annotations, max_size=4),
)


def block_of(rows: Sequence[Any]) -> Block:
    """A block of these images."""
    below = [annotation for *_, own in rows for annotation in own]
    of_images = {
        "id": [f"image {number}" for number in range(len(rows))],
        "file_path": [f"folder/{number}.jpg" for number in range(len(rows))],
        "filename": [f"{number}.jpg" for number in range(len(rows))],
        "split": [split for split, *_ in rows],
        "width": [side for _, side, *_ in rows],
        "height": [side for _, side, *_ in rows],
        "is_labeled": [labeled for _, _, labeled, _ in rows],
    }
    of_annotations: dict[str, Sequence[Any]] = {
        "id": list(range(1, len(below) + 1)),
        "label": [label for label, *_ in below],
        "polygon": [None if polygon is None else _json(polygon) for *_, polygon in below],
    }
    for index, name in enumerate(("x_min", "y_min", "x_max", "y_max")):
        of_annotations[name] = [box[index] for _, box, _ in below]
    return Block(of_images, of_annotations, [len(own) for *_, own in rows])


def _json(polygon: Any) -> bytes:
    """A polygon as the value rules write it: a blank behind each comma."""
    return repr(polygon).replace("'", '"').encode()


@given(
    st.lists(images, min_size=1, max_size=6), st.sampled_from(["pixels", "normalized", "percent"]), st.booleans()
)
def test_blocks_may_be_cut_anywhere(rows: list[Any], units: Any, unlabeled: bool) -> None:
    """COCO and YOLO, in all units, with and without unlabelled images."""
    whole = block_of(rows)
    alone = list(each_block(whole, [1] * len(rows)))
    coco = CocoRows(IdRule(hashed=True), IdRule(), units, include_unlabeled=unlabeled)
    parts, counted = coco.rows(whole, CLASSES)
    made = [coco.rows(part, CLASSES) for part in alone]
    assert parts == [b",\n".join(filter(None, own)) for own in zip(*(some for some, _ in made), strict=True)]
    assert counted == sum((tallies for _, tallies in made), Counter())
    for task in ("detect", "segment"):
        yolo = YoloRows(task, units, include_unlabeled=unlabeled)  # type: ignore[arg-type]
        files, counted = yolo.files(whole, CLASSES)
        single = [yolo.files(part, CLASSES) for part in alone]
        assert files == [file for some, _ in single for file in some]
        assert counted == sum((tallies for _, tallies in single), Counter())
