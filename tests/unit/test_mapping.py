"""How the tables of a database are understood: every rule, on the declarations of real databases."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine

from autoexport.errors import ConfigurationError, MappingError
from autoexport.mapping.description import describe
from autoexport.mapping.mapper import map_catalog, mapping_digest
from autoexport.model.catalog import Catalog, Column, ColumnKind, ForeignKey, Table
from autoexport.model.mapping import Mapping
from autoexport.sources.sqlite.schema import read_catalog
from tests.applications import SCHEMA

PROJECTS = "CREATE TABLE projects (id INTEGER PRIMARY KEY, name TEXT);"
DATASETS = "CREATE TABLE datasets (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER REFERENCES projects);"
IMAGES = "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, dataset_id INTEGER REFERENCES datasets);"
ANNOTATIONS = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER REFERENCES images, label TEXT);"
LABELS = "CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER REFERENCES projects);"
ABOVE = PROJECTS + DATASETS
IMAGED = ABOVE + IMAGES


def catalog_of(ddl: str) -> Catalog:
    """The declarations of a real SQLite database that was made by these statements."""
    engine = create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            for statement in filter(str.strip, ddl.split(";")):
                connection.exec_driver_sql(statement)
            return read_catalog(connection).catalog
    finally:
        engine.dispose()


def mapped(ddl: str, **tables: Any) -> Mapping:
    """How a database made by these statements is understood."""
    return map_catalog(catalog_of(ddl), tables)


def refused(ddl: str | Catalog, **tables: Any) -> MappingError:
    """The error of a database that cannot be understood."""
    with pytest.raises(MappingError) as caught:
        map_catalog(ddl if isinstance(ddl, Catalog) else catalog_of(ddl), tables)
    assert caught.value.exit_code == 2
    return caught.value


def said_by(error: MappingError) -> dict[str, Any]:
    """The configuration that an error's hint proposes, as it would be read from the file."""
    said = tomllib.loads(error.hint.partition("Decide in autoexport.toml:\n")[2])
    return dict(said["tables"])


def columns(mapping: Mapping, logical: str) -> dict[str, str]:
    """The real columns of a logical table, by field."""
    return {name: column.name for name, column in mapping.tables()[logical].fields.items()}


def names(mapping: Mapping) -> dict[str, str]:
    """The real tables, by logical table."""
    return {logical: table.table.name for logical, table in mapping.tables().items()}


def link(mapping: Mapping, logical: str) -> tuple[str, str] | None:
    """The column that names the parent, and the parent's column."""
    table = mapping.tables()[logical]
    if table.parent_link is None or table.parent_column is None:
        return None
    return table.parent_link.name, table.parent_column.name


# --- the application this began with -------------------------------------------------------------


def test_first_application_is_mapped_whole() -> None:
    """Every field of the first application is found; nothing but the unstored type is missing."""
    mapping = mapped(SCHEMA)
    assert names(mapping) == {name: name for name in ("projects", "datasets", "labels", "images", "annotations")}
    assert columns(mapping, "annotations") == {
        "id": "id", "label": "class_name", "label_id": "class_id", "confidence": "confidence",
        "box_0": "x_min", "box_1": "y_min", "box_2": "x_max", "box_3": "y_max", "polygon": "segmentation",
        "is_auto_generated": "is_auto_generated", "is_verified": "is_verified", "model_id": "model_id",
        "created_at": "created_at", "updated_at": "updated_at",
    }  # fmt: skip
    image = columns(mapping, "images")
    assert (image["split"], image["status"]) == ("split_section", "split_type")
    assert all(name == column for name, column in image.items() if name not in ("split", "status"))
    assert link(mapping, "datasets") == link(mapping, "labels") == ("project_id", "id")
    assert link(mapping, "images") == ("dataset_id", "id")
    assert link(mapping, "annotations") == ("image_id", "id")
    assert (mapping.box, mapping.label_joined, mapping.labels_by_dataset) == ("corners", False, False)
    assert (mapping.warnings, mapping.not_found) == ((), ("annotations.type",))


def test_only_known_columns_are_mapped() -> None:
    """Columns that no field asks for, and tables such as settings with password hashes, appear nowhere."""
    mapping = mapped(SCHEMA)
    shown = {table.table.name for table in mapping.tables().values()}
    assert shown == {"projects", "datasets", "images", "annotations", "labels"}
    assert not {"default_model_id", "total_images", "auto_label_enabled"} & {
        column for logical in mapping.tables() for column in columns(mapping, logical).values()
    }


# --- schemas of different shape ------------------------------------------------------------------


def test_camel_case_and_singular_names() -> None:
    """Names match whatever their case and separators, singular or plural."""
    mapping = mapped(
        'CREATE TABLE "Project" ("Id" INTEGER PRIMARY KEY, "projectName" TEXT, "createdAt" DATETIME);'
        'CREATE TABLE "Dataset" (id INTEGER PRIMARY KEY, name TEXT, "projectId" INTEGER);'
        'CREATE TABLE "Image" (id INTEGER PRIMARY KEY, "fileName" TEXT, "DatasetID" INT, "isLabeled" BOOL);'
        'CREATE TABLE "Annotation" (id INTEGER PRIMARY KEY, "imageId" INTEGER, "className" TEXT, "xMin" REAL,'
        ' "yMin" REAL, "xMax" REAL, "yMax" REAL);'
        'CREATE TABLE "LabelClass" (id INTEGER PRIMARY KEY, name TEXT, "projectID" INTEGER)'
    )
    assert names(mapping) == {
        "projects": "Project", "datasets": "Dataset", "images": "Image", "annotations": "Annotation",
        "labels": "LabelClass",
    }  # fmt: skip
    assert columns(mapping, "projects") == {"id": "Id", "name": "projectName", "created_at": "createdAt"}
    assert columns(mapping, "images") == {"id": "id", "filename": "fileName", "is_labeled": "isLabeled"}
    assert columns(mapping, "annotations")["box_3"] == "yMax"
    assert (link(mapping, "images"), link(mapping, "labels")) == (("DatasetID", "id"), ("projectID", "Id"))


def test_without_datasets_images_name_their_project() -> None:
    """Where there is no datasets table an image's link is the one to its project."""
    images = "CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, project INTEGER REFERENCES projects);"
    mapping = mapped(PROJECTS + images + ANNOTATIONS + LABELS)
    assert mapping.datasets is None
    assert link(mapping, "images") == ("project", "id")
    assert "datasets" in mapping.not_found
    assert mapping.warnings == ()


def test_without_projects_datasets_have_no_link() -> None:
    """Where there is no projects table the datasets and labels have no link, whatever they name."""
    mapping = mapped(DATASETS + IMAGES + ANNOTATIONS + LABELS)
    assert mapping.projects is None
    assert link(mapping, "datasets") is link(mapping, "labels") is None
    assert link(mapping, "images") == ("dataset_id", "id")
    assert "projects" in mapping.not_found


def test_without_projects_and_datasets_images_have_no_link() -> None:
    """Images alone are enough; a column that names a parent that is nowhere is said in every export."""
    alone = mapped("CREATE TABLE photos (id INTEGER PRIMARY KEY, name TEXT);")
    assert (link(alone, "images"), alone.warnings) == (None, ())
    orphaned = mapped("CREATE TABLE images (id INTEGER PRIMARY KEY, name TEXT, dataset_id INTEGER);")
    assert link(orphaned, "images") is None
    assert "all images are in one dataset" in orphaned.warnings[0]


