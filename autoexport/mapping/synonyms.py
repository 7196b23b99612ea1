"""Lists the names that annotation applications give to tables and columns, and the types that fit."""

from __future__ import annotations

import re
from functools import lru_cache

from autoexport.model.catalog import ColumnKind
from autoexport.model.mapping import (
    ANNOTATION_FIELDS,
    DATASET_FIELDS,
    IMAGE_FIELDS,
    LABEL_FIELDS,
    PROJECT_FIELDS,
    SHAPE_FIELDS,
    BoxFormat,
    BoxReading,
)

TABLE_NAMES: dict[str, tuple[str, ...]] = {
    "projects": ("projects", "project", "workspaces", "workspace"),
    "datasets": ("datasets", "dataset", "collections", "collection"),
    "images": ("images", "image", "assets", "asset", "photos", "photo"),
    "annotations": (
        "annotations", "annotation", "instances", "instance", "bbox_annotations", "bbox_annotation",
    ),
    "labels": (
        "labels", "label", "label_classes", "label_class", "label_categories", "label_category",
        "annotation_classes", "annotation_class",
    ),
}  # fmt: skip
"""Table names by logical table. A `labels` table that names an image is an annotations table."""

LABEL_STEMS = ("class", "category")
"""A table of such a name is one of labels if annotations name their label so, as in `class_id` or `category`."""

_PRIVATE = frozenset(
    ("user", "account", "session", "token", "credential", "secret", "password", "avatar", "permission")
)

KEY_NAMES = ("id", "uuid", "uid")
"""Key columns in order of preference; `<table>_id` is tried after `id`."""

LINK_NAMES: dict[tuple[str, str], tuple[str, ...]] = {
    ("images", "datasets"): ("dataset_id", "dataset", "collection_id", "volume_id"),
    ("images", "projects"): ("project_id", "project"),
    ("datasets", "projects"): ("project_id", "project", "workspace_id"),
    ("annotations", "images"): ("image_id", "image", "asset_id", "file_id"),
    ("labels", "projects"): ("project_id", "project", "workspace_id"),
    ("labels", "datasets"): ("dataset_id", "dataset", "collection_id"),
}
"""Columns that name a parent, by child and parent, in order of preference."""

LINK_SETTING = {"projects": "project_id", "datasets": "dataset_id", "images": "image_id"}
"""The name of a link in the configuration file, by parent."""

_CREATED = ("created_at", "created_date", "created", "date_added", "uploaded_at")
_UPDATED = ("updated_at", "last_updated", "modified_at")
_VERIFIED = ("is_verified", "is_reviewed", "reviewed", "verified")

LABEL_NAMES = ("class_name", "label", "label_name", "category", "class")
LABEL_ID_NAMES = ("class_id", "label_id", "category_id", "label_class_id")

FIELD_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "projects": {
        "name": ("name", "title", "project_name"),
        "description": ("description",),
        "document": (),
        "project_type": ("project_type", "type", "task_type"),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
    },
    "datasets": {
        "name": ("name", "title", "dataset_name"),
        "description": ("description",),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
    },
    "images": {
        "document": (),
        "filename": ("filename", "file_name", "name", "image_name", "upload_name"),
        "original_filename": ("original_filename", "original_name", "original_file_name"),
        "file_path": (
            "file_path", "filepath", "path", "absolute_path", "image_path", "storage_key", "s3_key",
        ),
        "width": ("width", "original_width"),
        "height": ("height", "original_height"),
        "format": ("format", "mime_type", "mimetype", "ext"),
        "file_size": ("file_size", "size", "size_bytes", "file_size_bytes"),
        "split": ("split_section", "split", "subset", "partition"),
        "status": ("split_type", "status", "annotation_status", "stage"),
        "is_labeled": ("is_labeled", "labeled", "is_annotated"),
        "is_auto_labeled": ("is_auto_labeled", "auto_labeled", "is_auto_annotated"),
        "is_verified": _VERIFIED,
        "created_at": _CREATED,
        "updated_at": _UPDATED,
    },
    "annotations": {
        "type": ("type", "annotation_type", "shape_type", "shape"),
        "polygon": ("segmentation", "polygon", "points", "geometry"),
        "confidence": ("confidence", "score", "prob", "probability"),
        "is_auto_generated": ("is_auto_generated", "auto_generated", "is_auto"),
        "is_verified": _VERIFIED,
        "model_id": ("model_id", "model", "model_name"),
        "created_at": _CREATED,
        "updated_at": _UPDATED,
        **dict.fromkeys((*SHAPE_FIELDS, "document"), ()),
    },
    "labels": {
        "name": ("name", "title", "label_name", "class_name", "label"),
        "color": ("color", "colour", "hex_color"),
    },
}  # fmt: skip
"""Columns by logical table and field, in order of preference. Keys, links, boxes and the label of an annotation
have their own rules. The fields of shapes are never searched: their unit and sense differ between applications. No
field is read from a URL, which may contain a signed token."""

