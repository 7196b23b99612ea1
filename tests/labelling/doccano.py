"""The database of doccano, as its Django migrations declare it, for SQLite and PostgreSQL, and changes to it."""

from __future__ import annotations

import random

from tests.databases import Connection

CANARY = "canary-doccano-3b91"

_TABLES = """
CREATE TABLE auth_user (id integer PRIMARY KEY, username varchar(150) NOT NULL, password varchar(128) NOT NULL);
CREATE TABLE authtoken_token (key varchar(60) PRIMARY KEY, user_id integer NOT NULL);
CREATE TABLE projects_project (id integer PRIMARY KEY, name varchar(100) NOT NULL, description text NOT NULL,
  guideline text NOT NULL, created_at {time} NOT NULL,
  updated_at {time} NOT NULL, project_type varchar(30) NOT NULL);
CREATE TABLE examples_example (id integer PRIMARY KEY, uuid varchar(60) NOT NULL, meta text NOT NULL,
  filename varchar(1024) NOT NULL, text text NULL, created_at {time} NOT NULL, updated_at {time} NOT NULL,
  project_id integer NOT NULL REFERENCES projects_project (id), upload_name varchar(512) NOT NULL);
CREATE TABLE examples_examplestate (id integer PRIMARY KEY, confirmed_by_id integer NOT NULL,
  example_id integer NOT NULL REFERENCES examples_example (id));
CREATE TABLE examples_comment (id integer PRIMARY KEY, text text NOT NULL,
  example_id integer NOT NULL REFERENCES examples_example (id));
CREATE TABLE label_types_categorytype (id integer PRIMARY KEY, text varchar(100) NOT NULL,
  background_color varchar(7) NOT NULL, text_color varchar(60) NOT NULL,
  project_id integer NOT NULL REFERENCES projects_project (id));
CREATE TABLE labels_boundingbox (id integer PRIMARY KEY, uuid varchar(60) NOT NULL, prob {real} NOT NULL,
  created_at {time} NOT NULL, updated_at {time} NOT NULL,
  x {real} NOT NULL, y {real} NOT NULL, width {real} NOT NULL,
  height {real} NOT NULL, example_id bigint NOT NULL REFERENCES examples_example (id),
  label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_segmentation (id integer PRIMARY KEY, uuid varchar(60) NOT NULL, prob {real} NOT NULL,
  created_at {time} NOT NULL, updated_at {time} NOT NULL, points {json} NOT NULL,
  example_id bigint NOT NULL REFERENCES examples_example (id),
  label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_category (id integer PRIMARY KEY, uuid varchar(60) NOT NULL, prob {real} NOT NULL,
  created_at {time} NOT NULL, updated_at {time} NOT NULL,
  example_id bigint NOT NULL REFERENCES examples_example (id),
  label_id bigint NOT NULL REFERENCES label_types_categorytype (id));
CREATE TABLE labels_textlabel (id integer PRIMARY KEY, uuid varchar(60) NOT NULL, prob {real} NOT NULL,
  created_at {time} NOT NULL, updated_at {time} NOT NULL, text text NOT NULL,
  example_id bigint NOT NULL REFERENCES examples_example (id));
"""
TYPES = ("ImageClassification", "BoundingBox", "Segmentation", "ImageCaptioning", "DocumentClassification")
_ANNOTATIONS = ("labels_boundingbox", "labels_segmentation", "labels_category", "labels_textlabel")