def test_without_labels_names_come_from_annotations() -> None:
    """A database without a labels table is not an error."""
    mapping = mapped(IMAGED + ANNOTATIONS)
    assert (mapping.labels, mapping.label_joined, mapping.warnings) == (None, False, ())
    assert columns(mapping, "annotations") == {"id": "id", "label": "label"}
    assert ("labels", "table", "not found: labels come from the annotations' names") in describe(mapping)


def test_labels_table_that_names_images_is_annotations() -> None:
    """A `labels` table with a link to an image holds annotations, and its name is their label."""
    mapping = mapped(
        IMAGED + "CREATE TABLE labels (id INTEGER PRIMARY KEY, image_id INTEGER, name TEXT, x REAL, y REAL,"
        " width REAL, height REAL); CREATE TABLE label_classes (id INTEGER PRIMARY KEY, name TEXT)"
    )
    assert names(mapping)["annotations"] == "labels"
    assert names(mapping)["labels"] == "label_classes"
    assert columns(mapping, "annotations")["label"] == "name"


def test_labels_with_a_cover_image_are_labels() -> None:
    """A foreign key to a picture of the label does not turn label names into annotations."""
    labels = (
        "CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, color TEXT,"
        " cover_image_id INTEGER REFERENCES images)"
    )
    mapping = mapped(IMAGED + ANNOTATIONS + labels)
    assert names(mapping)["labels"] == "labels"
    assert names(mapping)["annotations"] == "annotations"


def test_label_by_foreign_key() -> None:
    """The table that a declared foreign key names as label is the labels table, whatever it is called."""
    mapping = mapped(
        IMAGED + "CREATE TABLE tags (tag_id INTEGER PRIMARY KEY, title TEXT, colour TEXT);"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INT, category_id INT REFERENCES tags);"
    )
    assert columns(mapping, "labels") == {"id": "tag_id", "name": "title", "color": "colour"}
    assert columns(mapping, "annotations") == {"id": "id", "label_id": "category_id"}
    assert mapping.label_joined
    assert ("annotations", "label", "category_id → tags.title") in describe(mapping)


@pytest.mark.parametrize(
    ("table", "declared", "found"),
    [
        ("classes", "class_id INTEGER", "classes"),
        ("class", "class_name TEXT", "class"),
        ("categories", "category INTEGER", "categories"),
        ("Category", "categoryId INTEGER", "Category"),
        ("classes", "label TEXT", None),
        ("categories", "class_id INTEGER", None),
        ("classes", "class_id INTEGER REFERENCES projects", None),
        ("tags", "label TEXT", None),
    ],
)
def test_labels_by_the_name_of_a_column(table: str, declared: str, found: str | None) -> None:
    """`classes` are labels if annotations have a `class_id`, a `class_name` or a `class`; `labels` come first."""
    annotations = f"CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, bbox JSON, {declared});"
    ddl = IMAGED + annotations + f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT, color TEXT);"
    mapping = mapped(ddl)
    assert names(mapping).get("labels") == found
    assert mapping.label_joined is (found is not None and "INTEGER" in declared)
    assert names(mapped(ddl + LABELS))["labels"] == "labels"


@pytest.mark.parametrize(
    ("declared", "reading", "expected"),
    [
        ("xmin REAL, ymin REAL, xmax REAL, ymax REAL", "corners", "xmin ymin xmax ymax"),
        ("y2 REAL, x2 REAL, y1 REAL, x1 REAL", "corners", "x1 y1 x2 y2"),
        ("bbox_x1 INT, bbox_y1 INT, bbox_x2 INT, bbox_y2 INT", "corners", "bbox_x1 bbox_y1 bbox_x2 bbox_y2"),
        ("x REAL, y REAL, width REAL, height REAL", "origin", "x y width height"),
        ("bbox_x REAL, bbox_y REAL, bbox_w REAL, bbox_h REAL", "origin", "bbox_x bbox_y bbox_w bbox_h"),
        ("x_center REAL, y_center REAL, width REAL, height REAL", "center", "x_center y_center width height"),
    ],
)
def test_box_of_four_columns(declared: str, reading: str, expected: str) -> None:
    """Four columns are read by their names: corners, origin and size, centre and size."""
    mapping = mapped(IMAGED + f"CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INT, {declared})")
    assert mapping.box == reading
    assert mapping.annotations is not None
    assert " ".join(mapping.annotations.fields[f"box_{place}"].name for place in range(4)) == expected
    assert not {"box_json", "width", "height"} & set(mapping.annotations.fields)


def test_box_of_four_columns_must_be_whole() -> None:
    """Three of four columns are no box, and alone they make no annotations."""
    mapping = mapped(
        IMAGED + "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INT, x INT, y INT, width INT)"
    )
    assert mapping.annotations is None
    assert "annotations looks like annotations and is not exported" in mapping.warnings[0]


def test_box_of_more_than_four_columns() -> None:
    """Two of four corners are no box, and the angle of a box is not passed over in silence."""
    corners = ", ".join(f"{axis}{index} REAL" for index in range(1, 5) for axis in "xy")
    annotations = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, label TEXT, {})"
    mapping = mapped(IMAGED + annotations.format(corners))
    assert (mapping.box, mapping.warnings) == (
        None,
        ("annotations.x3 is not read: a shape of more than two corners is no box.",),
    )
    turned = mapped(IMAGED + annotations.format("x REAL, y REAL, width REAL, height REAL, rotation REAL"))
    assert turned.box == "origin"
    assert "annotations.rotation is not read: turned boxes are exported as if" in turned.warnings[0]


def test_box_as_json() -> None:
    """A JSON column is a box by its keys; how a list is read is only known if it is told."""
    ddl = IMAGED + "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, bounding_box JSON)"
    silent, told = mapped(ddl), mapped(ddl, annotations={"box_format": "cxcywh"})
    assert columns(silent, "annotations")["box_json"] == "bounding_box"
    assert (silent.box, silent.box_format) == ("json", None)
    assert (told.box, told.box_format) == ("json", "cxcywh")
    shown = {field: note for _, field, note in describe(silent)}
    assert shown["box"] == "bounding_box: JSON, set box_format to read lists"
    assert ("annotations", "box", "bounding_box: JSON, lists as cxcywh") in describe(told)


def test_four_columns_win_over_json() -> None:
    """Where both are stored the four columns are read, and the reading of lists does not matter."""
    box = "x_min REAL, y_min REAL, x_max REAL, y_max REAL, bbox JSON"
    mapping = mapped(IMAGED + f"CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, {box})")
    assert (mapping.box, mapping.box_format) == ("corners", None)
    assert "box_json" not in columns(mapping, "annotations")


@pytest.mark.parametrize("kind", ["INTEGER", "VARCHAR(36)", "UUID", "BLOB"])
def test_keys_of_any_kind(kind: str) -> None:
    """Integers, text, UUIDs and bytes are keys, and link by name without declared foreign keys."""
    mapping = mapped(
        f"CREATE TABLE projects (id {kind} PRIMARY KEY, name TEXT);"
        f"CREATE TABLE datasets (id {kind} PRIMARY KEY, name TEXT, project_id {kind});"
        f"CREATE TABLE images (id {kind} PRIMARY KEY, filename TEXT, dataset_id {kind});"
        f"CREATE TABLE annotations (id {kind} PRIMARY KEY, image_id {kind}, label TEXT)"
    )
    assert len(mapping.tables()) == 4
    assert [link(mapping, name) for name in ("datasets", "images", "annotations")] == [
        ("project_id", "id"), ("dataset_id", "id"), ("image_id", "id"),
    ]  # fmt: skip


