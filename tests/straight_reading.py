"""Reads a database in the simplest way to compute the expected export, without package code.

It follows sections 2.1 and 2.2 of the contract for the application's own tables. It shares nothing with the
package, so the two agree only if both are right.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Protocol

Record = dict[str, Any]

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
          "test": "test", "testing": "test"}  # fmt: skip
BOOLEANS = {"is_labeled", "is_auto_labeled", "is_verified", "is_auto_generated"}
TIMES = {"created_at", "updated_at"}
KEYED_BY_WORDS = {"splits", "label_counts"}
"""Their keys are words of the database, one of which may equal the name of a time field."""
HEADERS = {
    "projects.csv": "project_id,project_name,dataset_count,image_count,created_at,updated_at,description,"
    "project_type,labeled_image_count,annotation_count,label_count,labels",
    "datasets.csv": "dataset_id,dataset_name,project_id,project_name,image_count,train_count,val_count,"
    "test_count,unassigned_count,labeled_image_count,annotation_count,description,created_at,updated_at",
    "images.csv": "image_id,filename,file_path,project_id,project_name,dataset_id,dataset_name,width,height,"
    "file_size,split,annotation_count,is_labeled,original_filename,format,status,is_auto_labeled,is_verified,"
    "created_at,updated_at",
    "annotations.csv": "annotation_id,image_id,filename,project_id,project_name,dataset_id,dataset_name,split,"
    "type,label,label_id,confidence,x_min,y_min,x_max,y_max,polygon,is_auto_generated,is_verified,model_id,"
    "created_at,updated_at",
}


class Readable(Protocol):
    """A `sqlite3.Connection`, or a connection of the tests to PostgreSQL, which gives times as text too."""

    def execute(self, sql: str, /) -> Iterable[tuple[Any, ...]]:
        """The rows of one statement."""
        ...


def _rows(connection: Readable, table: str, columns: str) -> list[Record]:
    names = columns.split()
    found = connection.execute(f"SELECT {', '.join(names)} FROM {table}")
    records = [dict(zip(names, row, strict=True)) for row in found]
    for record in records:
        for name in BOOLEANS & record.keys():
            record[name] = None if record[name] is None else bool(record[name])
    return sorted(records, key=lambda record: record["id"])


def _time(text: str | None) -> datetime | str | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _json_time(text: str | None) -> str | None:
    time = _time(text)
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        return time.isoformat()
    return time.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _csv_time(text: str | None) -> str | None:
    written = _json_time(text)
    return written.replace("T", " ") if isinstance(_time(text), datetime) and written is not None else written


def _annotation(row: Record) -> Record:
    corners = [row["x_min"], row["y_min"], row["x_max"], row["y_max"]]
    bbox = None
    if None not in corners:
        bbox = {"x_min": row["x_min"], "y_min": row["y_min"], "x_max": row["x_max"], "y_max": row["y_max"]}
    polygon = None if row["segmentation"] is None else json.loads(row["segmentation"])
    if polygon and isinstance(polygon[0], dict):
        polygon = [[point["x"], point["y"]] for point in polygon]
    kind = "polygon" if polygon is not None else "bbox" if bbox is not None else "classification"
    return {
        "id": row["id"], "type": kind, "label": row["class_name"], "label_id": row["class_id"],
        "confidence": row["confidence"], "bbox": bbox, "polygon": polygon,
        "is_auto_generated": row["is_auto_generated"], "is_verified": row["is_verified"],
        "model_id": row["model_id"], "created_at": row["created_at"], "updated_at": row["updated_at"],
    }  # fmt: skip


def _image(row: Record, annotations: list[Record]) -> Record:
    split = row["split_section"]
    return {
        "id": row["id"], "filename": row["filename"], "original_filename": row["original_filename"],
        "file_path": row["file_path"], "width": row["width"], "height": row["height"],
        "format": row["format"], "file_size": row["file_size"], "split": SPLITS.get(split, split),
        "status": row["split_type"], "is_labeled": row["is_labeled"],
        "is_auto_labeled": row["is_auto_labeled"], "is_verified": row["is_verified"],
        "created_at": row["created_at"], "updated_at": row["updated_at"],
        "annotation_count": len(annotations), "annotations": annotations,
    }  # fmt: skip


def _dataset(row: Record, images: list[Record]) -> Record:
    splits = Counter("unassigned" if image["split"] is None else image["split"] for image in images)
    first = ["train", "val", "test", "unassigned"]
    names = Counter(annotation["label"] for image in images for annotation in image["annotations"])
    return {
        "id": row["id"], "project_id": row["project_id"], "name": row["name"],
        "description": row["description"], "created_at": row["created_at"], "updated_at": row["updated_at"],
        "image_count": len(images),
        "labeled_image_count": sum(1 for image in images if image["is_labeled"]),
        "annotation_count": sum(image["annotation_count"] for image in images),
        "splits": {word: splits[word] for word in first + sorted(set(splits) - set(first))},
        "label_counts": {name: names[name] for name in sorted(names)}, "images": images,
    }  # fmt: skip


def _project(row: Record, datasets: list[Record], labels: list[Record]) -> Record:
    names: Counter[str] = Counter()
    for dataset in datasets:
        names.update(dataset["label_counts"])
    return {
        "id": row["id"], "name": row["name"], "description": row["description"],
        "project_type": row["project_type"], "created_at": row["created_at"], "updated_at": row["updated_at"],
        "dataset_count": len(datasets), "image_count": sum(dataset["image_count"] for dataset in datasets),
        "labeled_image_count": sum(dataset["labeled_image_count"] for dataset in datasets),
        "annotation_count": sum(dataset["annotation_count"] for dataset in datasets),
        "labels": [
            {**label, "annotation_count": names[label["name"]]} for label in labels
        ],
        "datasets": datasets,
    }  # fmt: skip


def _tree(connection: Readable) -> list[Record]:
    """The projects with everything below them, in order, times as stored."""
    times = "created_at updated_at"
    annotations: dict[Any, list[Record]] = {}
    for row in _rows(
        connection,
        "annotations",
        "id image_id class_name class_id confidence x_min y_min x_max y_max segmentation is_auto_generated"
        f" is_verified model_id {times}",
    ):
        annotations.setdefault(row["image_id"], []).append(_annotation(row))
    images: dict[Any, list[Record]] = {}
    for row in _rows(
        connection,
        "images",
        "id filename original_filename file_path file_size width height format dataset_id is_labeled"
        f" is_auto_labeled is_verified split_type split_section {times}",
    ):
        images.setdefault(row["dataset_id"], []).append(_image(row, annotations.get(row["id"], [])))
    datasets: dict[Any, list[Record]] = {}
    for row in _rows(connection, "datasets", f"id project_id name description {times}"):
        datasets.setdefault(row["project_id"], []).append(_dataset(row, images.get(row["id"], [])))
    labels: dict[Any, list[Record]] = {}
    for row in _rows(connection, "labels", "id name color project_id"):
        labels.setdefault(row.pop("project_id"), []).append(row)
    return [
        _project(row, datasets.get(row["id"], []), labels.get(row["id"], []))
        for row in _rows(connection, "projects", f"id name description project_type {times}")
    ]


def _with_json_times(node: Any) -> Any:
    if isinstance(node, list):
        return [_with_json_times(item) for item in node]
    if not isinstance(node, dict):
        return node
    rewritten = {}
    for name, item in node.items():
        if name in KEYED_BY_WORDS:
            rewritten[name] = item
        else:
            rewritten[name] = _json_time(item) if name in TIMES else _with_json_times(item)
    return rewritten


def expected_document(connection: Readable, timestamp: str = "") -> Record:
    """The parsed database_export.json that this database must give, keys in the order of the contract.

    The rows do not tell the moment of the snapshot: pass the `timestamp` of the file.
    """
    projects = _tree(connection)
    info = {
        "format_version": 2,
        "timestamp": timestamp,
        "total_projects": len(projects),
        "total_datasets": sum(project["dataset_count"] for project in projects),
        "total_images": sum(project["image_count"] for project in projects),
        "total_annotations": sum(project["annotation_count"] for project in projects),
        "total_labels": sum(len(project["labels"]) for project in projects),
    }
    return {"export_info": info, "projects": _with_json_times(projects)}


# --- CSV -----------------------------------------------------------------------------------------


def _project_cells(project: Record) -> Record:
    return {
        **project, "project_id": project["id"], "project_name": project["name"],
        "label_count": len(project["labels"]),
        "labels": "; ".join(label["name"] for label in project["labels"]),
    }  # fmt: skip


def _dataset_cells(project: Record, dataset: Record) -> Record:
    counts = {f"{word}_count": dataset["splits"][word] for word in ("train", "val", "test", "unassigned")}
    return {
        **dataset, **counts, "dataset_id": dataset["id"], "dataset_name": dataset["name"],
        "project_name": project["name"],
    }  # fmt: skip


def _image_cells(project: Record, dataset: Record, image: Record) -> Record:
    return {
        **image, "image_id": image["id"], "project_id": project["id"], "project_name": project["name"],
        "dataset_id": dataset["id"], "dataset_name": dataset["name"],
    }  # fmt: skip


def _annotation_cells(project: Record, dataset: Record, image: Record, annotation: Record) -> Record:
    polygon = annotation["polygon"]
    return {
        **_image_cells(project, dataset, image), **dict.fromkeys(("x_min", "y_min", "x_max", "y_max")),
        **annotation, **(annotation["bbox"] or {}), "annotation_id": annotation["id"],
        "polygon": None if polygon is None else json.dumps(polygon, ensure_ascii=False),
    }  # fmt: skip


def expected_csv(connection: Readable, file: str) -> list[list[Any]]:
    """The header and the rows of one CSV file as values; times as text, nothing guarded."""
    projects = _tree(connection)
    if file == "projects.csv":
        records = [_project_cells(project) for project in projects]
    elif file == "datasets.csv":
        records = [_dataset_cells(project, dataset) for project in projects for dataset in project["datasets"]]
    else:
        images = [
            (project, dataset, image)
            for project in projects
            for dataset in project["datasets"]
            for image in dataset["images"]
        ]
        if file == "images.csv":
            records = [_image_cells(*place) for place in images]
        else:
            records = [
                _annotation_cells(*place, annotation) for place in images for annotation in place[2]["annotations"]
            ]
    header = HEADERS[file].split(",")
    rows = [[_csv_time(row[name]) if name in TIMES else row[name] for name in header] for row in records]
    return [header, *rows]


def _cell(value: object, guard: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    assert isinstance(value, str)
    number = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value)
    if guard and value.startswith(("=", "+", "-", "@", "\t", "\r")) and not number:
        value = "'" + value
    return '"' + value.replace('"', '""') + '"'


def _pointed(value: Any) -> Any:
    """The value with every number in it as a float."""
    if isinstance(value, list):
        return [_pointed(item) for item in value]
    if isinstance(value, dict):
        return {name: _pointed(item) for name, item in value.items()}
    return float(value) if type(value) is int else value


def expected_json_lines(connection: Readable) -> list[Record]:
    """The parsed lines of images.jsonl, keys in the order of the contract."""
    lines = []
    for project in _with_json_times(_tree(connection)):
        for dataset in project["datasets"]:
            for image in dataset["images"]:
                own = {name: value for name, value in image.items() if not name.startswith("annotation")}
                own |= {"project_id": project["id"], "project_name": project["name"]}
                own |= {"dataset_id": dataset["id"], "dataset_name": dataset["name"]}
                pointed = ("confidence", "bbox", "polygon")
                annotations = [
                    {name: _pointed(value) if name in pointed else value for name, value in annotation.items()}
                    for annotation in image["annotations"]
                ]
                lines.append({**own, "annotation_count": len(annotations), "annotations": annotations})
    return lines


def expected_csv_text(connection: Readable, file: str, guard: bool = True) -> str:
    """The exact text of one CSV file, without a byte order mark."""
    header, *rows = expected_csv(connection, file)
    lines = [",".join(header), *(",".join(_cell(value, guard) for value in row) for row in rows)]
    return "".join(line + "\n" for line in lines)
