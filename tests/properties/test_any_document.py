"""Any JSON in the documents of an application is exported: Label Studio, for one, stores results unchecked.

What cannot be read as a shape is published without one and counted as repaired. Nothing ends the export, and where
blocks are cut does not show.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.annotations_csv import AnnotationsTable
from autoexport.formats.contract import Format
from autoexport.formats.csv_table import ImagesTable
from autoexport.formats.json_document import JsonDocument
from autoexport.formats.json_lines import JsonLines
from autoexport.formats.training.coco_rows import CocoRows
from autoexport.formats.training.yolo_rows import YoloRows
from autoexport.model.blocks import Block, BlockRows, FlatRows
from autoexport.model.catalog import Column, Table
from autoexport.model.mapping import Mapping, TableMapping
from autoexport.model.tree import DatasetNode, ProjectNode
from autoexport.values.block import render
from autoexport.values.expand import DIALECTS, dialect
from autoexport.values.expand.contract import Facts
from autoexport.values.integer_ids import IdRule

TABLES = ImagesTable(guard=True, bom=False), AnnotationsTable(guard=True, bom=False)
OUTPUTS = (JsonDocument("records"), JsonLines(), *TABLES)
FACTS: dict[str, Facts] = {
    "label_studio": {"image": "$image"}, "labelu": {}, "geti": {"labels": {"a": "car", "b": "dog"}},
}  # fmt: skip

NUMBERS = st.sampled_from([0, 1, 50, 12.5, 100, -3, 1e300, 2**63 - 1, 2**64 - 1, 1e-300])
WORDS = st.sampled_from(["", "a", "b", "car", "id", "12", "%d", "rectangle", "https://u:p@h/a.jpg?token=x", "²"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """This, or any JSON."""
    return st.one_of(likely, likely, likely, ANYTHING)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of these fields, each mostly as it should be."""
    return mostly(st.fixed_dictionaries({}, optional={name: mostly(value) for name, value in fields.items()}))


