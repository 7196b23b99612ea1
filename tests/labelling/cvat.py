"""The database of CVAT on PostgreSQL, as its Django models declare it, and changes to it."""

from __future__ import annotations

import random

from tests.databases import Connection

CANARY = "canary-cvat-77d0"

_TABLES = f"""
CREATE TABLE auth_user (id serial PRIMARY KEY, username varchar(150) NOT NULL, password varchar(128) NOT NULL);
CREATE TABLE authtoken_token (key varchar(60) PRIMARY KEY, user_id int NOT NULL);
CREATE TABLE engine_cloudstorage (id serial PRIMARY KEY, resource varchar(222) NOT NULL,
  credentials varchar(1024));
CREATE TABLE engine_project (id serial PRIMARY KEY, name varchar(256) NOT NULL, owner_id int,
  bug_tracker varchar(2000) NOT NULL DEFAULT '{CANARY}-tracker', status varchar(32) NOT NULL DEFAULT 'annotation',
  created_date timestamptz NOT NULL, updated_date timestamptz NOT NULL);
CREATE TABLE engine_data (id serial PRIMARY KEY, size int NOT NULL, start_frame int NOT NULL,
  stop_frame int NOT NULL, frame_filter varchar(256) NOT NULL DEFAULT '',
  storage varchar(60) NOT NULL DEFAULT '{CANARY}-storage',
  cloud_storage_id int, deleted_frames text NOT NULL DEFAULT '');
CREATE TABLE engine_task (id serial PRIMARY KEY, project_id int REFERENCES engine_project (id),
  name varchar(256) NOT NULL, mode varchar(32) NOT NULL DEFAULT 'annotation',
  bug_tracker varchar(2000) NOT NULL DEFAULT '{CANARY}-tracker', data_id int REFERENCES engine_data (id),
  subset varchar(64) NOT NULL DEFAULT '', created_date timestamptz NOT NULL, updated_date timestamptz NOT NULL);
CREATE TABLE engine_image (id serial PRIMARY KEY, data_id int REFERENCES engine_data (id),
  path varchar(1024) NOT NULL, frame int NOT NULL, width int NOT NULL, height int NOT NULL,
  is_placeholder bool NOT NULL DEFAULT false, real_frame int NOT NULL DEFAULT 0);
CREATE TABLE engine_segment (id serial PRIMARY KEY, task_id int NOT NULL REFERENCES engine_task (id),
  start_frame int NOT NULL, stop_frame int NOT NULL, frames text NOT NULL DEFAULT '{CANARY}-frames');
CREATE TABLE engine_job (id serial PRIMARY KEY, segment_id int NOT NULL REFERENCES engine_segment (id),
  assignee_id int, state varchar(60) NOT NULL DEFAULT '{CANARY}-state',
  type varchar(32) NOT NULL DEFAULT 'annotation',
  created_date timestamptz NOT NULL, updated_date timestamptz NOT NULL);
CREATE TABLE engine_label (id serial PRIMARY KEY, task_id int REFERENCES engine_task (id),
  project_id int REFERENCES engine_project (id), name varchar(64) NOT NULL, color varchar(8) NOT NULL DEFAULT '',
  type varchar(60) NOT NULL DEFAULT '{CANARY}-type', parent_id int REFERENCES engine_label (id));
CREATE TABLE engine_attributespec (id serial PRIMARY KEY, label_id int NOT NULL REFERENCES engine_label (id),
  name varchar(64) NOT NULL, default_value varchar(128) NOT NULL DEFAULT '{CANARY}-default');
CREATE TABLE engine_labeledshape (id bigserial PRIMARY KEY, job_id int NOT NULL REFERENCES engine_job (id),
  label_id int NOT NULL REFERENCES engine_label (id), frame int NOT NULL, "group" int, source varchar(16),
  type varchar(16) NOT NULL, occluded bool NOT NULL DEFAULT false, outside bool NOT NULL DEFAULT false,
  z_order int NOT NULL DEFAULT 0, points text NOT NULL, rotation float8 NOT NULL DEFAULT 0,
  parent_id bigint REFERENCES engine_labeledshape (id));
CREATE TABLE engine_labeledshapeattributeval (id bigserial PRIMARY KEY,
  spec_id int NOT NULL REFERENCES engine_attributespec (id), value varchar(4096) NOT NULL,
  shape_id bigint NOT NULL REFERENCES engine_labeledshape (id));
CREATE TABLE engine_labeledimage (id bigserial PRIMARY KEY, job_id int NOT NULL REFERENCES engine_job (id),
  label_id int NOT NULL REFERENCES engine_label (id), frame int NOT NULL, "group" int, source varchar(16));
CREATE TABLE engine_labeledimageattributeval (id bigserial PRIMARY KEY,
  spec_id int NOT NULL REFERENCES engine_attributespec (id), value varchar(4096) NOT NULL,
  image_id bigint NOT NULL REFERENCES engine_labeledimage (id));
CREATE TABLE engine_labeledtrack (id bigserial PRIMARY KEY, job_id int NOT NULL REFERENCES engine_job (id),
  label_id int NOT NULL REFERENCES engine_label (id), frame int NOT NULL, "group" int, source varchar(16),
  parent_id bigint REFERENCES engine_labeledtrack (id));
CREATE TABLE engine_trackedshape (id bigserial PRIMARY KEY,
  track_id bigint NOT NULL REFERENCES engine_labeledtrack (id), frame int NOT NULL, type varchar(16) NOT NULL,
  outside bool NOT NULL DEFAULT false, points text NOT NULL, rotation float8 NOT NULL DEFAULT 0);
CREATE INDEX ON engine_labeledshape (job_id); CREATE INDEX ON engine_image (data_id);
"""
_SHAPES = {
    "rectangle": "{0},20,{1},40.5", "polygon": "{0},2,30,4,5,{1}", "polyline": "0,{0},50,50,100,{1}",
    "points": "{0},{1}", "ellipse": "{0},50,{1},20", "mask": "2,3,4,{0},10,{1},12",
    "cuboid": "{0},1,2,2,{1},3,4,4,5,5,6,6,7,7,8,8",
}  # fmt: skip
_TIME = "2026-05-04T11:00:00+00"