# --- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["id", "image_id", "images_id", "uuid", "UID"])
def test_view_has_a_key_by_name(key: str) -> None:
    """A view declares no primary key; a column of a conventional name is its key."""
    mapping = mapped(
        "CREATE TABLE raw (k INTEGER PRIMARY KEY, f TEXT);"
        f"CREATE VIEW images AS SELECT k AS {key}, f AS filename FROM raw"
    )
    assert columns(mapping, "images") == {"id": key, "filename": "filename"}
    assert ("images", "table", "images (view)") in describe(mapping)


def test_primary_key_wins_over_id() -> None:
    """A primary key of one column is the key, whatever else is called id."""
    mapping = mapped("CREATE TABLE images (id INTEGER, code TEXT PRIMARY KEY, filename TEXT)")
    assert columns(mapping, "images")["id"] == "code"


def test_composite_primary_key() -> None:
    """With several key columns a table maps by its id, which is said, or not at all."""
    keyed = mapped("CREATE TABLE images (tenant INTEGER, id INTEGER, filename TEXT, PRIMARY KEY (tenant, id))")
    assert columns(keyed, "images")["id"] == "id"
    assert "rows are distinguished by id alone" in keyed.warnings[0]
    error = refused("CREATE TABLE images (tenant INTEGER, no INTEGER, filename TEXT, PRIMARY KEY (tenant, no))")
    assert "images has no key column" in str(error)


def test_name_may_be_the_key() -> None:
    """A label whose name is its primary key has both fields from one column."""
    mapping = mapped(IMAGED + "CREATE TABLE labels (name TEXT PRIMARY KEY, color TEXT)")
    assert columns(mapping, "labels") == {"id": "name", "name": "name", "color": "color"}


# --- which table ---------------------------------------------------------------------------------


def test_two_image_tables_are_refused() -> None:
    """Two tables that fit are not chosen between; the hint's lines settle it."""
    ddl = IMAGED + "CREATE TABLE assets (id INTEGER PRIMARY KEY, path TEXT, dataset_id INTEGER)"
    error = refused(ddl)
    assert "assets and images fit as the images table" in str(error)
    assert '[tables.images]\ntable = "assets"' in error.hint
    assert '# or: table = "images"' in error.hint
    assert names(mapped(ddl, **said_by(error)))["images"] == "assets"


def test_table_that_lacks_a_field_is_no_candidate() -> None:
    """Photos without a name or a path, and assets that belong to no dataset, do not compete with images."""
    others = "CREATE TABLE photos (id INTEGER PRIMARY KEY, dataset_id INTEGER);"
    others += "CREATE TABLE assets (id INTEGER PRIMARY KEY, path TEXT);"
    mapping = mapped(IMAGED + others)
    assert (names(mapping)["images"], mapping.warnings) == ("images", ())


def test_two_annotation_tables_are_refused() -> None:
    """`annotations` and `bbox_annotations` that both fit: no choice; later the other one is named."""
    other = "CREATE TABLE bbox_annotations (id INTEGER PRIMARY KEY, image_id INTEGER, bbox JSON)"
    error = refused(IMAGED + ANNOTATIONS + other)
    settled = mapped(IMAGED + ANNOTATIONS + other, **said_by(error))
    assert names(settled)["annotations"] == "annotations"
    assert settled.warnings == ("bbox_annotations looks like annotations and is not exported.",)
    assert [item.table.name for item in settled.left_out] == ["bbox_annotations"]
    ignoring = mapped(IMAGED + ANNOTATIONS + other, annotations={"ignore": ["BBOX_annotations", "gone"]})
    assert (names(ignoring)["annotations"], ignoring.left_out) == ("annotations", ())
    assert ignoring.warnings == ("tables.annotations.ignore names 'gone', which is no table of the database.",)


def test_two_label_tables_are_refused_unless_a_foreign_key_decides() -> None:
    """Without a declared foreign key two label tables are ambiguous; with one they are not."""
    other = "CREATE TABLE label_classes (id INTEGER PRIMARY KEY, name TEXT);"
    error = refused(IMAGED + ANNOTATIONS + LABELS + other)
    assert "labels" in said_by(error)
    by_key = "CREATE TABLE annotations (id INTEGER, image_id INT, label_id INT REFERENCES label_classes);"
    assert names(mapped(IMAGED + by_key + LABELS + other))["labels"] == "label_classes"


def test_workspaces_above_projects_are_decided_by_foreign_keys() -> None:
    """The table that the datasets' foreign key refers to is the projects table."""
    workspaces = "CREATE TABLE workspaces (id INTEGER PRIMARY KEY, name TEXT);"
    assert names(mapped(IMAGED + workspaces))["projects"] == "projects"
    undeclared = "CREATE TABLE datasets (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER);"
    error = refused(PROJECTS + undeclared + IMAGES + workspaces)
    assert "projects and workspaces fit as the projects table" in str(error)


def test_datasets_of_unknown_name_are_found_by_foreign_key() -> None:
    """A declared foreign key in `volume_id` makes its target the datasets table."""
    mapping = mapped(
        PROJECTS + "CREATE TABLE volumes (id INTEGER PRIMARY KEY, title TEXT, project_id INTEGER);"
        "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, volume_id INTEGER REFERENCES volumes)"
    )
    assert (names(mapping)["datasets"], link(mapping, "images")) == ("volumes", ("volume_id", "id"))


def _in_schema(schema: str | None, name: str, columns: str, keys: Sequence[ForeignKey] = ()) -> Table:
    fields = tuple(
        Column(column, "text" if column in ("name", "filename") else "integer") for column in columns.split()
    )
    return Table(name, schema, "table", fields, ("id",), tuple(keys))


def test_a_table_of_another_schema_than_the_configured_one() -> None:
    """Labels of another application's schema are no silent choice; a declared key or a setting is one."""
    tables = [
        _in_schema("anno", "projects", "id name"),
        _in_schema("anno", "datasets", "id name project_id"),
        _in_schema("anno", "images", "id filename dataset_id"),
        _in_schema("anno", "annotations", "id image_id label_id"),
    ]
    labels = _in_schema("public", "labels", "id name")
    config: dict[str, object] = {
        name: {"schema": "anno"} for name in ("projects", "datasets", "images", "annotations")
    }

    def told(*tables: Table, **more: object) -> list[str]:
        warnings = map_catalog(Catalog(tables), {**config, **more}).warnings
        return [warning for warning in warnings if "in the schema" in warning]

    assert told(*tables) == []
    (warning,) = told(*tables, labels)
    assert warning.startswith("public.labels is exported as labels")
    assert told(*tables, labels, labels={"schema": "public"}) == []
    assert told(*tables, labels, labels={"table": False}) == []
    key = ForeignKey(("label_id",), "public", "labels", ("id",))
    assert told(*tables[:3], replace(tables[3], foreign_keys=(key,)), labels) == []


