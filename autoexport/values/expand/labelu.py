"""LabelU: a sample holds JSON in a string of JSON, with a list of regions for each tool, in pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from autoexport.model.catalog import Scalar
from autoexport.values.expand.contract import Dialect, Facts, ProjectDocument, Region, Regions
from autoexport.values.expand.geometry import (
    NO_BOX,
    UNREADABLE,
    Box,
    box_of,
    key_of,
    name_of,
    points_of,
    size_of,
    written_points,
)
from autoexport.values.json_columns import parse

_CORNERS = ("tl", "tr", "br", "bl")

Shape = tuple[str, Box, bytes | None, bytes | None]
"""Type, box, polygon and points."""


def _box(item: dict[str, Any]) -> Shape:
    return "bbox", box_of(item), None, None


def _polygon(item: dict[str, Any]) -> Shape:
    return "polygon", NO_BOX, written_points(points_of(item["points"])), None


def _line(item: dict[str, Any]) -> Shape:
    return "polyline", NO_BOX, None, written_points(points_of(item["points"]))


def _point(item: dict[str, Any]) -> Shape:
    return "points", NO_BOX, None, written_points(points_of([item]))


def _cuboid(item: dict[str, Any]) -> Shape:
    corners = [item[side][corner] for side in ("front", "back") for corner in _CORNERS]
    return "cuboid", NO_BOX, None, written_points(points_of(corners))


_SHAPES: dict[str, Callable[[dict[str, Any]], Shape]] = {
    "rectTool": _box,
    "polygonTool": _polygon,
    "lineTool": _line,
    "pointTool": _point,
    "cuboidTool": _cuboid,
}


def read_regions(data: Any, _: Facts) -> Regions:
    """The regions of a sample; none of one that is not annotated."""
    found = Regions()
    if not isinstance(data, dict) or not data.get("result"):
        return found
    result, repaired = parse(data["result"]) if isinstance(data["result"], str) else (data["result"], 0)
    if not isinstance(result, dict):
        found.repaired = 1
        return found
    found.repaired = repaired
    found.width, found.height = size_of(result.get("width")), size_of(result.get("height"))
    for tool, content in result.items():
        items = content.get("result") if isinstance(content, dict) and tool.endswith("Tool") else None
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if isinstance(item, dict) and tool != "relationTool":
                found.regions.append(_region(tool, item, f"{tool}-{index}", found))
    return found


def _region(tool: str, item: dict[str, Any], unnamed: str, found: Regions) -> Region:
    part, label, attributes = key_of(item.get("id", unnamed)), name_of(item.get("label")), item.get("attributes")
    shape: Shape = ("classification", NO_BOX, None, None)
    if tool in ("tagTool", "textTool"):
        attributes = item.get("value")
        label = next(_atoms(attributes), None) if tool == "tagTool" else None
        shape = ("text", *shape[1:]) if tool == "textTool" else shape
    elif tool in _SHAPES:
        try:
            shape = _SHAPES[tool](item)
        except UNREADABLE:
            found.repaired += 1
    word, box, polygon, points = shape
    told = attributes if isinstance(attributes, dict) else {"value": attributes} if attributes else None
    return (part, word, label, None, None, *box, polygon, None, points, None, told)


def _atoms(value: Any) -> Iterator[str]:
    """The words in a value, in order."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _atoms(item)
    elif value is not None:
        yield str(name_of(value))


def read_project(stored: Scalar) -> ProjectDocument:
    """The labels of a task's configuration: those of its drawing tools, by the value that regions have."""
    config, _ = parse(stored)
    labels: dict[str, str | None] = {}
    if not isinstance(config, dict):
        return ProjectDocument(unreadable=stored not in (None, "", b"") and config is not None)
    listed = config.get("tools")
    listed = [tool for tool in listed if isinstance(tool, dict)] if isinstance(listed, list) else []
    tools = [tool for tool in listed if key_of(tool.get("tool")) in _SHAPES]
    configs = [config, *(tool["config"] for tool in tools if isinstance(tool.get("config"), dict))]
    lists = [one.get("attributes") for one in configs]
    for each in lists:
        for item in each if isinstance(each, list) else ():
            name = item.get("value") or item.get("key") if isinstance(item, dict) else None
            if isinstance(name, str):
                colour = item.get("color")
                labels.setdefault(name, colour if isinstance(colour, str) else None)
    return ProjectDocument(labels)


DIALECT = Dialect(
    name="labelu",
    fields=("type", "label", "box", "polygon"),
    shape_fields=("points", "attributes"),
    image_fields=("width", "height"),
    read_regions=read_regions,
    read_project=read_project,
)