class Cvat:
    """A database of CVAT, filled through a session, and a random history of it. Foreign keys are not enforced."""

    def __init__(self, connection: Connection, *, seed: int = 0, tasks: int = 10, frames: int = 8) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        connection.script(_TABLES)
        connection.script(
            f"INSERT INTO auth_user VALUES (1, 'a', '{CANARY}-password');"
            f"INSERT INTO authtoken_token VALUES ('{CANARY}-token', 1);"
            f"INSERT INTO engine_cloudstorage VALUES (1, '{CANARY}-bucket', '{CANARY}-credentials')"
        )
        for number in (1, 2):
            self._run(f"INSERT INTO engine_project (name, created_date, updated_date) VALUES ('project {number}', "
                      f"'{_TIME}', '{_TIME}')")  # fmt: skip
        for number in range(6):
            self._run("INSERT INTO engine_label (project_id, name, color) VALUES (?, ?, '#ff0000')",
                      number % 2 + 1, f"label {number}")  # fmt: skip
        self._run("INSERT INTO engine_attributespec (label_id, name) VALUES (1, 'colour'), (2, 'make')")
        for number in range(tasks):
            self.add_task(frames if number else frames // 2)
        for _ in range(3 * tasks):
            self.add_shape()
            self.add_keyframe()
            self.add_tag()

    def _run(self, sql: str, *values: object) -> None:
        self.connection.execute(sql, *values)  # type: ignore[arg-type]

    def _any(self, table: str) -> int:
        rows = self.connection.execute(f"SELECT id FROM {table} ORDER BY id")
        return int(self.random.choice(rows)[0]) if rows else 1

    def _frame(self) -> int:
        return self.random.randrange(8)

    def add_task(self, frames: int = 3) -> None:
        """Add a task of every second or of all frames, with two jobs."""
        step, start = self.random.choice(((1, 0), (2, 10)))
        [(data,)] = self.connection.execute(
            "INSERT INTO engine_data (size, start_frame, stop_frame, frame_filter) VALUES (?, ?, ?, ?) "
            "RETURNING id",
            frames, start, start + step * (frames - 1), f"step={step}" if step > 1 else "",
        )  # fmt: skip
        for number in range(frames):
            self._run(
                "INSERT INTO engine_image (data_id, path, frame, width, height) VALUES (?, ?, ?, 640, 480)",
                data, f"camera/{data}-{number}.jpg", start + step * number,
            )  # fmt: skip
        [(task,)] = self.connection.execute(
            "INSERT INTO engine_task (project_id, name, data_id, subset, created_date, updated_date) "
            f"VALUES (?, ?, ?, ?, '{_TIME}', '{_TIME}') RETURNING id",
            self.random.choice((1, 2, None)), f"task of data {data}", data, self.random.choice(("", "Train")),
        )  # fmt: skip
        for _ in range(2):
            self.add_job(task)

    def add_job(self, task: int | None = None) -> None:
        """Add a segment with a job."""
        task = task or self._any("engine_task")
        [(segment,)] = self.connection.execute(
            "INSERT INTO engine_segment (task_id, start_frame, stop_frame) VALUES (?, 0, 7) RETURNING id", task
        )
        self._run(
            "INSERT INTO engine_job (segment_id, created_date, updated_date) "
            f"VALUES (?, '{_TIME}', '{_TIME}')", segment,
        )  # fmt: skip

    def _points(self, kind: str) -> str:
        return _SHAPES[kind].format(self.random.randrange(50), 50 + self.random.randrange(50))

    def add_shape(self) -> None:
        """Add a shape, perhaps with an attribute, or a skeleton of two points."""
        job, label, frame = self._any("engine_job"), self._any("engine_label"), self._frame()
        source, turned = self.random.choice(("manual", "auto")), self.random.choice((0, 0, 90, 30.5))
        kind = self.random.choice((*_SHAPES, "skeleton"))
        insert = (
            "INSERT INTO engine_labeledshape (job_id, label_id, frame, source, type, points, rotation, parent_id) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"
        )
        points = "" if kind == "skeleton" else self._points(kind)
        [(shape,)] = self.connection.execute(insert, job, label, frame, source, kind, points, turned, None)
        for _ in range(2 if kind == "skeleton" else 0):
            self._run(insert, job, label, frame, source, "points", self._points("points"), 0, shape)
        if self.random.random() < 0.4:
            self.add_attribute(shape)

    def add_attribute(self, shape: int | None = None) -> None:
        """Answer a question about a shape or a tag."""
        spec, value = self._any("engine_attributespec"), f"value {self.random.randrange(9)}"
        if shape is None and self.random.random() < 0.4:
            table, column, row = "engine_labeledimageattributeval", "image_id", self._any("engine_labeledimage")
        else:
            table, column = "engine_labeledshapeattributeval", "shape_id"
            row = shape or self._any("engine_labeledshape")
        self._run(f"INSERT INTO {table} (spec_id, value, {column}) VALUES (?, ?, ?)", spec, value, row)

    def add_tag(self) -> None:
        """Add a tag."""
        self._run(
            "INSERT INTO engine_labeledimage (job_id, label_id, frame, source) VALUES (?, ?, ?, 'manual')",
            self._any("engine_job"), self._any("engine_label"), self._frame(),
        )  # fmt: skip

    def add_keyframe(self) -> None:
        """Add a key frame to a new or an old track."""
        if self.random.random() < 0.4 or not self.connection.execute("SELECT 1 FROM engine_labeledtrack LIMIT 1"):
            parent = self._any("engine_labeledtrack") if self.random.random() < 0.3 else None
            job = self._any("engine_job")
            if parent is not None:
                rows = self.connection.execute("SELECT job_id FROM engine_labeledtrack WHERE id = ?", parent)
                job = rows[0][0] if rows else job
            self._run(
                "INSERT INTO engine_labeledtrack (job_id, label_id, frame, source, parent_id) "
                "VALUES (?, ?, 0, 'manual', ?)", job, self._any("engine_label"), parent,
            )  # fmt: skip
        self._run(
            "INSERT INTO engine_trackedshape (track_id, frame, type, outside, points) VALUES (?, ?, ?, ?, ?)",
            self._any("engine_labeledtrack"), self._frame(), "rectangle", self.random.random() < 0.2,
            self._points("rectangle"),
        )  # fmt: skip

    # --- a history -------------------------------------------------------------------------------

    def change(self) -> str:
        """Change something at random; returns the name of the change."""
        change = self.random.choice(
            (
                self.add_shape, self.add_shape, self.add_attribute, self.add_tag, self.add_keyframe, self.add_task,
                self.edit_shape, self.edit_shape, self.move_shape, self.move_job, self.move_job, self.retype_job,
                self.retype_job, self.delete_frames, self.delete_frames, self.delete_row, self.delete_row,
                self.delete_row, self.rename, self.edit_attribute, self.move_task, self.resize_step,
                self.hide_frame,                 self.touch_unread, self.touch_unread,
            )
        )  # fmt: skip
        change()
        return change.__name__

    def edit_shape(self) -> None:
        """Move a shape within its frame."""
        self._run(
            "UPDATE engine_labeledshape SET points = ?, type = 'rectangle' WHERE id = ? AND type <> 'skeleton'",
            self._points("rectangle"), self._any("engine_labeledshape"),
        )  # fmt: skip

    def move_shape(self) -> None:
        """Move a shape to another frame or job; the elements of a skeleton may stay behind."""
        job, key = self._any("engine_job"), self._any("engine_labeledshape")
        self._run("UPDATE engine_labeledshape SET frame = ?, job_id = ? WHERE id = ?", self._frame(), job, key)

    def move_job(self) -> None:
        """Move a job, or all jobs of a segment, to another task."""
        if self.random.random() < 0.5:
            segment, key = self._any("engine_segment"), self._any("engine_job")
            self._run("UPDATE engine_job SET segment_id = ? WHERE id = ?", segment, key)
        else:
            task, key = self._any("engine_task"), self._any("engine_segment")
            self._run("UPDATE engine_segment SET task_id = ? WHERE id = ?", task, key)

    def retype_job(self) -> None:
        """Make a job one of ground truth, or of annotation again."""
        kind = self.random.choice(("annotation", "ground_truth"))
        self._run("UPDATE engine_job SET type = ? WHERE id = ?", kind, self._any("engine_job"))

    def delete_frames(self) -> None:
        """Delete frames of a task, or restore them."""
        gone = ",".join(str(number) for number in range(8) if self.random.random() < 0.15)
        self._run("UPDATE engine_data SET deleted_frames = ? WHERE id = ?", gone, self._any("engine_data"))

    def delete_row(self) -> None:
        """Delete a row of any table; rows that refer to it may stay."""
        table = self.random.choice(
            (
                "engine_labeledshape", "engine_labeledshape", "engine_labeledshapeattributeval",
                "engine_labeledimageattributeval", "engine_labeledimage", "engine_trackedshape",
                "engine_labeledtrack", "engine_image", "engine_job", "engine_task",
            )
        )  # fmt: skip
        keep = {"engine_task": 3, "engine_job": 4, "engine_image": 12}.get(table, 2)
        [(count,)] = self.connection.execute(f"SELECT count(*) FROM {table}")
        if count > keep:
            self._run(f"DELETE FROM {table} WHERE id = ?", self._any(table))

    def rename(self) -> None:
        """Rename a project, a task, a label or a question."""
        table = self.random.choice(("engine_project", "engine_task", "engine_label", "engine_attributespec"))
        self._run(
            f"UPDATE {table} SET name = ? WHERE id = ?", f"name {self.random.randrange(99)}", self._any(table)
        )

    def edit_attribute(self) -> None:
        """Change an answer."""
        value, key = f"value {self.random.randrange(9)}", self._any("engine_labeledshapeattributeval")
        self._run("UPDATE engine_labeledshapeattributeval SET value = ? WHERE id = ?", value, key)

    def move_task(self) -> None:
        """Move a task to another project, or out of all."""
        project = self.random.choice((1, 2, None))
        self._run("UPDATE engine_task SET project_id = ? WHERE id = ?", project, self._any("engine_task"))

    def resize_step(self) -> None:
        """Change the numbers of all frames of a task."""
        start = self.random.choice((0, 10))
        self._run("UPDATE engine_data SET start_frame = ? WHERE id = ?", start, self._any("engine_data"))

    def hide_frame(self) -> None:
        """Make an image a placeholder, or an image again."""
        hidden, key = self.random.random() < 0.5, self._any("engine_image")
        self._run("UPDATE engine_image SET is_placeholder = ? WHERE id = ?", hidden, key)

    def touch_unread(self) -> None:
        """Write to tables and columns that no query reads."""
        if self.random.random() < 0.5:
            self._run("UPDATE auth_user SET username = ?", f"user {self.random.randrange(99)}")
        else:
            self._run("UPDATE engine_job SET state = ? WHERE id = ?", f"{CANARY}-state", self._any("engine_job"))
