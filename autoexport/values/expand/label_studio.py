"""Label Studio: a task's answers are lists of results in percent of the image, and its labels are in XML.

The coordinates are those of label_studio_sdk's `converter/utils.py`: a rectangle is turned clockwise about its top
left corner, in pixels. Results of one id are one region: the shape, its label and answers about it alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from autoexport.model.catalog import Scalar
from autoexport.values.expand.contract import NO_FACTS, Dialect, Facts, ProjectDocument, Region, Regions
from autoexport.values.expand.geometry import (
    NO_BOX,
    UNREADABLE,
    Box,
    ellipse_hull,
    key_of,
    name_of,
    number_or_none,
    numbers_of,
    size_of,
    written,
    written_points,
)
from autoexport.values.turned import hull, turned

_VARIABLE = re.compile(r"\$([\w.\[\]{}]+)")
Shape = tuple[str, Box, bytes | None, Any, bytes | None, bytes | None]
"""Type, box, polygon, rotation, points and mask."""


# --- shapes ------------------------------------------------------------------------------------------


def _rectangle(value: dict[str, Any], across: float, down: float) -> Shape:
    angle = value.get("rotation") or 0
    x, y, width, height, angle = numbers_of(value["x"], value["y"], value["width"], value["height"], angle)
    x, y = x * across / 100, y * down / 100
    right, bottom = x + width * across / 100, y + height * down / 100
    if not angle % 360:
        return "bbox", (x, y, right, bottom), None, angle, None, None
    corners = turned(((x, y), (right, y), (right, bottom), (x, bottom)), (x, y), angle)
    return "polygon", hull(corners), written_points(corners), angle, None, None


def _polygon(value: dict[str, Any], across: float, down: float) -> Shape:
    corners = _pixels(value["points"], across, down)
    if not corners:
        return "polygon", NO_BOX, None, None, None, None
    if value.get("closed") is False:
        return "polyline", NO_BOX, None, None, written_points(corners), None
    return "polygon", hull(corners), written_points(corners), None, None, None


def _ellipse(value: dict[str, Any], across: float, down: float) -> Shape:
    angle = value.get("rotation") or 0
    x, y, width, height, angle = numbers_of(value["x"], value["y"], value["radiusX"], value["radiusY"], angle)
    radii = width * across / 100, height * down / 100
    return "ellipse", ellipse_hull(x * across / 100, y * down / 100, *radii, angle), None, angle, None, None


def _keypoint(value: dict[str, Any], across: float, down: float) -> Shape:
    point = _pixels([(value["x"], value["y"])], across, down)
    return "points", NO_BOX, None, None, written_points(point), None


def _vector(value: dict[str, Any], across: float, down: float) -> Shape:
    corners = _pixels([(corner["x"], corner["y"]) for corner in value["vertices"]], across, down)
    kind = "polygon" if value.get("closed") else "polyline"
    if kind == "polygon":
        return kind, hull(corners), written_points(corners), None, None, None
    return kind, NO_BOX, None, None, written_points(corners), None


def _mask(value: dict[str, Any], across: float, down: float) -> Shape:
    mask = {name: value[name] for name in ("format", "rle", "imageDataURL") if name in value}
    return "mask", NO_BOX, None, None, None, written(mask)


def _pixels(points: Any, across: float, down: float) -> list[tuple[float, float]]:
    numbers_of(*chain.from_iterable(points))
    return [(x * across / 100, y * down / 100) for x, y in points]


_SHAPES: dict[str, Callable[[dict[str, Any], float, float], Shape]] = {
    "rectangle": _rectangle,
    "polygon": _polygon,
    "ellipse": _ellipse,
    "keypoint": _keypoint,
    "vector": _vector,
    "brush": _mask,
    "bitmask": _mask,
}
_KINDS = {kind + ending: kind for kind in _SHAPES for ending in ("", "labels")}

# --- regions -----------------------------------------------------------------------------------------


def read_regions(results: Any, _: Facts) -> Regions:
    """The regions of one answer. What has no id, such as a relation, is no region."""
    found = Regions()
    if not isinstance(results, list):
        found.repaired += results is not None
        return found
    regions = found.regions
    others: list[tuple[int, dict[str, Any]]] = []
    places: dict[Any, int] = {}
    for index, result in enumerate(results):
        if not isinstance(result, dict) or not isinstance(value := result.get("value"), dict):
            continue
        across, down = size_of(result.get("original_width")), size_of(result.get("original_height"))
        if across:
            found.width = max(found.width or 0, across)
        if down:
            found.height = max(found.height or 0, down)
        word = result.get("type")
        if not isinstance(word, str):
            word = key_of(word)
        kind = _KINDS.get(word)
        part = result.get("id", f"#{index}")
        if not isinstance(part, str):
            part = key_of(part)
        if kind is None or part in places:
            others.append((index, result))
        else:
            places[part] = len(regions)
            try:
                # Without a size, the percentages are all that is known.
                shape = _SHAPES[kind](value, across or 100, down or 100)
            except UNREADABLE:
                shape = "classification", NO_BOX, None, None, None, None
                found.repaired += 1
            labels = value.get(word) or value.get("labels")
            label, more = None, None
            if isinstance(labels, list) and labels:
                label = name_of(labels[0])
                more = {str(name_of(result.get("from_name", word))): labels} if len(labels) > 1 else None
            word, box, polygon, rotation, points, mask = shape
            score = number_or_none(result.get("score")) if "score" in result else None
            regions.append((part, word, label, None, score, *box, polygon, rotation, points, mask, more))
    _add_answers(found, others, places)
    return found


def _add_answers(found: Regions, others: list[tuple[int, dict[str, Any]]], places: dict[Any, int]) -> None:
    """Add what is no shape: answers about a region, and answers about the whole image."""
    for index, result in others:
        word, value, part = key_of(result.get("type")), result["value"], key_of(result.get("id", f"#{index}"))
        name = str(name_of(result.get("from_name", word)))
        answer = _answer(value, str(word))
        if part in places:
            _add_to(found.regions, places[part], word, name, answer)
        elif word in ("choices", "taxonomy", "labels"):
            for number, label in enumerate(_names(answer)):
                own = f"{part}:{number}" if number else part
                found.regions.append(_whole_image(own, "classification", label, result, None))
        elif word == "textarea":
            found.regions.append(_whole_image(part, "text", None, result, {name: answer}))
        elif answer is not None:
            found.regions.append(_whole_image(part, "classification", None, result, {name: answer}))


def _whole_image(part: Any, word: str, label: str | None, result: dict[str, Any], attributes: Any) -> Region:
    return (
        part,
        word,
        label,
        None,
        number_or_none(result.get("score")),
        *NO_BOX,
        None,
        None,
        None,
        None,
        attributes,
    )


def _add_to(regions: list[Region], place: int, word: Any, name: str, answer: Any) -> None:
    """Add an answer to a region: its label if it has none yet, else an attribute."""
    region = regions[place]
    if (word == "labels" or word in _KINDS) and region[2] is None and isinstance(answer, list) and answer:
        regions[place] = (*region[:2], name_of(answer[0]), *region[3:])
        if len(answer) == 1:
            return
    if answer is not None:
        regions[place] = (*regions[place][:-1], {**(region[-1] or {}), name: answer})


def _answer(value: dict[str, Any], word: str) -> Any:
    """The answer in a value: it is called as the type of the control, or `text` of a text area."""
    for name in (word, "text", "labels", "choices"):
        if name in value:
            return value[name]
    return None


def _names(answer: Any) -> Iterator[str]:
    """The chosen names; those of a taxonomy are paths."""
    for item in answer if isinstance(answer, list) else [answer]:
        name = "/".join(str(name_of(step)) for step in item) if isinstance(item, list) else name_of(item)
        if name is not None:
            yield name


# --- projects and tasks --------------------------------------------------------------------------------


def read_project(stored: Scalar) -> ProjectDocument:
    """The labels of a `label_config`, and the variable that names the image of a task; empty without an image.

    Without facts if it is no XML that is safe to read.
    """
    from defusedxml.ElementTree import ParseError, fromstring

    if stored is None or (isinstance(stored, str) and not stored.strip()):
        return ProjectDocument()
    try:
        root = fromstring(str(stored), forbid_dtd=True)
    except (ParseError, ValueError):
        return ProjectDocument(unreadable=True)
    labels: dict[str, str | None] = {}
    image = None
    for element in root.iter():
        tag = str(element.tag).lower()
        if tag in ("label", "choice"):
            name = element.get("alias") or element.get("value")
            if name and not name.startswith("$"):
                labels.setdefault(name, element.get("background"))
        elif tag == "image" and image is None:
            image = element.get("value") or element.get("valueList") or element.get("valuelist") or ""
    return ProjectDocument(labels, {"image": image or ""})


def read_image(data: Any, facts: Facts) -> dict[str, Scalar] | None:
    """The path of a task's image; None if the task has none, as in projects about texts."""
    if facts == NO_FACTS:
        return {"file_path": None}
    path = _resolved(str(facts["image"]), data)
    return {"file_path": path} if path is not None else None


def _resolved(template: str, data: Any) -> str | None:
    whole = _VARIABLE.fullmatch(template)
    if whole is None:
        filled = _VARIABLE.sub(lambda match: name_of(_found(match[1], data) or "") or "", template)
        return filled if filled and filled != template else None
    value = _found(whole[1], data)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str)), None)
    return value if isinstance(value, str) else None


def _found(path: str, data: Any) -> Any:
    """A value of a task, such as `image` or `images[0].path`."""
    if isinstance(data, dict) and path in data:
        return data[path]
    for step in re.findall(r"\w+", path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


DIALECT = Dialect(
    name="label_studio",
    fields=("type", "label", "confidence", "box", "polygon"),
    shape_fields=("rotation", "points", "mask", "attributes"),
    image_fields=("file_path", "filename", "width", "height"),
    read_regions=read_regions,
    read_project=read_project,
    read_image=read_image,
    constants={"is_auto_generated": False},
)
