"""The results of Label Studio, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoexport.values.expand.contract import NO_FACTS, REGION_FIELDS
from autoexport.values.expand.label_studio import read_image, read_project, read_regions
from tests.label_studio import BOXES, TEXTS, rectangle, result


def read(*results: Any) -> list[dict[str, Any]]:
    """The regions of an answer, with their JSON parsed."""
    regions = []
    for region in read_regions(list(results), NO_FACTS).regions:
        fields = dict(zip(REGION_FIELDS, region, strict=True))
        regions.append({name: json.loads(v) if isinstance(v, bytes) else v for name, v in fields.items()})
    return regions


def box(region: dict[str, Any]) -> list[Any]:
    """The four sides of a region."""
    return [region[side] for side in ("x_min", "y_min", "x_max", "y_max")]


def test_shapes() -> None:
    """Percentages of the image become pixels."""
    polygon, point, mask, ellipse, line, curve = read(
        result("polygonlabels", {"points": [[10, 10], [20, 10], [20, 40]], "polygonlabels": ["w"]}, "p"),
        result("keypointlabels", {"x": 50, "y": 25, "width": 0.5, "keypointlabels": ["g"]}, "k"),
        result("brushlabels", {"format": "rle", "rle": [0, 1], "brushlabels": ["m"]}, "m"),
        result("ellipselabels", {"x": 40, "y": 60, "radiusX": 5, "radiusY": 10, "ellipselabels": ["e"]}, "e"),
        result("vector", {"vertices": [{"x": 0, "y": 0}, {"x": 100, "y": 50}], "closed": False}, "v"),
        result("polygon", {"points": [[0, 0], [100, 50]], "closed": False}, "o"),
    )
    assert (polygon["type"], polygon["label"]) == ("polygon", "w")
    assert polygon["polygon"] == [[80, 40], [160, 40], [160, 160]]
    assert box(polygon) == [80, 40, 160, 160]
    assert (point["type"], point["points"], box(point)) == ("points", [[400, 100]], [None] * 4)
    assert (mask["type"], mask["mask"]) == ("mask", {"format": "rle", "rle": [0, 1]})
    assert (ellipse["type"], box(ellipse), ellipse["rotation"]) == ("ellipse", [280, 200, 360, 280], 0)
    assert (line["type"], line["points"], line["label"]) == ("polyline", [[0, 0], [800, 200]], None)
    assert (curve["type"], curve["points"]) == ("polyline", [[0, 0], [800, 200]])


def test_turned_shapes() -> None:
    """A rectangle turns about its corner in pixels, an ellipse about its centre."""
    slanted, round_ = read(
        rectangle("a", 50, 25, rotation=45),
        result("ellipse", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 5, "rotation": 90}, "e"),
    )
    assert slanted["polygon"][0] == [400, 100]
    assert slanted["polygon"][1] == pytest.approx([569.705627, 269.705627])
    assert box(slanted)[1] == 100
    assert box(round_) == [380, 120, 420, 280]


def test_results_of_one_region() -> None:
    """A label, a text and a rating of their own belong to the shape with the same id, in any order."""
    shape = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    (region,) = read(
        result("labels", {**shape, "labels": ["car"]}, from_name="what"),
        result("rating", {**shape, "rating": 4}, from_name="stars"),
        result("rectangle", shape),
        result("textarea", {**shape, "text": ["bent"]}, from_name="note"),
        result("choices", {**shape, "choices": ["new", "red"]}, from_name="kind"),
    )
    assert (region["type"], region["label"], box(region)) == ("bbox", "car", [80, 80, 320, 240])
    assert region["attributes"] == {"stars": 4, "note": ["bent"], "kind": ["new", "red"]}
    (twice,) = read(result("rectanglelabels", {**shape, "rectanglelabels": ["a", "b"]}))
    assert (twice["label"], twice["attributes"]) == ("a", {"label": ["a", "b"]})


def test_answers_about_the_whole_image() -> None:
    """One classification for each choice; a text has no label, and other answers are attributes."""
    day, night, path, text, stars = read(
        {"id": "c", "type": "choices", "value": {"choices": ["day", "night"]}},
        {"id": "t", "type": "taxonomy", "value": {"taxonomy": [["animal", "cat"]]}},
        {"id": "n", "type": "textarea", "from_name": "note", "value": {"text": ["two"]}},
        {"type": "rating", "from_name": "stars", "value": {"rating": 4}},
    )
    assert [(each["part"], each["label"]) for each in (day, night, path)] == [
        ("c", "day"), ("c:1", "night"), ("t", "animal/cat"),
    ]  # fmt: skip
    assert (text["type"], text["label"], text["attributes"]) == ("text", None, {"note": ["two"]})
    assert (stars["part"], stars["type"], stars["attributes"]) == ("#3", "classification", {"stars": 4})


def test_the_size_is_the_largest_of_all_results() -> None:
    """Also of results that are no shapes; without a size, percentages stay."""
    found = read_regions([rectangle("a"), {**rectangle("b", 1), "original_width": 900}], NO_FACTS)
    assert (found.width, found.height) == (900, 400)
    for width, height in ((None, None), ("wide", []), (True, 0), (-1, "nan"), ("inf", {})):
        bare = {**rectangle("a"), "original_width": width, "original_height": height}
        assert box(read(bare)[0]) == [10, 20, 40, 60]
    as_text = {**rectangle("a"), "original_width": "800", "original_height": "400.0"}
    assert read(as_text) == read(rectangle("a"))


@pytest.mark.parametrize("value", [{}, {"x": "a", "y": 1, "width": 2, "height": 3}, {"x": None}, {"x": [1]}])
def test_shapes_that_cannot_be_read(value: dict[str, Any]) -> None:
    """They stay as annotations without a shape, and are counted."""
    found = read_regions([result("rectanglelabels", {**value, "rectanglelabels": ["a"]})], NO_FACTS)
    assert [region[1:3] for region in found.regions] == [("classification", "a")]
    assert found.repaired == 1


@pytest.mark.parametrize("document", [None, {}, "text", 7, [1, None, {"id": "x"}, {"value": 3}]])
def test_documents_of_another_form(document: Any) -> None:
    """They have no regions; what is not even a list is counted."""
    found = read_regions(document, NO_FACTS)
    assert (found.regions, found.repaired) == ([], int(not isinstance(document, list) and document is not None))


def test_labels_and_the_key_of_the_image() -> None:
    """Of labels and choices, by the name that results have."""
    document = read_project(BOXES)
    assert document.facts == {"image": "$image"}
    assert dict(document.labels) == {
        "Pallet": "#FFA39E", "Fork & lift": None, "Never used": None, "day": None, "dark": None,
    }  # fmt: skip
    assert read_project(TEXTS).facts == {"image": ""}
    dynamic = '<View><image valueList="$pages"/><Labels><Label value="$all"/></Labels></View>'
    assert (read_project(dynamic).facts, read_project(dynamic).labels) == ({"image": "$pages"}, {})


@pytest.mark.parametrize(
    "config",
    [
        None,
        "",
        "<View",
        "text",
        b"<View/>",
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View><Label value="&b;"/></View>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd"><View/>',
    ],
)
def test_a_configuration_that_is_not_read(config: Any) -> None:
    """No labels and no facts: the tasks remain images. Entities are refused, whatever they would become."""
    document = read_project(config)
    assert (document.labels, document.facts) == ({}, NO_FACTS)
    assert read_image({"image": "a.jpg"}, document.facts) == {"file_path": None}


@pytest.mark.parametrize(
    ("variable", "data", "path"),
    [
        ("$image", {"image": "a.jpg"}, "a.jpg"),
        ("$image", {"image": None}, None),
        ("$image", {"picture": "a.jpg"}, None),
        ("$image", {"image": {"url": "a.jpg"}}, None),
        ("$image", "a.jpg", None),
        ("$image", None, None),
        ("", {"image": "a.jpg"}, None),
        ("$pages", {"pages": ["a.jpg", "b.jpg"]}, "a.jpg"),
        ("$files[1].path", {"files": [{}, {"path": "b.jpg"}]}, "b.jpg"),
        ("$a.b", {"a.b": "c.jpg"}, "c.jpg"),
        ("https://host/$name.jpg", {"name.jpg": "n"}, "https://host/n"),
        ("https://host/fixed.jpg", {}, None),
    ],
)
def test_the_image_of_a_task(variable: str, data: Any, path: str | None) -> None:
    """The variable of the image tag names a value of the task; without one the task is no image."""
    assert read_image(data, {"image": variable}) == (None if path is None else {"file_path": path})