def test_one_table_name_in_two_schemas() -> None:
    """A name in two schemas is ambiguous until configuration or a foreign key names the schema."""
    projects = [_in_schema("a", "project", "id name"), _in_schema("b", "project", "id name")]
    datasets = _in_schema("a", "dataset", "id name project_id")
    images = _in_schema("a", "image", "id filename dataset_id")
    error = refused(Catalog((*projects, datasets, images)))
    assert (
        '[tables.projects]\ntable = "project"\nschema = "a"\n# or: table = "project", schema = "b"' in error.hint
    )
    settled = map_catalog(Catalog((*projects, datasets, images)), {"projects": {"schema": "b"}})
    assert settled.projects is not None
    assert settled.projects.table.full_name == "b.project"
    key = ForeignKey(("project_id",), "b", "project", ("id",))
    declared = map_catalog(Catalog((*projects, replace(datasets, foreign_keys=(key,)), images)))
    assert declared.projects is not None
    assert declared.projects.table.schema == "b"


@pytest.mark.parametrize("ddl", ["", "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)", ABOVE + LABELS])
def test_no_image_table_is_refused(ddl: str) -> None:
    """A database without images is an error that says so, not an empty export."""
    error = refused(ddl)
    assert "no tables" in str(error) if not ddl else "[tables.images]" in error.hint


def test_images_of_unknown_name_are_proposed() -> None:
    """Where no name is known, the hint names the table that looks like images, and its lines work."""
    ddl = ABOVE + "CREATE TABLE pictures (id INTEGER PRIMARY KEY, file_path TEXT, dataset_id INTEGER)"
    error = refused(ddl)
    assert '[tables.images]\ntable = "pictures"' in error.hint
    assert names(mapped(ddl, **said_by(error)))["images"] == "pictures"


@pytest.mark.parametrize(
    "name", ["io_storages_s3importstorage", "auth_user", "UserAvatars", "sessions", "api_tokens"]
)
def test_hints_name_no_table_of_logins_or_storages(name: str) -> None:
    """Such a table is not proposed, even if it has a path."""
    ddl = f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, file_path TEXT, width INTEGER, password TEXT);"
    assert name not in refused(ddl).hint
    assert name not in refused(ddl, images={"table": "picture"}).hint
    assert said_by(refused(ddl + "CREATE TABLE user_images (id INTEGER PRIMARY KEY, file_path TEXT)")) == {
        "images": {"table": "user_images"}
    }


def test_unmapped_annotations_are_a_warning() -> None:
    """Tables with shapes on images, or that are called annotations, are never left out silently."""
    regions = "CREATE TABLE regions (id INTEGER PRIMARY KEY, img INTEGER REFERENCES images, polygon JSON);"
    unlinked = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, task_id INTEGER, label TEXT);"
    mapping = mapped(IMAGED + regions + unlinked)
    assert mapping.annotations is None
    assert mapping.warnings == (
        "annotations looks like annotations and is not exported: it has no column that names images.",
        "regions looks like annotations and is not exported.",
    )
    assert mapped(IMAGED + regions, annotations={"table": "regions"}).warnings == ()
    assert mapped(IMAGED + regions, annotations={"table": False}).warnings == ()
    assert [(item.name, item.lacking) for item in mapping.left_out] == [
        ("regions", ""),
        ("annotations", "image_id"),
    ]
    assert mapped(IMAGED + regions, annotations={"table": False}).left_out == ()


@pytest.mark.parametrize(
    ("ddl", "lost"),
    [
        ("CREATE TABLE marks (id INTEGER PRIMARY KEY, img INTEGER REFERENCES images, label TEXT)", ["marks"]),
        ("CREATE TABLE marks (id INTEGER PRIMARY KEY, img INTEGER REFERENCES images, mask BLOB)", ["marks"]),
        ("CREATE TABLE marks (id INTEGER PRIMARY KEY, img INTEGER REFERENCES images, note TEXT)", []),
        ("CREATE TABLE votes (id INTEGER PRIMARY KEY, image_id INTEGER, points INTEGER)", []),
        ("CREATE TABLE instances (id INTEGER PRIMARY KEY, host TEXT)", ["instances"]),
    ],
)
def test_the_only_annotations_may_have_unusual_columns(ddl: str, lost: list[str]) -> None:
    """Without any annotations table, a reference to an image and a geometry of some kind are enough."""
    assert [item.name for item in mapped(IMAGED + ddl).left_out] == lost
    assert mapped(IMAGED + ANNOTATIONS + ";" + ddl).left_out == ()


def test_unfit_parents_are_a_warning() -> None:
    """A labels table without names is not exported, and every export says so."""
    mapping = mapped(IMAGED + "CREATE TABLE labels (id INTEGER PRIMARY KEY, color TEXT)")
    assert mapping.labels is None
    assert mapping.warnings == ("the table labels is not exported as labels: it has no column for name.",)


# --- links ---------------------------------------------------------------------------------------


def test_foreign_keys_link_whatever_the_column_is_called() -> None:
    """A declared foreign key is a link; keys to users and to the own table are not."""
    mapping = mapped(
        ABOVE + "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);"
        "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, ds INTEGER REFERENCES datasets(id),"
        " parent_image_id INTEGER REFERENCES images(id), uploaded_by INTEGER REFERENCES users(id));"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, img INTEGER REFERENCES images(id), label TEXT,"
        " parent_id INTEGER REFERENCES annotations(id), created INTEGER REFERENCES users(id))"
    )
    assert link(mapping, "images") == ("ds", "id")
    assert link(mapping, "annotations") == ("img", "id")
    assert columns(mapping, "annotations") == {"id": "id", "label": "label"}


def test_link_to_another_column_than_the_key() -> None:
    """The parent's column is the one that the foreign key refers to."""
    mapping = mapped(
        "CREATE TABLE images (id INTEGER PRIMARY KEY, uuid TEXT UNIQUE, filename TEXT);"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image TEXT REFERENCES images(uuid), label TEXT)"
    )
    assert link(mapping, "annotations") == ("image", "uuid")


def test_conventional_link_wins_among_foreign_keys() -> None:
    """Of `dataset_id` and `original_dataset_id` the first is the link."""
    images = (
        "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT,"
        " original_dataset_id INTEGER REFERENCES datasets, dataset_id INTEGER REFERENCES datasets)"
    )
    assert link(mapped(ABOVE + images), "images") == ("dataset_id", "id")


@pytest.mark.parametrize(
    "declared",
    [
        "first_dataset INTEGER REFERENCES datasets, last_dataset INTEGER REFERENCES datasets",
        "dataset_id INTEGER, original_dataset_id INTEGER REFERENCES datasets",
    ],
)
def test_several_links_are_refused(declared: str) -> None:
    """Several columns that may be the link are not chosen between; the hint's lines settle it."""
    ddl = ABOVE + f"CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, {declared})"
    error = refused(ddl)
    assert "images names datasets in several columns" in str(error)
    said = said_by(error)
    assert link(mapped(ddl, **said), "images") == (said["images"]["columns"]["dataset_id"], "id")


