"""The tables of the original application, and a small set of varied sample rows for them."""

from __future__ import annotations

import re
import sqlite3

Cell = None | int | float | str | bytes
Row = tuple[Cell, ...]

CANARY = "canary-4f1c-must-never-be-published"
"""The value of every text column that no export maps. Its appearance in an output, log or state file is a leak."""

CANARY_NUMBER = 86753090
"""The value of every stored counter. Counters are stale in real databases, so exports count rows instead."""

SCHEMA = """
CREATE TABLE projects (
    id INTEGER NOT NULL, name VARCHAR(255) NOT NULL, description TEXT, created_at DATETIME,
    updated_at DATETIME, default_model_id VARCHAR, confidence_threshold FLOAT, iou_threshold FLOAT,
    project_type VARCHAR(50) DEFAULT 'Object Detection', PRIMARY KEY (id));
CREATE TABLE datasets (
    id VARCHAR NOT NULL, name VARCHAR(255) NOT NULL, description TEXT, project_id INTEGER NOT NULL,
    created_at DATETIME, updated_at DATETIME, total_images INTEGER, labeled_images INTEGER,
    unlabeled_images INTEGER, auto_label_enabled BOOLEAN, model_id VARCHAR,
    PRIMARY KEY (id), FOREIGN KEY(project_id) REFERENCES projects (id));
CREATE TABLE images (
    id VARCHAR NOT NULL, filename VARCHAR(255) NOT NULL, original_filename VARCHAR(255) NOT NULL,
    file_path VARCHAR(500) NOT NULL, file_size INTEGER, width INTEGER, height INTEGER, format VARCHAR(10),
    dataset_id VARCHAR NOT NULL, is_labeled BOOLEAN, is_auto_labeled BOOLEAN, is_verified BOOLEAN,
    split_type VARCHAR(10), created_at DATETIME, updated_at DATETIME,
    split_section VARCHAR(10) DEFAULT 'train',
    PRIMARY KEY (id), FOREIGN KEY(dataset_id) REFERENCES datasets (id));
CREATE TABLE annotations (
    id VARCHAR NOT NULL, image_id VARCHAR NOT NULL, class_name VARCHAR(100) NOT NULL,
    class_id INTEGER NOT NULL, confidence FLOAT,
    x_min FLOAT NOT NULL, y_min FLOAT NOT NULL, x_max FLOAT NOT NULL, y_max FLOAT NOT NULL,
    segmentation JSON, is_auto_generated BOOLEAN, is_verified BOOLEAN, model_id VARCHAR,
    created_at DATETIME, updated_at DATETIME, PRIMARY KEY (id), FOREIGN KEY(image_id) REFERENCES images (id));
CREATE TABLE labels (
    id INTEGER NOT NULL, name VARCHAR(100) NOT NULL, color VARCHAR(20), project_id INTEGER NOT NULL,
    PRIMARY KEY (id), FOREIGN KEY(project_id) REFERENCES projects (id));
CREATE TABLE dev_mode_settings (
    id INTEGER NOT NULL, password_hash TEXT, updated_at DATETIME, master_password_hash TEXT,
    PRIMARY KEY (id));
CREATE TABLE label_analytics (
    id VARCHAR NOT NULL, dataset_id VARCHAR NOT NULL, class_distribution JSON NOT NULL,
    total_annotations INTEGER, most_common_class VARCHAR(100), is_balanced BOOLEAN, created_at DATETIME,
    PRIMARY KEY (id), FOREIGN KEY(dataset_id) REFERENCES datasets (id));
CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, PRIMARY KEY (version_num));
"""
INDEXES = (
    "CREATE INDEX ix_images_dataset_id ON images (dataset_id)",
    "CREATE INDEX ix_annotations_image_id ON annotations (image_id)",
)


def _schema_columns() -> dict[str, tuple[str, ...]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA)
        found = connection.execute(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
        ).fetchall()
    finally:
        connection.close()
    tables = dict.fromkeys(table for table, _ in found)
    return {table: tuple(column for owner, column in found if owner == table) for table in tables}


COLUMNS = _schema_columns()
"""The columns of each table, in the order of the schema."""


# --- rows ----------------------------------------------------------------------------------------


def key(number: int) -> str:
    """A text key in the shape of a UUID whose order is that of `number`."""
    return re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", f"{number:032x}")


def image_row(number: int, dataset: str, **values: Cell) -> Row:
    """A row of images with unremarkable values, except those that are given by column name."""
    row: dict[str, Cell] = {
        "id": key(number), "filename": f"img_{number}.jpg", "original_filename": f"IMG {number}.jpg",
        "file_path": f"projects/a/img_{number}.jpg", "file_size": 50_000 + number, "width": 640,
        "height": 480, "format": "JPEG", "dataset_id": dataset, "is_labeled": 1, "is_auto_labeled": 0,
        "is_verified": 0, "split_type": "dataset", "created_at": "2025-01-02 03:04:05",
        "updated_at": "2025-01-02 03:04:05.600700", "split_section": "train",
    }  # fmt: skip
    return tuple({**row, **values}[column] for column in COLUMNS["images"])


def annotation_row(number: int, image: str, **values: Cell) -> Row:
    """A row of annotations with unremarkable values, except those that are given by column name."""
    row: dict[str, Cell] = {
        "id": key(number), "image_id": image, "class_name": "car", "class_id": 1, "confidence": 0.98,
        "x_min": 1.0, "y_min": 2.0, "x_max": 3.25, "y_max": 4.0, "segmentation": "null",
        "is_auto_generated": 1, "is_verified": 0, "model_id": "yolov8n",
        "created_at": "2025-01-02 03:04:05", "updated_at": "2025-01-02 03:04:05",
    }  # fmt: skip
    return tuple({**row, **values}[column] for column in COLUMNS["annotations"])