def many(item: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list."""
    return mostly(st.lists(item, max_size=3))


POINT = some(x=NUMBERS, y=NUMBERS)
BOX = {"x": NUMBERS, "y": NUMBERS, "width": NUMBERS, "height": NUMBERS}
KINDS = ["rectangle", "polygon", "ellipse", "keypoint", "vector", "brush"]
KINDS += [f"{kind}labels" for kind in KINDS]
RESULT = some(
    type=st.sampled_from([*KINDS, "choices", "taxonomy", "textarea", "labels", "rating", "relation"]),
    id=WORDS | NUMBERS, from_name=WORDS, original_width=NUMBERS, original_height=NUMBERS, score=NUMBERS,
    value=some(
        **BOX, rotation=NUMBERS, radiusX=NUMBERS, radiusY=NUMBERS, closed=st.booleans(), format=WORDS,
        points=many(st.lists(mostly(NUMBERS), min_size=2, max_size=2)), vertices=many(POINT), rle=many(NUMBERS),
        text=many(WORDS), choices=many(WORDS), taxonomy=many(many(WORDS)), labels=many(WORDS),
        **{kind: many(WORDS) for kind in KINDS if kind.endswith("labels")},
    ),
)  # fmt: skip
TOOL = some(
    toolName=WORDS,
    result=many(
        some(
            **BOX, id=WORDS | NUMBERS, label=WORDS, points=many(POINT), value=ANYTHING,
            attributes=st.dictionaries(WORDS, ANYTHING, max_size=2),
            **dict.fromkeys(("front", "back"), some(tl=POINT, tr=POINT, br=POINT, bl=POINT)),
        )
    ),
)  # fmt: skip
TOOLS = [f"{word}Tool" for word in ("rect", "polygon", "line", "point", "cuboid", "tag", "text", "relation")]
SAMPLE = some(width=NUMBERS, height=NUMBERS, **dict.fromkeys(TOOLS, TOOL))
ITEM = some(
    shape=some(
        **BOX, type=st.sampled_from(["rectangle", "ellipse", "rotated_rectangle", "polygon", "full_image"]),
        angle=NUMBERS, points=many(POINT),
    ),
    labels=many(some(id=st.sampled_from(["a", "b", 2**64 - 1]))), confidences=many(NUMBERS),
)  # fmt: skip
ANSWERS = {
    "label_studio": many(RESULT),
    "labelu": some(result=mostly(SAMPLE | SAMPLE.map(json.dumps))),
    "geti": many(ITEM),
}
CONFIG = some(
    tools=many(some(tool=st.sampled_from(TOOLS), config=some(attributes=many(some(value=WORDS, color=WORDS))))),
    attributes=many(some(key=WORDS, value=WORDS, color=WORDS)),
)
CLASSES = {"car": 1, "a": 2}
TASKS = {"label_studio": some(image=WORDS), "labelu": ANYTHING, "geti": ANYTHING}


def images_of(name: str, least: int) -> st.SearchStrategy[list[tuple[Any, list[Any]]]]:
    """Up to three images, each a task and its answers."""
    return st.lists(st.tuples(TASKS[name], st.lists(ANSWERS[name], max_size=2)), min_size=least, max_size=3)


def mapping_of(name: str) -> Mapping:
    """The mapping of an application whose rows hold documents."""
    any_table = Table("any", None, "table", (Column("id", "integer"),))
    plain = TableMapping(any_table, {})
    images = TableMapping(any_table, {}, expand=name) if dialect(name).read_image else plain
    return Mapping(plain, plain, images, TableMapping(any_table, {}, expand=name), None)


def block_of(name: str, images: Sequence[tuple[Any, Sequence[Any]]], first: int = 0) -> Block:
    """A block of images, each a task and its answers; their ids count from `first` on."""
    ids = range(first, first + len(images))
    tasks = [json.dumps(task) for task, _ in images]
    answers = [
        (f"{key}-{n}", json.dumps(answer))
        for key, (_, own) in zip(ids, images, strict=True)
        for n, answer in enumerate(own)
    ]
    if dialect(name).read_image is not None:
        rows_of_images = FlatRows(["id", "document"], [*chain.from_iterable(zip(ids, tasks, strict=True))])
    else:
        rows_of_images = FlatRows(["id"], list(ids))
    rows_of_annotations = FlatRows(["id", "document"], [*chain.from_iterable(answers)])
    rows = BlockRows("d", rows_of_images, rows_of_annotations, [len(own) for _, own in images])
    return render(rows, mapping_of(name), FACTS[name])


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.data())
def test_any_document_is_exported(name: str, data: st.DataObject) -> None:
    """Every output can be read back and has a row for each annotation; rows for training can be made."""
    images = data.draw(images_of(name, 1))
    block = block_of(name, images)
    for output in OUTPUTS:
        body = body_of(output, block)
        if output.file_name.endswith(".csv"):
            rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
            assert len(rows) == (len(block.spans) if output.file_name == "images.csv" else sum(block.spans))
        else:
            text = body if isinstance(output, JsonDocument) else body.replace(b"\n", b",")
            found = json.loads(b"[%b]" % text.strip(b","), parse_constant=_refused)
            assert [len(image["annotations"]) for image in found] == list(block.spans)
    assert CocoRows(IdRule(hashed=True), IdRule(hashed=True)).rows(block, CLASSES)
    assert YoloRows("segment").files(block, CLASSES)


@pytest.mark.parametrize("name", DIALECTS)
@given(data=st.data())
def test_cuts_do_not_show(name: str, data: st.DataObject) -> None:
    """What one document holds does not change how others are read."""
    images = data.draw(images_of(name, 2))
    whole = block_of(name, images)
    parts = [block_of(name, [image], number) for number, image in enumerate(images)]
    for output in OUTPUTS:
        bodies = [body_of(output, part) for part in parts]
        assert output.separator.join(filter(None, bodies)) == body_of(output, whole)
    assert sum(part.counts.repaired for part in parts) == whole.counts.repaired


XML = st.sampled_from(
    ["<View/>", "<View>", '<View><Image value="$a[²].b"/><Label value="car"/></View>', "<!DOCTYPE x>"]
)


@pytest.mark.parametrize("name", [name for name in DIALECTS if dialect(name).read_project])
@given(stored=CONFIG.map(json.dumps) | XML | st.text() | st.none() | st.binary(max_size=5), task=ANYTHING)
def test_any_configuration_of_a_project_is_read(name: str, stored: Any, task: Any) -> None:
    """Its labels are names with a colour or none, and its facts serve to read a task."""
    read_project, read_image = dialect(name).read_project, dialect(name).read_image
    assert read_project is not None
    document = read_project(stored)
    assert all(isinstance(label, str) for label in document.labels)
    assert {*map(type, document.labels.values())} <= {str, type(None)}
    if read_image is not None:
        found = read_image(task, document.facts) or {}
        assert {*map(type, found.values())} <= {str, type(None)}


def body_of(output: Format, block: Block) -> bytes:
    """The bytes of a block in a format."""
    project = ProjectNode(1, {"id": 1, "name": "p", "project_type": None})
    body, _ = output.block(block, project, DatasetNode("d", {"id": "d", "name": "d"}))
    return body


def _refused(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")
