"""Wherever images are cut into blocks, any values give the same files: so incremental can be equal to full.

`test_formats` cuts ordinary values; here they are hostile, and the formats for training take part.
"""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.training.coco_rows import CocoRows
from autoexport.formats.training.yolo_rows import YoloRows
from autoexport.values.integer_ids import IdRule
from tests.contracts.test_formats import FORMATS
from tests.naive_values import Text
from tests.properties.test_any_value import ANYTHING, FIELDS, FLAG, POLYGON, TIME, mostly, texts_or_anything
from tests.trees import Built, Dataset, Project, built

CLASSES = {"car": 1, "Car": 2}


def _read(value: Any) -> Any:
    """A value as a lenient snapshot delivers it."""
    return bytes(value).decode("utf-8", "surrogateescape") if isinstance(value, Text) else value


KEYS = st.integers(-5, 10**6) | st.text(max_size=3)
SIZE = mostly(640, 8, 0.5, 2**31 - 1, 2**31, 2**62)
IMAGE: dict[str, st.SearchStrategy[Any]] = {
    "filename": ANYTHING, "original_filename": ANYTHING, "file_path": ANYTHING, "format": ANYTHING,
    "file_size": ANYTHING, "status": ANYTHING, "width": SIZE, "height": SIZE, "split": FIELDS["split_section"],
    "is_labeled": FLAG, "is_auto_labeled": FLAG, "is_verified": FLAG, "created_at": TIME, "updated_at": TIME,
}  # fmt: skip
ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "label": texts_or_anything(b"car", b"Car", b"a; b"), "label_id": ANYTHING, "confidence": ANYTHING,
    "is_auto_generated": FLAG, "is_verified": FLAG, "model_id": ANYTHING, "created_at": TIME, "updated_at": TIME,
    "polygon": POLYGON, "box_0": mostly(1.0, 0, -2.5), "box_1": mostly(1.0, 0, -2.5),
    "box_2": mostly(1.5, 5, 2**62), "box_3": mostly(1.5, 5, 2**62),
}  # fmt: skip


def _record(fields: dict[str, st.SearchStrategy[Any]], **others: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"id": KEYS, **{name: one.map(_read) for name, one in fields.items()}, **others})


IMAGES = st.lists(_record(IMAGE, annotations=st.lists(_record(ANNOTATION), max_size=2)), min_size=2, max_size=4)


def _built(images: list[dict[str, Any]], size: int) -> Built:
    dataset = Dataset({"id": "d"}, [dict(image) for image in images])
    return built([Project({"id": 1, "name": "p"}, [], [dataset])], repeat(size))


@given(IMAGES, st.integers(1, 2))
def test_cuts_do_not_show(images: list[dict[str, Any]], size: int) -> None:
    """Every file, its counts and its guarded cells."""
    whole, cut = _built(images, len(images)), _built(images, size)
    for output in FORMATS:
        assert cut.written(output) == whole.written(output), output.file_name
        assert cut.guarded(output) == whole.guarded(output), output.file_name
    assert cut.tree.counts == whole.tree.counts


@given(IMAGES, st.integers(1, 2), st.sampled_from(["pixels", "normalized", "percent"]), st.booleans())
def test_cuts_do_not_show_in_rows_for_training(
    images: list[dict[str, Any]], size: int, units: Any, unlabeled: bool
) -> None:
    """COCO and YOLO, and what they leave out, by reason."""
    whole, cut = ([block for block, _, _ in _built(images, number).blocks] for number in (len(images), size))
    coco = CocoRows(IdRule(hashed=True), IdRule(), units, include_unlabeled=unlabeled)
    assert _coco(coco, cut) == _coco(coco, whole)
    for task in ("detect", "segment"):
        yolo = YoloRows(task, units, include_unlabeled=unlabeled)  # type: ignore[arg-type]
        assert _yolo(yolo, cut) == _yolo(yolo, whole)


def _coco(rows: CocoRows, blocks: list[Any]) -> tuple[list[bytes], Counter[str]]:
    made = [rows.rows(block, CLASSES) for block in blocks]
    parts = [b",\n".join(filter(None, own)) for own in zip(*(some for some, _ in made), strict=True)]
    return parts, sum((tallies for _, tallies in made), Counter())


def _yolo(rows: YoloRows, blocks: list[Any]) -> tuple[list[Any], Counter[str]]:
    made = [rows.files(block, CLASSES) for block in blocks]
    return [file for some, _ in made for file in some], sum((tallies for _, tallies in made), Counter())