def test_a_configured_link_that_refers_to_another_table_is_refused() -> None:
    """Ids of two tables that are equal by coincidence link nothing; the error names the table they belong to."""
    ddl = (
        "CREATE TABLE data (id INTEGER PRIMARY KEY, size INTEGER);"
        "CREATE TABLE task (id INTEGER PRIMARY KEY, name TEXT, data_id INTEGER REFERENCES data);"
        "CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, data_id INTEGER REFERENCES data);"
    )
    error = refused(ddl, datasets={"table": "task"}, images={"columns": {"dataset_id": "data_id"}})
    assert str(error) == "tables.images.columns.dataset_id: images.data_id refers to data, not to task."
    assert "create a view of images with the key of task" in error.hint
    marks = (
        "CREATE TABLE marks (id INTEGER PRIMARY KEY, {} INTEGER REFERENCES datasets, img INTEGER {}, label TEXT)"
    )
    for own, reference in (("img_set", "REFERENCES images"), ("img_set", "")):
        settings = {"table": "marks", "columns": {"image_id": own}}
        error = refused(IMAGED + marks.format(own, reference), annotations=settings)
        assert "marks.img_set refers to datasets, not to images." in str(error)
        assert ("# or: " in error.hint) is bool(reference)


def test_a_configured_link_by_ids_that_two_tables_share() -> None:
    """The parent's key is itself a reference to that table, so equal ids are no coincidence."""
    mapping = mapped(
        "CREATE TABLE media (id INTEGER PRIMARY KEY);"
        "CREATE TABLE images (media_id INTEGER PRIMARY KEY REFERENCES media, path TEXT);"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, of_id INTEGER REFERENCES media, label TEXT)",
        annotations={"columns": {"image_id": "of_id"}},
    )
    assert link(mapping, "annotations") == ("of_id", "media_id")


def test_a_configured_link_finds_the_table_it_refers_to() -> None:
    """The table of a configured link's foreign key is the parent, whatever it is called."""
    ddl = (
        PROJECTS + "CREATE TABLE bags (id INTEGER PRIMARY KEY, name TEXT, project_id INTEGER REFERENCES projects);"
        "CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, bag INTEGER REFERENCES bags)"
    )
    mapping = mapped(ddl, images={"columns": {"dataset_id": "bag"}})
    assert (names(mapping)["datasets"], link(mapping, "images")) == ("bags", ("bag", "id"))


def test_composite_foreign_key_is_refused() -> None:
    """A link that takes several columns is refused, unless the configuration says that one is enough."""
    ddl = (
        "CREATE TABLE images (tenant INTEGER, id INTEGER, filename TEXT, PRIMARY KEY (tenant, id));"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, tenant INTEGER, image_id INTEGER, label TEXT,"
        " FOREIGN KEY (tenant, image_id) REFERENCES images (tenant, id))"
    )
    error = refused(ddl)
    assert "foreign key of several columns (tenant, image_id), which is not supported" in str(error)
    assert link(mapped(ddl, **said_by(error)), "annotations") == ("image_id", "id")


def test_composite_foreign_key_that_contains_the_key_is_a_link() -> None:
    """A foreign key of several columns is not needed where one of them names the parent's primary key."""
    mapping = mapped(
        "CREATE TABLE images (id INTEGER PRIMARY KEY, tenant INTEGER, filename TEXT, UNIQUE (id, tenant));"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, img INTEGER, tenant INTEGER, label TEXT,"
        " FOREIGN KEY (img, tenant) REFERENCES images (id, tenant))"
    )
    assert link(mapping, "annotations") == ("img", "id")


def test_name_of_another_table_is_no_link() -> None:
    """`file_id` with a foreign key to another table does not name an image."""
    mapping = mapped(
        IMAGED + "CREATE TABLE files (id INTEGER PRIMARY KEY);"
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, file_id INTEGER REFERENCES files, label TEXT)"
    )
    assert mapping.annotations is None
    assert len(mapping.warnings) == 1


def test_link_of_another_type_is_explained() -> None:
    """A text column does not name an integer key by its name alone; the error says which types they are."""
    ddl = ABOVE + "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, dataset_id TEXT)"
    error = refused(ddl)
    assert "dataset_id is text, datasets.id is integer" in str(error)
    told = mapped(ddl, images={"columns": {"dataset_id": "dataset_id"}})
    assert link(told, "images") == ("dataset_id", "id")


def test_datasets_win_over_projects() -> None:
    """Images that name both belong to their dataset."""
    images = (
        "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, project_id INTEGER REFERENCES projects,"
        " dataset_id INTEGER REFERENCES datasets)"
    )
    mapping = mapped(ABOVE + images)
    assert (link(mapping, "images"), link(mapping, "datasets")) == (
        ("dataset_id", "id"),
        ("project_id", "id"),
    )


def test_datasets_without_images_are_left_out_and_said() -> None:
    """Where images name only their project the datasets table is left out, with a warning in every export."""
    ddl = ABOVE + "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, project_id INTEGER)"
    mapping = mapped(ddl)
    assert (mapping.datasets, link(mapping, "images")) == (None, ("project_id", "id"))
    assert "datasets is not exported: no column of images names it" in mapping.warnings[0]
    assert mapped(ddl, datasets={"table": False}).warnings == ()
    assert "no column of images names datasets" in str(refused(ddl, datasets={"table": "datasets"}))


def test_projects_that_datasets_do_not_name() -> None:
    """Projects beside the tree are left out with a warning; if images name both it is refused."""
    datasets = "CREATE TABLE datasets (id INTEGER PRIMARY KEY, name TEXT);"
    mapping = mapped(PROJECTS + datasets + IMAGES)
    assert mapping.projects is None
    assert "projects is not exported: no column of datasets names it" in mapping.warnings[0]
    images = "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT, dataset_id INTEGER, project_id INTEGER)"
    error = refused(PROJECTS + datasets + images)
    assert "datasets does not name its project" in str(error)
    assert link(mapped(PROJECTS + datasets + images, **said_by(error)), "images") == ("dataset_id", "id")
    assert link(mapped(PROJECTS + datasets + images, datasets={"table": False}), "images") == (
        "project_id",
        "id",
    )


def test_images_that_name_no_parent_are_refused() -> None:
    """Images without a link to the datasets that are there would all be orphans: refused."""
    error = refused(ABOVE + "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT)")
    assert "images has no column that names datasets" in str(error)
    assert said_by(error) == {"images": {"table": "images", "columns": {"dataset_id": "<column>"}}}


def test_the_hint_for_a_missing_link_does_not_depend_on_the_name_of_the_parent() -> None:
    """The hint proposes `dataset_id`, even if the name of the datasets table contains "filename"."""
    ddl = "CREATE TABLE filename_sets (id INTEGER PRIMARY KEY, name TEXT);"
    ddl += "CREATE TABLE images (id INTEGER PRIMARY KEY, filename TEXT)"
    error = refused(ddl, datasets={"table": "filename_sets"})
    assert "images has no column that names filename_sets" in str(error)
    assert said_by(error) == {"images": {"table": "images", "columns": {"dataset_id": "<column>"}}}


def test_labels_by_dataset() -> None:
    """Labels that name a dataset are told from those that name a project, which wins if they name both."""
    labels = "CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT, dataset_id INTEGER);"
    mapping = mapped(IMAGED + labels)
    assert (mapping.labels_by_dataset, link(mapping, "labels")) == (True, ("dataset_id", "id"))
    both = mapped(IMAGED + labels.replace("name TEXT", "name TEXT, project_id INTEGER"))
    assert (both.labels_by_dataset, link(both, "labels")) == (False, ("project_id", "id"))
    neither = mapped(IMAGED + "CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT)")
    assert (link(neither, "labels"), "labels.project_id" in neither.not_found) == (None, True)


