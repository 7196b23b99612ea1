"""The schemas of the applications in `autoexport/mapping/EXAMPLES.md`, as far as the examples read them, with
rows.

Each row of `EXPECTED` is what an export has for an annotation: image, label, type, box, polygon, points and flags.
"""

from __future__ import annotations

CANARY = "canary-of-an-example-51c2"

POSTGRES = {"LabelFlow", "BIIGLE", "ImageTagger", "Lightly Studio"}
"""The applications that run on PostgreSQL; the others use SQLite."""

_UUID = "00000000-0000-0000-0000-00000000000{}"

SCRIPTS = {
    "LabelFlow": f"""
CREATE TYPE "LabelType" AS ENUM ('Classification', 'Polygon', 'Box');
CREATE TABLE "Workspace" (id uuid PRIMARY KEY, "createdAt" timestamp, "updatedAt" timestamp, name text, slug text,
  "stripeCustomerId" text);
CREATE TABLE "Dataset" (id uuid PRIMARY KEY, "createdAt" timestamp, "updatedAt" timestamp, name text, slug text,
  "workspaceSlug" text);
CREATE TABLE "Image" (id uuid PRIMARY KEY, "createdAt" timestamp, "updatedAt" timestamp, url text, name text,
  path text, mimetype text, width float8, height float8, "datasetId" uuid REFERENCES "Dataset" (id));
CREATE TABLE "LabelClass" (id uuid PRIMARY KEY, name text, color text, index int,
  "datasetId" uuid REFERENCES "Dataset" (id));
CREATE TABLE "Label" (id uuid PRIMARY KEY, "createdAt" timestamp, "updatedAt" timestamp, x float8, y float8,
  height float8, width float8, geometry jsonb, "imageId" uuid REFERENCES "Image" (id),
  "labelClassId" uuid REFERENCES "LabelClass" (id), type "LabelType");
INSERT INTO "Workspace" VALUES ('{_UUID.format(1)}', now(), now(), 'fields', 'fields', '{CANARY}');
INSERT INTO "Dataset" VALUES ('{_UUID.format(2)}', now(), now(), 'corn', 'corn', 'fields');
INSERT INTO "Image" VALUES ('{_UUID.format(3)}', now(), now(), 'https://a.example/b?token={CANARY}', 'a.jpg',
  'corn/a.jpg', 'image/jpeg', 640, 480, '{_UUID.format(2)}');
INSERT INTO "LabelClass" VALUES ('{_UUID.format(4)}', 'weed', '#ff0000', 0, '{_UUID.format(2)}');
INSERT INTO "Label" VALUES
  ('{_UUID.format(5)}', now(), now(), 10, 20, 40, 30, '{{}}', '{_UUID.format(3)}', '{_UUID.format(4)}', 'Box'),
  ('{_UUID.format(6)}', now(), now(), 0, 0, 9, 9, '{{"coordinates": [[[1, 2], [3, 4], [5, 6]]]}}',
   '{_UUID.format(3)}', '{_UUID.format(4)}', 'Polygon');
""",
    "VisioFirm": f"""
CREATE TABLE Images (image_id INTEGER PRIMARY KEY AUTOINCREMENT, absolute_path TEXT UNIQUE, width INTEGER,
  height INTEGER);
CREATE TABLE Classes (class_name TEXT PRIMARY KEY);
CREATE TABLE Annotations (annotation_id INTEGER PRIMARY KEY AUTOINCREMENT,
  image_id INTEGER REFERENCES Images (image_id), user_id INTEGER, type TEXT NOT NULL,
  class_name TEXT REFERENCES Classes (class_name), x REAL, y REAL, width REAL, height REAL, rotation REAL DEFAULT
  0, segmentation TEXT);
CREATE TABLE Preannotations (preannotation_id INTEGER PRIMARY KEY AUTOINCREMENT,
  image_id INTEGER REFERENCES Images (image_id), type TEXT NOT NULL, class_name TEXT, x REAL, y REAL, width REAL,
  height REAL, rotation REAL DEFAULT 0, segmentation TEXT, confidence REAL NOT NULL);
CREATE TABLE ReviewedImages (image_id INTEGER PRIMARY KEY, reviewed_at TIMESTAMP, user_id INTEGER);
INSERT INTO Images VALUES (1, '/data/a.jpg', 640, 480), (2, '/data/b.jpg', 640, 480);
INSERT INTO Annotations VALUES (1, 1, 1, 'Rect', 'cat', 10, 20, 30, 40, 0, NULL),
  (2, 2, 1, 'Polygon', 'dog', NULL, NULL, NULL, NULL, 0, '[[1, 2], [3, 4], [5, 6]]');
INSERT INTO Preannotations VALUES (1, 1, 'Rect', '{CANARY}', 1, 2, 3, 4, 0, NULL, 0.5);
INSERT INTO ReviewedImages VALUES (1, '{CANARY}', 1);
""",
    "BIIGLE": f"""
CREATE TABLE projects (id serial PRIMARY KEY, name text, description text, creator_id int, created_at timestamp,
  updated_at timestamp);
CREATE TABLE volumes (id serial PRIMARY KEY, name text, url text, created_at timestamp, updated_at timestamp);
CREATE TABLE project_volume (project_id int REFERENCES projects (id), volume_id int REFERENCES volumes (id));
CREATE TABLE images (id serial PRIMARY KEY, filename text, volume_id int REFERENCES volumes (id), attrs json);
CREATE TABLE shapes (id serial PRIMARY KEY, name text);
CREATE TABLE labels (id serial PRIMARY KEY, name text, color text, label_tree_id int);
CREATE TABLE image_annotations (id serial PRIMARY KEY, image_id int REFERENCES images (id),
  shape_id int REFERENCES shapes (id), points json, created_at timestamp, updated_at timestamp);
CREATE TABLE image_annotation_labels (id serial PRIMARY KEY, annotation_id int REFERENCES image_annotations (id),
  label_id int REFERENCES labels (id), user_id int, confidence float8, created_at timestamp, updated_at timestamp);
INSERT INTO projects VALUES (1, 'north', 'n', 7, now(), now()), (2, 'south', 's', 7, now(), now());
INSERT INTO volumes VALUES (1, 'dive', 'local://{CANARY}', now(), now());
INSERT INTO project_volume VALUES (1, 1), (2, 1);
INSERT INTO images VALUES (1, 'a.jpg', 1, '{{"key": "{CANARY}"}}');
INSERT INTO shapes VALUES (1, 'Point'), (2, 'LineString'), (3, 'Polygon'), (4, 'Circle'), (5, 'Rectangle');
INSERT INTO labels VALUES (1, 'sponge', 'ff0000', 1);
INSERT INTO image_annotations VALUES (1, 1, 4, '[100, 50, 10]', now(), now()), (2, 1, 2, '[1, 2, 3, 4]', now(),
now()); INSERT INTO image_annotation_labels VALUES (1, 1, 1, 7, 1, now(), now()), (2, 2, 1, 7, 0.5, now(), now());
""",
    "BOXER": """
CREATE TABLE projects (id INTEGER PRIMARY KEY, name VARCHAR(100), description TEXT, is_public BOOLEAN,
  created_at DATETIME, updated_at DATETIME);
CREATE TABLE datasets (id INTEGER PRIMARY KEY, name VARCHAR(100), description TEXT,
  project_id INTEGER REFERENCES projects (id), created_at DATETIME);
CREATE TABLE images (id INTEGER PRIMARY KEY, filename VARCHAR(255), original_filename VARCHAR(255),
  file_path VARCHAR(500), width INTEGER, height INTEGER, file_size INTEGER, mime_type VARCHAR(100),
  dataset_id INTEGER REFERENCES datasets (id), uploaded_at DATETIME);
CREATE TABLE label_categories (id INTEGER PRIMARY KEY, name VARCHAR(100), color VARCHAR(7),
  project_id INTEGER REFERENCES projects (id), created_at DATETIME);
CREATE TABLE annotations (id INTEGER PRIMARY KEY, image_id INTEGER REFERENCES images (id),
  dataset_id INTEGER REFERENCES datasets (id), label_category_id INTEGER REFERENCES label_categories (id),
  annotation_data JSON, confidence FLOAT, is_verified BOOLEAN, created_at DATETIME, updated_at DATETIME);
INSERT INTO projects VALUES (1, 'shelf', NULL, 1, '2026-05-04 09:00:00', '2026-05-04 09:00:00');
INSERT INTO datasets VALUES (1, 'left', NULL, 1, '2026-05-04 09:00:00');
INSERT INTO images VALUES (1, 'a.jpg', 'a.jpg', 'up/a.jpg', 640, 480, 1, 'image/jpeg', 1, '2026-05-04 09:00:00');
INSERT INTO label_categories VALUES (1, 'box', '#ff0000', 1, '2026-05-04 09:00:00');
INSERT INTO annotations VALUES
  (1, 1, 1, 1, '{"coordinates": {"startX": 40, "startY": 20, "endX": 10, "endY": 60}}', 1.0, 0, NULL, NULL),
  (2, 1, 1, 1, '{"tool": "point", "coordinates": {"startX": 5, "startY": 6}}', 1.0, 1, NULL, NULL),
  (3, 1, 1, 1, '{"tool": "polygon", "coordinates": {"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y":
  6}]}}',
   1.0, 0, NULL, NULL);
""",
    "ImageTagger": f"""
CREATE TABLE users_team (id serial PRIMARY KEY, name text, website text);
CREATE TABLE images_imageset (id serial PRIMARY KEY, path text, name text, location text, description text,
  time timestamptz, team_id int REFERENCES users_team (id));
CREATE TABLE images_image (id serial PRIMARY KEY, name text, filename text, checksum bytea, width int, height int,
  time timestamptz, image_set_id int REFERENCES images_imageset (id));
CREATE TABLE annotations_annotationtype (id serial PRIMARY KEY, name text, active bool, vector_type int);
CREATE TABLE annotations_annotation (id serial PRIMARY KEY, vector jsonb, closed bool, time timestamptz,
  last_edit_time timestamptz, image_id int REFERENCES images_image (id),
  annotation_type_id int REFERENCES annotations_annotationtype (id), user_id int);
CREATE TABLE annotations_verification (id serial PRIMARY KEY, verified bool, time timestamptz,
  annotation_id int REFERENCES annotations_annotation (id), user_id int);
INSERT INTO users_team VALUES (1, 'robots', '{CANARY}');
INSERT INTO images_imageset VALUES (1, '{CANARY}', 'match', '{CANARY}', 'd', now(), 1);
INSERT INTO images_image VALUES (1, 'a.jpg', 'a_1.jpg', 'x', 640, 480, now(), 1),
  (2, 'b.jpg', 'b_1.jpg', 'x', 640, 480, now(), 1);
INSERT INTO annotations_annotationtype VALUES (1, 'ball', true, 1), (2, 'field', true, 5);
INSERT INTO annotations_annotation VALUES
  (1, '{{"x1": 10, "y1": 20, "x2": 40, "y2": 60}}', true, now(), now(), 1, 1, 7),
  (2, '{{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "x3": 5, "y3": 6}}', true, now(), now(), 1, 2, 7),
  (3, NULL, true, now(), now(), 2, 1, 7);
INSERT INTO annotations_verification VALUES (1, true, now(), 1, 7);
""",
    "Lightly Studio": f"""
CREATE TABLE dataset (dataset_id uuid PRIMARY KEY, name text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE sample (sample_id uuid PRIMARY KEY, dataset_id uuid REFERENCES dataset (dataset_id),
  created_at timestamptz);
CREATE TABLE image (sample_id uuid PRIMARY KEY REFERENCES sample (sample_id), file_name text, width int, height
int,
  file_path_abs text, created_at timestamptz, updated_at timestamptz);
CREATE TABLE annotation_label (annotation_label_id uuid PRIMARY KEY, annotation_label_name text);
CREATE TABLE annotation_base (annotation_id uuid PRIMARY KEY, annotation_type text,
  annotation_label_id uuid REFERENCES annotation_label (annotation_label_id), confidence float8,
  dataset_id uuid REFERENCES dataset (dataset_id), parent_sample_id uuid REFERENCES sample (sample_id),
  created_at timestamptz);
CREATE TABLE object_detection_annotation (annotation_id uuid PRIMARY KEY REFERENCES annotation_base
(annotation_id),
  x int, y int, width int, height int);
INSERT INTO dataset VALUES ('{_UUID.format(1)}', 'street', now(), now());
INSERT INTO sample VALUES ('{_UUID.format(2)}', '{_UUID.format(1)}', now());
INSERT INTO image VALUES ('{_UUID.format(2)}', 'a.jpg', 640, 480, '/data/a.jpg', now(), now());
INSERT INTO annotation_label VALUES ('{_UUID.format(3)}', 'car');
INSERT INTO annotation_base VALUES
  ('{_UUID.format(4)}', 'OBJECT_DETECTION', '{_UUID.format(3)}', 0.5, '{_UUID.format(1)}', '{_UUID.format(2)}',
  now()), ('{_UUID.format(5)}', 'CLASSIFICATION', '{_UUID.format(3)}', NULL, '{_UUID.format(1)}',
  '{_UUID.format(2)}', now());
INSERT INTO object_detection_annotation VALUES ('{_UUID.format(4)}', 10, 20, 30, 40);
""",
    "DeepLabel": """
CREATE table images (image_id INTEGER PRIMARY KEY ASC, path varchar(256));
CREATE table classes (class_id INTEGER PRIMARY KEY ASC, name varchar(32));
CREATE table labels (label_id INTEGER PRIMARY KEY ASC, image_id int, class_id int, x int, y int, width int,
  height int, automatic int);
INSERT INTO images VALUES (1, 'a.jpg'), (2, 'b.jpg');
INSERT INTO classes VALUES (1, 'cat');
INSERT INTO labels VALUES (1, 1, 1, 10, 20, 30, 40, 0), (2, 2, 1, 1, 2, 3, 4, 1);
""",
}