def _parents() -> dict[str, list[Row]]:
    time, later = "2024-12-01 08:00:00", "2025-03-01 09:30:00.000001"
    stale = (CANARY_NUMBER, CANARY_NUMBER, CANARY_NUMBER)
    projects: list[Row] = [
        (1, "Vehicles, day", None, time, later, CANARY, 0.5, 0.45, "Object Detection"),
        (2, 'Gärten & "Höfe" 花', "", time, None, CANARY, 0.5, 0.45, "segmentation"),
        (7, "=1+1", "two\nlines", None, time, None, None, None, None),
        (10, "without datasets", "", time, time, CANARY, 0.5, 0.45, "Object Detection"),
    ]
    datasets: list[Row] = [
        (key(0x20), "night", "", 1, time, later, *stale, 1, CANARY),
        (key(0x10), "day", "Images uploaded to Vehicles", 1, time, later, *stale, 1, CANARY),
        (key(0x30), "empty", None, 1, None, None, 0, 0, 0, 0, None),
        ("b-garden", "rose", "-1", 2, time, time, *stale, 1, CANARY),
        ("B-garden", "tulip", "- one", 2, time, time, *stale, 1, CANARY),
        ("é", "third", "x", 7, time, time, *stale, 0, CANARY),
    ]
    labels: list[Row] = [
        (1, "car", "#ff0000", 1), (2, "truck", None, 1), (4, "never used", "#ffffff", 1),
        (9, "花", "#00ff00", 2), (12, "car", "#0000ff", 2), (13, "car", "#0000fe", 1),
        (20, "@sum", "#fff", 7),
    ]  # fmt: skip
    return {"projects": projects, "datasets": datasets, "labels": labels}


def sample_rows(orphans: bool = False) -> dict[str, list[Row]]:
    """A small deterministic population, by table, in the order of the schema's columns.

    Four projects (one without datasets), six datasets (one without images, keys whose order differs between
    code points and dictionaries), all splits, boxes, polygons in both spellings, nulls, the text null,
    formula openers, and with `orphans` a dataset, two images and two annotations whose parents are not there.
    """
    tables = _parents()
    splits: list[Cell] = [
        "train",
        "val",
        "test",
        None,
        "training",
        "valid",
        "validation",
        "testing",
        "holdout",
        "train",
    ]
    images = [image_row(100 + n, key(0x10), split_section=split) for n, split in enumerate(splits)]
    images += [image_row(200 - n, key(0x20), is_labeled=n % 2, is_verified=None) for n in range(5)]
    images += [
        image_row(300, "b-garden", filename="=cmd|' /C calc'!A0", original_filename='a "quoted", name.png'),
        image_row(301, "b-garden", file_size=2**53 + 1, width=None, height=None, format=None, split_type=None),
        image_row(302, "B-garden", is_labeled=None, is_auto_labeled=1, created_at=None, split_section="val"),
        image_row(303, "é", filename="größe 花.jpg", original_filename="", file_path="-1.5", is_labeled=0),
    ]
    objects = '[{"x": 143.5, "y": 589}, {"x": 130.25, "y": 1e3}, {"x": -0.5, "y": 516.5}]'
    shapes: list[Cell] = ["null", None, objects, "[[1, 2], [3, 4.5], [5, 6]]"]
    annotations = [
        annotation_row(5000 - n, key(100 + n % 9), segmentation=shapes[n % 4], confidence=[0.1, None, 1.0][n % 3])
        for n in range(30)
    ]
    annotations += [
        annotation_row(6000, key(200), class_name="truck", class_id=2, x_min=-12.5, x_max=1e4),
        annotation_row(6001, key(300), class_name="花", class_id=9, model_id=None, is_auto_generated=0),
        annotation_row(6002, key(300), class_name="unlisted", class_id=99, is_auto_generated=None, is_verified=1),
        annotation_row(6003, key(303), class_name="@sum", class_id=20, x_min=1 / 3, y_min=5e-324, x_max=0.1 + 0.2),
        annotation_row(6004, key(303), created_at=None, updated_at="2025-01-02 03:04:05.100000"),
    ]
    tables |= {"images": images, "annotations": annotations}
    tables["dev_mode_settings"] = [(1, CANARY, "2025-01-01 00:00:00", CANARY)]
    tables["label_analytics"] = [
        (key(1), key(0x10), f'{{"{CANARY}": 1}}', CANARY_NUMBER, CANARY, 1, "2025-01-01 00:00:00")
    ]
    tables["alembic_version"] = [("canary" + CANARY[-20:],)]
    return with_orphans(tables) if orphans else tables


def with_orphans(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The tables with one more dataset, two more images and two more annotations, whose parents are missing."""
    time = "2025-01-01 00:00:00"
    lost: Row = (key(0x99), "of no project", None, 99, time, time, 1, 1, 0, 0, None)
    return {
        **tables,
        "datasets": [*tables["datasets"], lost],
        "images": [*tables["images"], image_row(900, key(0x99)), image_row(901, "no such dataset")],
        "annotations": [
            *tables["annotations"],
            annotation_row(9000, key(900)),
            annotation_row(9001, "no such image"),
        ],
    }