# --- labels of annotations -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "label", "label_id", "joined"),
    [
        ("class_name TEXT, class_id INTEGER", "class_name", "class_id", False),
        ("class_name TEXT, class_id INTEGER REFERENCES labels", "class_name", "class_id", True),
        ("class_id INTEGER", None, "class_id", True),
        ("category INTEGER", None, "category", True),
        ("label INTEGER REFERENCES labels(id)", None, "label", True),
        ("tag INTEGER REFERENCES labels(id)", None, "tag", True),
        ("label TEXT REFERENCES labels(name)", "label", None, False),
        ("category TEXT, label INTEGER", "category", "label", False),
    ],
)
def test_label_or_id(declared: str, label: str | None, label_id: str | None, joined: bool) -> None:
    """An integer is an id; it is joined by a declared foreign key, or where no name is stored."""
    ddl = (
        IMAGED + LABELS + f"CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INT, bbox JSON, {declared})"
    )
    mapping = mapped(ddl)
    found = columns(mapping, "annotations")
    assert (found.get("label"), found.get("label_id"), mapping.label_joined) == (label, label_id, joined)
    assert mapping.warnings == ()


def test_ids_without_names_are_a_warning() -> None:
    """Ids that no labels table explains are exported as ids, and every export says so."""
    annotations = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, category INTEGER);"
    mapping = mapped(IMAGED + annotations)
    assert (columns(mapping, "annotations").get("label_id"), mapping.label_joined) == ("category", False)
    assert "annotations.category is an id, and there is no labels table" in mapping.warnings[0]
    other = "CREATE TABLE kinds (id INTEGER PRIMARY KEY);"
    elsewhere = mapped(
        IMAGED + other + annotations.replace("category INTEGER", "category INTEGER REFERENCES kinds") + LABELS
    )
    assert not elsewhere.label_joined
    assert "it does not refer to labels" in elsewhere.warnings[0]


def test_label_by_another_column_than_the_key() -> None:
    """Ids that refer to a column which is not the labels' key are refused with the line that settles it."""
    ddl = IMAGED + (
        "CREATE TABLE labels (id INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT);"
        "CREATE TABLE annotations (id INTEGER, image_id INTEGER, label_id TEXT REFERENCES labels(code))"
    )
    error = refused(ddl)
    settled = mapped(ddl, **said_by(error))
    assert settled.label_joined
    assert columns(settled, "labels")["id"] == "code"


def test_several_label_ids_are_refused() -> None:
    """Two foreign keys to the labels of which neither has a telling name are not chosen between."""
    keys = "first_tag INTEGER REFERENCES labels, last_tag INTEGER REFERENCES labels"
    ddl = IMAGED + LABELS + f"CREATE TABLE annotations (id INTEGER, image_id INTEGER, bbox JSON, {keys})"
    error = refused(ddl)
    assert "annotations names its label in several columns: first_tag, last_tag" in str(error)
    assert columns(mapped(ddl, **said_by(error)), "annotations")["label_id"] == "first_tag"
    telling = mapped(ddl.replace("last_tag", "label_id"))
    assert columns(telling, "annotations")["label_id"] == "label_id"


def test_labels_can_be_left_out() -> None:
    """`false` leaves out the labels table, the stored name or the id; a name that is left out is joined."""
    ddl = IMAGED + LABELS + ANNOTATIONS.replace("label TEXT", "label TEXT, label_id INTEGER REFERENCES labels")
    without = mapped(ddl, labels={"table": False})
    assert (without.labels, without.label_joined) == (None, False)
    assert set(columns(without, "annotations")) == {"id", "label", "label_id"}
    unnamed = mapped(ddl, annotations={"columns": {"label": False}})
    assert (set(columns(unnamed, "annotations")), unnamed.label_joined) == ({"id", "label_id"}, True)
    alone = mapped(ddl, annotations={"columns": {"label_id": False}})
    assert (set(columns(alone, "annotations")), alone.label_joined) == ({"id", "label"}, False)
    told = mapped(ddl, annotations={"columns": {"label": "label"}})
    assert not told.label_joined


# --- fields --------------------------------------------------------------------------------------


def test_urls_are_never_paths() -> None:
    """A URL may carry a signed token: it is no path by convention, and cannot be made one."""
    images = "CREATE TABLE images (id INTEGER PRIMARY KEY, name TEXT, url TEXT, {} TEXT)"
    assert columns(mapped(images.format("image_url")), "images") == {"id": "id", "filename": "name"}
    for name in ("url", "imageUrl", "signed_URL"):
        for setting in ("file_path", "filename", "id"):
            error = refused(images.format("imageUrl, signed_URL"), images={"columns": {setting: name}})
            assert "signed token" in str(error)
    error = refused("CREATE TABLE images (signed_url TEXT PRIMARY KEY, id INTEGER, name TEXT)")
    assert "images has no key column" in str(error)


def test_width_and_height_come_from_one_pair() -> None:
    """A width is not combined with the height of another size."""
    size = "width INTEGER, original_width INTEGER, original_height INTEGER"
    found = columns(mapped(f"CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, {size})"), "images")
    assert (found["width"], found["height"]) == ("original_width", "original_height")


def test_column_of_unfitting_type_is_not_read() -> None:
    """A size that is text is not a number of bytes; the export says that it is not read."""
    mapping = mapped("CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, size TEXT)")
    assert "file_size" not in columns(mapping, "images")
    assert mapping.warnings == ("images.file_size: images.size is of type TEXT and is not read.",)


def test_a_column_is_one_field() -> None:
    """`type` said to be the label is not the type too."""
    ddl = IMAGED + "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, type TEXT)"
    mapping = mapped(ddl, annotations={"columns": {"label": "type"}})
    assert columns(mapping, "annotations") == {"id": "id", "label": "type"}


@pytest.mark.parametrize(
    "mark", ["deleted_at DATETIME", "is_deleted BOOLEAN", "deleted INTEGER", "deletedAt TEXT"]
)
@pytest.mark.parametrize("logical", ["projects", "datasets", "images", "annotations", "labels"])
def test_marks_of_deletion(mark: str, logical: str) -> None:
    """Every logical table may mark rows as deleted, by a time or by a flag."""
    ddl = IMAGED + ANNOTATIONS + LABELS
    mapping = mapped(ddl.replace(f"TABLE {logical} (", f"TABLE {logical} ({mark}, "))
    assert [column.name for column in mapping.tables()[logical].deleted] == [mark.split()[0]]
    assert mapping.warnings == ()


@pytest.mark.parametrize("declared", ["is_deleted TEXT", "deleted VARCHAR(5)", "deleted"])
def test_text_flag_of_deletion(declared: str) -> None:
    """Words mark rows as deleted as well; a text of another name has to be named, and a file name is refused."""
    mapping = mapped(f"CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, {declared})")
    assert [column.name for column in mapping.images.deleted] == [declared.split()[0]]
    assert mapping.warnings == ()


