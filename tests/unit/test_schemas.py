"""The JSON Schemas accept every file that the program writes, and refuse what it never writes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator, FormatChecker

from autoexport.commands.demo import make_database
from autoexport.formats.json_document import JsonDocument, JsonStyle
from autoexport.model.mapping import IMAGE_FIELDS
from autoexport.publishing.manifest import FORMAT_VERSION, FileRecord, Manifest
from tests.acceptance.readme import ALL_ON, EXAMPLE, FORMATS, blocks, export_of
from tests.contracts.test_formats import PROJECTS, projects_of
from tests.databases import Database
from tests.trees import Dataset, Project, built
from tests.trials import Trial

FOLDER = Path(__file__).resolve().parents[2] / "autoexport" / "formats" / "schemas"
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LINE_KEYS = {"project_id", "project_name", "dataset_id", "dataset_name"}
"""The keys that a line of images.jsonl has beside those of an image of the tree."""


def closed(schema: Any) -> Any:
    """A copy that accepts no key which the schema does not name: so a new key of the program is noticed."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: closed(value) for key, value in schema.items()}
    if "properties" in copied and copied.get("type") == "object":
        copied.setdefault("additionalProperties", False)
    return copied


def validator(name: str) -> Draft202012Validator:
    """The validator of one schema, without unknown keys."""
    schema = json.loads((FOLDER / f"{name}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(closed(schema), format_checker=FormatChecker())


DOCUMENT, MANIFEST = validator("database_export"), validator("manifest")


def faults(of: Draft202012Validator, text: str | bytes) -> list[str]:
    """The first faults that the validator finds in a JSON text."""
    found = of.iter_errors(json.loads(text))
    return [f"{fault.json_path}: {fault.message[:200]}" for fault, _ in zip(found, range(5), strict=False)]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.name)
def test_the_golden_documents_are_valid(path: Path) -> None:
    """Every golden file that is a JSON document is one by the schema."""
    assert faults(DOCUMENT, path.read_bytes()) == []


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.jsonl")), ids=lambda path: path.name)
def test_the_golden_lines_are_images(path: Path) -> None:
    """A line of images.jsonl is an image of the tree, and says in which dataset and project it is."""
    image = DOCUMENT.evolve(schema={"$defs": DOCUMENT.schema["$defs"], "$ref": "#/$defs/image"})
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        assert record.keys() >= LINE_KEYS
        tree_image = {key: value for key, value in record.items() if key not in LINE_KEYS}
        assert faults(image, json.dumps(tree_image)) == []


def test_every_golden_file_has_a_schema_or_is_a_table() -> None:
    """A new golden file that is JSON must not go unnoticed."""
    assert {path.suffix for path in GOLDEN.iterdir()} <= {".json", ".jsonl", ".csv"}


def test_the_documented_example_is_valid() -> None:
    """The example of the documentation, and its lines."""
    (example,) = blocks("json", FORMATS)
    assert faults(DOCUMENT, example.text) == []


def assert_valid(exports: Path) -> None:
    """Both files in a directory are valid."""
    assert faults(DOCUMENT, (exports / "database_export.json").read_bytes()) == []
    assert faults(MANIFEST, (exports / "manifest.json").read_bytes()) == []


def test_the_demo_is_valid(tmp_path: Path) -> None:
    """The export of the sample database, with all outputs on."""
    make_database(tmp_path / "demo.db")
    trial = Trial(f"sqlite:///{tmp_path}/demo.db", tmp_path / "exports")
    trial.export()
    assert_valid(trial.directory)


def test_the_example_database_is_valid(tmp_path: Path) -> None:
    """The small database of the documentation."""
    assert_valid(export_of(EXAMPLE, tmp_path, ALL_ON))


def test_every_kind_of_database_is_valid(database: Database, tmp_path: Path) -> None:
    """The application's sample rows, with values that are unusual, from each kind of database, also changed."""
    trial = Trial(database.url, tmp_path / "exports")
    trial.export()
    assert_valid(trial.directory)
    database.execute("UPDATE projects SET name = ?, description = ?", "</script>\u2028", None)
    trial.export()
    assert_valid(trial.directory)


@pytest.mark.parametrize("style", ["records", "pretty"])
@given(drawn=PROJECTS)
def test_every_tree_is_valid(style: JsonStyle, drawn: list[list[list[dict[str, Any]]]]) -> None:
    """Whatever the rows hold: odd sizes, times that are none, unknown splits, shapes that cannot be read."""
    assert faults(DOCUMENT, built(projects_of(drawn)).written(JsonDocument(style))) == []


def test_more_shapes_are_valid() -> None:
    """The keys that are there only if the mapping has them."""
    rows: list[dict[str, Any]] = [
        {"id": 1, "type": "mask", "mask": '{"format": "rle"}', "attributes": '{"a": 1}', "track_id": 7,
         "frame": 3, "keyframe": 1, "rotation": 30, "points": "[[5, 6.5]]"},
    ]  # fmt: skip
    project = Project(
        {"id": 1, "name": "p"}, [], [Dataset({"id": 1, "name": "d"}, [{"id": 1, "annotations": rows}])]
    )
    assert faults(DOCUMENT, built([project]).written(JsonDocument("records"))) == []


def test_the_manifest_of_this_version() -> None:
    """Its version is the one in both schemas, and COCO's counts may be there."""
    files = {"coco/a b/annotations/instances_train.json": FileRecord(0, "crc32:00000000", 0)}
    manifest = Manifest(
        generation=1, timestamp="2024-01-20T10:30:00Z", database="app.db", files=files,
        left_out={"coco": {"images without a size": 3}},
    )  # fmt: skip
    assert faults(MANIFEST, manifest.to_json()) == []
    for schema in (MANIFEST.schema, DOCUMENT.schema["properties"]["export_info"]):
        assert schema["properties"]["format_version"] == {"const": FORMAT_VERSION}


def test_an_image_has_the_columns_of_the_model() -> None:
    """The schema names every field of an image that the program publishes."""
    assert set(IMAGE_FIELDS) - {"dataset_id", "id"} <= DOCUMENT.schema["$defs"]["image"]["properties"].keys()


def first_image(document: dict[str, Any]) -> dict[str, Any]:
    """The first image of the golden document."""
    image: dict[str, Any] = document["projects"][0]["datasets"][0]["images"][0]
    return image


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a missing key": lambda document: first_image(document).pop("split"),
    "an unknown key": lambda document: first_image(document).update(new=1),
    "a flag that is text": lambda document: first_image(document).update(is_labeled="yes"),
    "a count below zero": lambda document: first_image(document).update(annotation_count=-1),
    "an unknown type": lambda document: first_image(document)["annotations"][0].update(type="blob"),
    "a box without a corner": lambda document: first_image(document)["annotations"][0]["bbox"].pop("x_min"),
    "another version": lambda document: document["export_info"].update(format_version=1),
    "no projects": lambda document: document.pop("projects"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_document_is_refused(name: str) -> None:
    """The schema says something: each of these changes makes the golden file invalid."""
    document = copy.deepcopy(json.loads((GOLDEN / "database_export.records.json").read_bytes()))
    BROKEN[name](document)
    assert faults(DOCUMENT, json.dumps(document)) != []