class Doccano:
    """A database of doccano, filled through a session, and a random history of it.

    Foreign keys are not enforced, so that rows can lose what they refer to.
    """

    def __init__(
        self, connection: Connection, *, sqlite: bool, seed: int = 0, projects: int = 24, examples: int = 120
    ) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        self._ids = 100
        types = {"time": "datetime", "real": "real", "json": "text"}
        if not sqlite:
            types = {"time": "timestamptz", "real": "float8", "json": "jsonb"}
        connection.script(_TABLES.format(**types))
        connection.execute("INSERT INTO auth_user VALUES (1, 'a', ?)", f"{CANARY}-password")
        connection.execute("INSERT INTO authtoken_token VALUES (?, 1)", f"{CANARY}-token")
        for number in range(1, projects + 1):
            self.project(number, TYPES[number % len(TYPES)])
            self.label(number)
            self.label(number)
        for _ in range(examples):
            self.example()
        for _ in range(2 * examples):
            self.annotation(self.random.choice(_ANNOTATIONS))

    def _next(self) -> int:
        self._ids += 1
        return self._ids

    @property
    def _time(self) -> str:
        return f"2026-05-04 09:{self.random.randrange(60):02}:00"

    def _any(self, table: str) -> int:
        rows = self.connection.execute(f"SELECT id FROM {table} ORDER BY id")
        return int(self.random.choice(rows)[0]) if rows else 1

    def project(self, key: int, kind: str) -> None:
        """Add a project."""
        self.connection.execute(
            "INSERT INTO projects_project VALUES (?, ?, '', ?, ?, ?, ?)",
            key, f"project {key}", f"{CANARY}-guideline", self._time, self._time, kind,
        )  # fmt: skip

    def label(self, project: int) -> None:
        """Add a label."""
        key = self._next()
        self.connection.execute(
            "INSERT INTO label_types_categorytype VALUES (?, ?, '#ff0000', ?, ?)",
            key, f"label {key % 7}", f"{CANARY}-colour", project,
        )  # fmt: skip

    def example(self) -> None:
        """Add an example."""
        key = self._next()
        self.connection.execute(
            "INSERT INTO examples_example VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            key, f"{CANARY}-uuid-{key}", f"{CANARY}-meta", f"store/{key}.png", f"{CANARY}-text", self._time,
            self._time, self._any("projects_project"), f"{key}.png",
        )  # fmt: skip

    def annotation(self, table: str) -> None:
        """Add an annotation."""
        key, place = self._next(), self.random.randrange(90)
        example, label = self._any("examples_example"), self._any("label_types_categorytype")
        common = (key, f"{CANARY}-uuid-{key}", self.random.choice((0.0, 0.25)), self._time, self._time)
        own: dict[str, tuple[object, ...]] = {
            "labels_boundingbox": (place, 1.5, 30, 40.25, example, label),
            "labels_segmentation": (f"[{place}, 2, 30, 4.5, 5, 60]", example, label),
            "labels_category": (example, label),
            "labels_textlabel": (f"caption {place}", example),
        }
        values = (*common, *own[table])
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"INSERT INTO {table} VALUES ({marks})", *values)  # type: ignore[arg-type]

    # --- a history -------------------------------------------------------------------------------

    def change(self) -> str:
        """Change something at random; returns the name of the change."""
        change = self.random.choice(
            (
                self.example, self.add_annotation, self.add_annotation, self.move_annotation, self.edit_annotation,
                self.delete_annotation, self.delete_annotation, self.confirm, self.confirm, self.reopen,
                self.move_example, self.delete_example, self.rename_project, self.retype_project,
                self.rename_label,                self.touch_unread, self.touch_unread,
            )
        )  # fmt: skip
        change()
        return change.__name__

    def _run(self, sql: str, *values: object) -> None:
        self.connection.execute(sql, *values)  # type: ignore[arg-type]

    def add_annotation(self) -> None:
        """Add an annotation of any kind."""
        self.annotation(self.random.choice(_ANNOTATIONS))

    def edit_annotation(self) -> None:
        """Change a value of a box."""
        key = self._any("labels_boundingbox")
        self._run("UPDATE labels_boundingbox SET x = ? WHERE id = ?", self.random.randrange(99), key)

    def move_annotation(self) -> None:
        """Give an annotation to another example."""
        table = self.random.choice(_ANNOTATIONS)
        example = self._any("examples_example")
        self._run(f"UPDATE {table} SET example_id = ? WHERE id = ?", example, self._any(table))

    def delete_annotation(self) -> None:
        """Delete an annotation."""
        table = self.random.choice(_ANNOTATIONS)
        self._run(f"DELETE FROM {table} WHERE id = ?", self._any(table))

    def confirm(self) -> None:
        """Add a state row."""
        self._run(
            "INSERT INTO examples_examplestate VALUES (?, 1, ?)", self._next(), self._any("examples_example")
        )

    def reopen(self) -> None:
        """Delete a state row."""
        self._run("DELETE FROM examples_examplestate WHERE id = ?", self._any("examples_examplestate"))

    def move_example(self) -> None:
        """Give an example to another project."""
        project, key = self._any("projects_project"), self._any("examples_example")
        self._run("UPDATE examples_example SET project_id = ? WHERE id = ?", project, key)

    def delete_example(self) -> None:
        """Delete an example; its annotations and states may stay."""
        key = self._any("examples_example")
        self._run("DELETE FROM examples_example WHERE id = ?", key)
        if self.random.random() < 0.5:
            for table in (*_ANNOTATIONS, "examples_examplestate"):
                self._run(f"DELETE FROM {table} WHERE example_id = ?", key)

    def rename_project(self) -> None:
        """Change the name of a project."""
        name = f"project {self.random.randrange(1000)}"
        self._run("UPDATE projects_project SET name = ? WHERE id = ?", name, self._any("projects_project"))

    def retype_project(self) -> None:
        """Change the kind of a project, and perhaps back: its examples leave the export."""
        kind = self.random.choice(TYPES)
        self._run("UPDATE projects_project SET project_type = ? WHERE id = ?", kind, self._any("projects_project"))

    def rename_label(self) -> None:
        """Change the name of a label."""
        name = f"label {self.random.randrange(7)}"
        key = self._any("label_types_categorytype")
        self._run("UPDATE label_types_categorytype SET text = ? WHERE id = ?", name, key)

    def touch_unread(self) -> None:
        """Write to a table that no query reads."""
        self._run("INSERT INTO examples_comment VALUES (?, ?, 1)", self._next(), f"{CANARY}-comment")