def test_numbers_and_flags_as_text() -> None:
    """Text columns hold numbers and flags too, by name or by configuration; another column that fits wins."""
    images = "CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT, {})"
    assert columns(mapped(images.format("width TEXT, height NVARCHAR(9), is_labeled TEXT")), "images") == {
        "id": "id", "file_path": "path", "width": "width", "height": "height", "is_labeled": "is_labeled",
    }  # fmt: skip
    found = columns(mapped(images.format("is_verified CHAR(1), reviewed BOOLEAN, is_labeled BLOB")), "images")
    assert (found["is_verified"], found["is_labeled"]) == ("reviewed", "is_labeled")
    told = mapped(images.format("done TEXT, w TEXT"), images={"columns": {"is_labeled": "done", "width": "w"}})
    assert {"is_labeled": "done", "width": "w"}.items() <= columns(told, "images").items()
    assert told.worded == {"width"}
    boxes = "x_min TEXT, y_min TEXT, x_max TEXT, y_max TEXT"
    annotations = "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, {}, score TEXT)"
    mapping = mapped(IMAGED + annotations.format(boxes))
    assert (mapping.box, mapping.worded) == (
        "corners",
        {"confidence", *(f"box_{index}" for index in range(4))},
    )
    numbers = mapped(IMAGED + annotations.format(f"{boxes}, x REAL, y REAL, w REAL, h REAL"))
    assert (numbers.box, numbers.worded) == ("origin", {"confidence"})


def test_list_of_four_in_an_array_is_a_warning() -> None:
    """An array column can only be a list of four: ambiguous, and said, until box_format is set."""
    fields = (
        Column("id", "uuid"),
        Column("image_id", "integer"),
        Column("bbox", "array", "double precision[]"),
    )
    annotations = Table("annotations", None, "table", fields, ("id",))
    catalog = Catalog((_in_schema(None, "images", "id filename"), annotations))
    assert "set tables.annotations.box_format" in map_catalog(catalog).warnings[0]
    assert map_catalog(catalog, {"annotations": {"box_format": "xywh"}}).warnings == ()


def test_spatial_columns_are_not_polygons() -> None:
    """A PostGIS geometry is not JSON: it is not read, and every export says so."""
    fields = (Column("id", "integer"), Column("image_id", "integer"), Column("label", "text"))
    shape = Column("geometry", "opaque", "geometry(Polygon,4326)")
    annotations = Table("annotations", None, "table", (*fields, shape), ("id",))
    mapping = map_catalog(Catalog((_in_schema(None, "images", "id filename"), annotations)))
    assert "polygon" not in columns(mapping, "annotations")
    assert "annotations.geometry is of type geometry(Polygon,4326)" in mapping.warnings[0]


# --- configuration -------------------------------------------------------------------------------


def test_overrides_win() -> None:
    """What the configuration says of tables, columns and links is what is mapped."""
    ddl = ABOVE + (
        "CREATE TABLE media (k INTEGER PRIMARY KEY, blob_key TEXT, path TEXT, bag INTEGER, status TEXT);"
        "CREATE TABLE marks (id INTEGER PRIMARY KEY, m INT, a REAL, b REAL, c REAL, d REAL, removed BOOLEAN)"
    )
    box = {f"box_{place}": name for place, name in enumerate("abcd")}
    mapping = mapped(
        ddl,
        images={"table": "media", "columns": {"file_path": "BLOB_KEY", "dataset_id": "bag", "status": False}},
        annotations={
            "table": "marks",
            "columns": {"image_id": "m", "deleted": "removed", **box},
            "box_format": "xywh",
        },
    )
    assert columns(mapping, "images") == {"id": "k", "file_path": "blob_key"}
    assert (link(mapping, "images"), link(mapping, "annotations")) == (("bag", "id"), ("m", "k"))
    assert (mapping.box, mapping.box_format) == ("origin", None)
    assert mapping.annotations is not None
    assert [column.name for column in mapping.annotations.deleted] == ["removed"]


@pytest.mark.parametrize(
    ("tables", "message", "hint"),
    [
        (
            {"image": {}},
            "tables.image is not a setting",
            "Did you mean 'images'? Allowed: projects, datasets, images",
        ),
        ({"images": "asset"}, "tables.images must be a table", '[tables.images]\ntable = "my_table"'),
        ({"images": {"tabel": "x"}}, "tables.images.tabel is not a setting", "Did you mean 'table'?"),
        (
            {"images": {"box_format": "xyxy"}},
            "tables.images.box_format is not a setting",
            "Allowed: table, schema",
        ),
        ({"images": {"table": 3}}, "tables.images.table is 3", "Allowed: a name in quotes"),
        ({"images": {"table": False}}, "tables.images.table cannot be false", "Give the name"),
        (
            {"images": {"columns": {"id": False}}},
            "tables.images.columns.id cannot be false",
            "Name the key column",
        ),
        (
            {"images": {"columns": "x"}},
            "tables.images.columns must be a table",
            "Allowed fields: id, filename",
        ),
        (
            {"images": {"columns": {"filepath": "x"}}},
            "tables.images.columns.filepath is not",
            "mean 'file_path'?",
        ),
        ({"annotations": {"ignore": "x"}}, "tables.annotations.ignore is 'x'", "a list of table names"),
        ({"images": {"ignore": ["x"]}}, "tables.images.ignore is not a setting", "Allowed: table"),
        ({"annotations": {"box_format": "yolo"}}, "box_format is 'yolo'", "Allowed: xyxy, xywh, cxcywh"),
    ],
)
def test_configuration_that_means_nothing(tables: dict[str, Any], message: str, hint: str) -> None:
    """A setting that is not known is named, with the allowed ones and the nearest."""
    with pytest.raises(ConfigurationError) as caught:
        mapped(IMAGED + ANNOTATIONS, **tables)
    assert message in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("tables", "message", "hint"),
    [
        ({"images": {"table": "imagess"}}, "there is no table 'imagess'", "Did you mean 'images'?"),
        ({"images": {"schema": "x"}}, "there is no schema 'x'", "has none"),
        (
            {"images": {"columns": {"file_path": "filname"}}},
            "no column 'filname'",
            "Did you mean 'filename'?",
        ),
        (
            {"images": {"table": "labels"}, "labels": {"table": "labels"}},
            "both name the table labels",
            "one role",
        ),
        ({"labels": {"table": "tagged"}}, "tables.labels.table: tagged has no column for name", "name ="),
        (
            {"annotations": {"table": "tagged"}},
            "tables.annotations.table: tagged has no column that",
            "image_id =",
        ),
        ({"images": {"columns": {"width": "filename"}}}, "'filename' is of type TEXT", "kind integer"),
        ({"images": {"columns": {"deleted": "filename"}}}, "'filename' is of type TEXT", "a boolean"),
        (
            {"annotations": {"columns": {"box_0": "x"}}},
            "a box needs box_0 to box_3 and a box_format",
            "all four",
        ),
    ],
)
def test_configuration_that_does_not_fit(tables: dict[str, Any], message: str, hint: str) -> None:
    """An override of a table or column that is not there, or cannot have that role, says so."""
    ddl = "CREATE TABLE tagged (id INTEGER PRIMARY KEY, note TEXT);" + ANNOTATIONS.replace(
        "label", "x REAL, label"
    )
    error = refused(IMAGED + ddl + LABELS, **tables)
    assert message in str(error)
    assert hint in error.hint


def test_box_format_against_the_names() -> None:
    """`x, y` may be declared the centre; columns whose names leave no doubt may not be read otherwise."""
    ddl = IMAGED + "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, {})"
    origin = ddl.format("x REAL, y REAL, w REAL, h REAL")
    corners = ddl.format("x1 REAL, y1 REAL, x2 REAL, y2 REAL")
    assert mapped(origin, annotations={"box_format": "cxcywh"}).box == "center"
    assert mapped(corners, annotations={"box_format": "xyxy"}).box == "corners"
    assert "x1, y1, x2, y2 are corners" in str(refused(corners, annotations={"box_format": "xywh"}))