BOXES: tuple[tuple[BoxReading, tuple[str, str, str, str]], ...] = (
    ("corners", ("x_min", "y_min", "x_max", "y_max")),
    ("corners", ("x1", "y1", "x2", "y2")),
    ("corners", ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")),
    ("corners", ("bbox_x_min", "bbox_y_min", "bbox_x_max", "bbox_y_max")),
    ("origin", ("bbox_x", "bbox_y", "bbox_w", "bbox_h")),
    ("origin", ("bbox_x", "bbox_y", "bbox_width", "bbox_height")),
    ("origin", ("x", "y", "width", "height")),
    ("origin", ("x", "y", "w", "h")),
    ("center", ("x_center", "y_center", "width", "height")),
    ("center", ("center_x", "center_y", "width", "height")),
    ("center", ("bbox_x_center", "bbox_y_center", "bbox_width", "bbox_height")),
    ("center", ("cx", "cy", "w", "h")),
    ("center", ("cx", "cy", "width", "height")),
)
"""Names of the four columns of a box, and how they are read."""

BOX_FIELDS = ("box_0", "box_1", "box_2", "box_3")
BOX_JSON_NAMES = ("bbox", "bounding_box")
TURN_NAMES = ("rotation", "angle", "theta", "rotation_angle")
"""Columns by which a box is turned."""

MORE_CORNERS = ("x3", "bbox_x3")
"""Columns of a shape that has more corners than a box needs."""

GEOMETRY_NAMES = (
    "segmentation", "polygon", "points", "geometry", "geom", "bbox", "bounding_box", "box", "shape", "shapes",
    "region", "regions", "coordinates", "coords", "vertices", "contour", "mask", "rle", "rect",
)  # fmt: skip
"""Columns that hold a geometry in some form, which need not be one that can be read."""

BOX_FORMATS: dict[BoxFormat, BoxReading] = {"xyxy": "corners", "xywh": "origin", "cxcywh": "center"}

DELETED_NAMES = ("deleted_at", "is_deleted", "deleted")
DELETED_TIME_NAMES = frozenset({"deleted_at"})
"""Those of `DELETED_NAMES` that hold a time: they may be of any kind in which times are stored."""

FOUND_FIELDS: dict[str, tuple[str, ...]] = {
    "projects": PROJECT_FIELDS,
    "datasets": tuple(name for name in DATASET_FIELDS if name != "project_id"),
    "images": IMAGE_FIELDS,
    "annotations": tuple(name for name in ANNOTATION_FIELDS if not name.startswith("box_")),
    "labels": LABEL_FIELDS,
}
"""The fields that are searched one by one; a box is searched as a whole."""

SETTINGS: dict[str, tuple[str, ...]] = {
    "projects": (*PROJECT_FIELDS, "document", "deleted"),
    "datasets": (*DATASET_FIELDS, "deleted"),
    "images": (*IMAGE_FIELDS, "document", "dataset_id", "project_id", "deleted"),
    "annotations": (*ANNOTATION_FIELDS, *SHAPE_FIELDS, "document", "image_id", "deleted"),
    "labels": (*LABEL_FIELDS, "project_id", "dataset_id", "deleted"),
}
"""The settings allowed under `[tables.….columns]`."""

_WORDS: frozenset[ColumnKind] = frozenset({"text", "enum", "range", "other"})
_CODES: frozenset[ColumnKind] = _WORDS | {"integer"}
_NUMBERS: frozenset[ColumnKind] = frozenset({"integer", "real", "numeric", "other"})
_FLAGS: frozenset[ColumnKind] = frozenset({"boolean", "integer", "numeric", "other"})
_TIMES: frozenset[ColumnKind] = frozenset({"time", "text", "integer", "real", "numeric", "other"})
_BOXES: frozenset[ColumnKind] = frozenset({"json", "text", "array", "composite", "box", "other"})
KEYS: frozenset[ColumnKind] = frozenset({"integer", "text", "uuid", "numeric", "binary", "enum", "other"})

KINDS: dict[str, frozenset[ColumnKind]] = {
    "id": KEYS,
    "label_id": KEYS,
    "model_id": KEYS,
    "name": _WORDS,
    "label": _WORDS,
    "type": _WORDS,
    "filename": _WORDS,
    "original_filename": _WORDS,
    "file_path": _WORDS,
    "format": _WORDS,
    "color": _CODES,
    "split": _CODES,
    "status": _CODES,
    "project_type": _CODES,
    "description": _WORDS | {"json"},
    "width": _NUMBERS,
    "height": _NUMBERS,
    "file_size": _NUMBERS,
    "confidence": _NUMBERS,
    "box_0": _NUMBERS,
    "box_1": _NUMBERS,
    "box_2": _NUMBERS,
    "box_3": _NUMBERS,
    "box_json": _BOXES,
    "polygon": _BOXES | {"geometric"},
    "document": _BOXES | {"binary"},
    "rotation": _NUMBERS,
    "points": _BOXES | {"geometric"},
    "mask": _BOXES,
    "attributes": _BOXES,
    "track_id": KEYS,
    "frame": _NUMBERS,
    "keyframe": _FLAGS,
    "is_labeled": _FLAGS,
    "is_auto_labeled": _FLAGS,
    "is_verified": _FLAGS,
    "is_auto_generated": _FLAGS,
    "created_at": _TIMES,
    "updated_at": _TIMES,
}
"""The kinds of column that fit a field. `other` includes untyped columns and those of views."""

_NUMBERS_IN_WORDS: frozenset[ColumnKind] = frozenset({"text", "enum"})
_FLAGS_IN_WORDS: frozenset[ColumnKind] = _NUMBERS_IN_WORDS | {"real", "json"}
WORDED_KINDS: dict[str, frozenset[ColumnKind]] = {
    setting: _NUMBERS_IN_WORDS if kinds is _NUMBERS else _FLAGS_IN_WORDS
    for setting, kinds in KINDS.items()
    if kinds in (_NUMBERS, _FLAGS)
}
"""The kinds of column that fit a field if no other column does: varchar holds any number or flag as text."""

DELETED_KINDS: frozenset[ColumnKind] = _FLAGS | _FLAGS_IN_WORDS | {"time"}
"""The kinds of a deletion mark."""

DELETED_TIME_KINDS: frozenset[ColumnKind] = _TIMES | {"boolean"}
"""The kinds of `deleted_at`."""


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """A name in lower case without separators: `datasetId`, `dataset_id` and `DatasetID` are equal.

    >>> plain("DatasetID") == plain("dataset_id")
    True
    """
    return re.sub(r"[\W_]+", "", name).lower()


def is_time_of_deletion(name: str) -> bool:
    """Whether a deletion mark of this name holds a time: then any value marks the row as deleted."""
    return plain(name) in {plain(known) for known in DELETED_TIME_NAMES}


def is_named(name: str, logical: str) -> bool:
    """Whether `name` is a conventional name of a logical table."""
    return plain(name) in {plain(known) for known in TABLE_NAMES[logical]}


def is_stem(name: str, stem: str) -> bool:
    """Whether a table is called by a stem, singular or plural.

    >>> [is_stem(name, "category") for name in ("category", "Categories", "category_groups")]
    [True, True, False]
    """
    return plain(name) in (stem, f"{stem}es", f"{stem.removesuffix('y')}ies")


def is_private(name: str) -> bool:
    """Whether a table holds logins or access to storages, by its name: no hint proposes it.

    >>> [is_private(name) for name in ("io_storages_s3importstorage", "auth_user", "UserSession", "user_images")]
    [True, True, True, False]
    """
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower().split("_")
    return "storage" in plain(name) or words[-1].removesuffix("s") in _PRIVATE


def key_names(table_name: str) -> tuple[str, ...]:
    """The conventional names of the key of a table, in order of preference.

    >>> key_names("images")
    ('id', 'image_id', 'images_id', 'uuid', 'uid')
    """
    singular = table_name
    for ending, ended in (("ies", "y"), ("sses", "ss"), ("s", "")):
        if table_name.lower().endswith(ending):
            singular = table_name[: -len(ending)] + ended
            break
    own = dict.fromkeys((f"{singular}_id", f"{table_name}_id"))
    return (KEY_NAMES[0], *own, *KEY_NAMES[1:])