Row = tuple[str, str, str, object, object, object]

EXPECTED: dict[str, list[Row]] = {
    "LabelFlow": [
        ("a.jpg", "weed", "bbox", (10, 420, 40, 460), None, None),
        ("a.jpg", "weed", "polygon", None, [[1, 478], [3, 476], [5, 474]], None),
    ],
    "VisioFirm": [
        ("a.jpg", "cat", "bbox", (10, 20, 40, 60), None, None),
        ("b.jpg", "dog", "polygon", None, [[1, 2], [3, 4], [5, 6]], None),
    ],
    "BIIGLE": [
        ("a.jpg", "sponge", "ellipse", (90, 40, 110, 60), None, None),
        ("a.jpg", "sponge", "polyline", None, None, [[1, 2], [3, 4]]),
    ]
    * 2,
    "BOXER": [
        ("a.jpg", "box", "bbox", (10, 20, 40, 60), None, None),
        ("a.jpg", "box", "keypoints", None, None, [[5, 6]]),
        ("a.jpg", "box", "polygon", None, [[1, 2], [3, 4], [5, 6]], None),
    ],
    "ImageTagger": [
        ("a.jpg", "ball", "bbox", (10, 20, 40, 60), None, None),
        ("a.jpg", "field", "polygon", None, [[1, 2], [3, 4], [5, 6]], None),
    ],
    "Lightly Studio": [
        ("a.jpg", "car", "bbox", (10, 20, 40, 60), None, None),
        ("a.jpg", "car", "classification", None, None, None),
    ],
    "DeepLabel": [
        ("a.jpg", "cat", "bbox", (10, 20, 40, 60), None, None),
        ("b.jpg", "cat", "bbox", (1, 2, 4, 6), None, None),
    ],
}
"""By application, the annotations of its rows in the order of the export."""