# --- digest --------------------------------------------------------------------------------------


def test_digest_changes_with_what_is_published() -> None:
    """The digest is the same for the same mapping, and another when anything that is read differs."""
    ddl = (
        IMAGED
        + LABELS
        + "CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER, label TEXT, bbox JSON);"
    )
    same = mapped(ddl + "CREATE TABLE other (id INTEGER); CREATE INDEX i ON images (dataset_id)")
    assert mapping_digest(mapped(ddl)) == mapping_digest(same)
    others = [
        mapped(ddl, annotations={"box_format": "xyxy"}),
        mapped(ddl, annotations={"columns": {"label": False}}),
        mapped(ddl.replace("filename TEXT", "filename VARCHAR(9)")),
        mapped(ddl.replace("filename TEXT", "filename TEXT, width INTEGER")),
        mapped(ddl.replace("filename TEXT", "filename TEXT, deleted BOOLEAN")),
        replace(mapped(ddl), label_joined=True),
        replace(mapped(ddl), labels_by_dataset=True),
    ]
    assert len({mapping_digest(mapping) for mapping in [mapped(ddl), *others]}) == len(others) + 1


# --- any schema ----------------------------------------------------------------------------------

_TABLES = st.sampled_from(
    [
        "projects",
        "workspaces",
        "datasets",
        "Collection",
        "images",
        "assets",
        "annotations",
        "instances",
        "labels",
        "x",
    ]
)
_COLUMNS = st.sampled_from(
    ["id", "uuid", "name", "filename", "path", "url", "dataset_id", "project_id", "image_id", "imageId",
     "label", "label_id", "category", "x", "y", "width", "height", "bbox", "points", "deleted_at", "deleted",
     "type", "created"]
)  # fmt: skip
_KINDS: st.SearchStrategy[ColumnKind] = st.sampled_from([*["integer"] * 12, *get_args(ColumnKind)])


@st.composite
def _catalogs(draw: st.DrawFn) -> Catalog:
    tables = []
    table_names = [
        "images",
        *draw(st.lists(_TABLES.filter(lambda name: name != "images"), max_size=5, unique=True)),
    ]
    for name in table_names:
        usual = [Column("id", "integer"), Column("name", "text")] if draw(st.integers(0, 3)) else []
        others = draw(st.lists(_COLUMNS, min_size=1, unique=True))
        drawn = [Column(column, draw(_KINDS)) for column in others]
        fields = usual + [column for column in drawn if not usual or column.name not in ("id", "name")]
        one = st.sampled_from([field.name for field in fields])
        several = st.lists(one, min_size=1, max_size=min(2, len(fields)), unique=True).map(tuple)
        referred = st.sampled_from(table_names)
        keys = [
            ForeignKey(own, None, draw(referred), ("id",) * len(own))
            for own in draw(st.lists(several, max_size=2))
        ]
        primary: tuple[str, ...] = draw(st.one_of(st.just(()), st.just((fields[0].name,)), several))
        tables.append(Table(name, None, "table", tuple(fields), primary, tuple(keys)))
    return Catalog(tuple(tables))


def _understood(catalog: Catalog) -> tuple[Mapping | None, str]:
    try:
        return map_catalog(catalog), ""
    except MappingError as error:
        return None, error.hint


def test_a_key_is_no_coordinate() -> None:
    """Whatever it is called: a box is not read from it."""
    images = Table("images", None, "table", (Column("id", "integer"), Column("name", "text")))
    names = ("x", "y", "width", "height", "image_id", "label")
    boxes = Table("annotations", None, "table", tuple(Column(name, "integer") for name in names), ("x",))
    mapping, _ = _understood(Catalog((images, boxes)))
    assert mapping is not None
    assert mapping.box is None


def test_the_key_of_annotations_is_no_label() -> None:
    """Whatever it refers to: the other columns say which label an annotation has."""
    labels = Table("labels", None, "table", (Column("id", "integer"), Column("name", "text")))
    columns_of = (Column("id", "integer"), Column("image_id", "integer"), Column("label", "integer"))
    keys = (ForeignKey(("id",), None, "labels", ("id",)), ForeignKey(("label",), None, "labels", ("id",)))
    images = Table("images", None, "table", (Column("id", "integer"), Column("name", "text")))
    for given_keys in (keys[:1], keys):
        annotations = Table("annotations", None, "table", columns_of, ("id",), given_keys)
        mapping, _ = _understood(Catalog((images, labels, annotations)))
        assert mapping is not None
        assert columns(mapping, "annotations")["label_id"] == "label"
        assert mapping.label_joined


@settings(max_examples=200, deadline=None)
@given(_catalogs())
def test_any_schema_is_understood_or_refused(catalog: Catalog) -> None:
    """Whatever the tables: a sound mapping, or an error with a hint that says what to write."""
    mapping, hint = _understood(catalog)
    assert (mapping is None) == bool(hint)
    if mapping is None:
        return
    tables = mapping.tables()
    assert len({table.table.name for table in tables.values()}) == len(tables)
    above = [name for name in ("datasets", "projects") if name in tables]
    assert (mapping.images.parent_link is not None) == bool(above)
    assert "datasets" not in above or (tables["datasets"].parent_link is None) == (above == ["datasets"])
    for table in tables.values():
        named = {name: column.name for name, column in table.fields.items()}
        twice = [name for name in named if list(named.values()).count(named[name]) > 1]
        assert set(twice) <= {"id", "name", "filename", "file_path"}
        assert "url" not in named.values()
        assert all(column in table.table.columns for column in [*table.fields.values(), *table.deleted])
    assert not mapping.label_joined or (
        mapping.labels is not None and "label_id" in columns(mapping, "annotations")
    )
    assert describe(mapping)
    assert mapping_digest(mapping) == mapping_digest(map_catalog(catalog))


def many_tables(count: int) -> Catalog:
    """Projects and images, and so many tables of the application that name them."""
    columns = tuple(Column(name, "integer") for name in ("id", "user_id", "x", "y"))
    keys = (
        ForeignKey(("user_id",), None, "projects", ("id",)),
        ForeignKey(("y",), None, "images", ("id",)),
    )
    images = tuple(
        Column(name, "integer" if "id" in name else "text") for name in ("id", "project_id", "filename")
    )
    projects = (Column("id", "integer"), Column("name", "text"))
    others = [Table(f"tenant_{n}_log", None, "table", columns, ("id",), keys) for n in range(count)]
    return Catalog(
        (
            Table("projects", None, "table", projects, ("id",)),
            Table("images", None, "table", images, ("id",)),
            *others,
        )
    )


def test_thousands_of_other_tables_take_few_steps() -> None:
    """A table that is none of ours is passed over after a few function calls."""
    catalog, calls = many_tables(500), 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert map_catalog(catalog).images.table.name == "images"
    finally:
        sys.setprofile(before)
    assert calls < 250 * len(catalog.tables)


def test_thousands_of_other_tables_are_not_compared_with_each_other() -> None:
    """The time to map grows with the number of tables, not with its square."""

    def seconds(count: int) -> float:
        catalog, times = many_tables(count), []
        for _ in range(3):
            began = time.process_time()
            map_catalog(catalog)
            times.append(time.process_time() - began)
        return min(times)

    assert seconds(8000) < 8 * 2 * seconds(1000)
