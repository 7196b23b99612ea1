"""Compares the last line of changes.jsonl with the trees before and after the publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autoexport.overview.change_log import MOST_IDS, TABLES, VERBS

Nodes = dict[str, dict[str, list[str]]]


class Digits(str):
    """A number as it is written: 1, 1.0 and true are three values."""

    def __repr__(self) -> str:
        return f"<{self}>"


def nodes_of(text: bytes) -> Nodes:
    """The values of every node of a tree without what is below it, by table and id."""
    tree = json.loads(text, parse_int=Digits, parse_float=Digits)
    nodes: Nodes = {table: {} for table in TABLES}

    def add(table: str, key: Any, *value: Any) -> None:
        nodes[table].setdefault(repr(key), []).append(repr(value))

    for project in tree["projects"]:
        labels, datasets = project.pop("labels"), project.pop("datasets")
        add("projects", project["id"], project)
        for label in labels:
            add("labels", [project["id"], label["name"] if label["id"] is None else label["id"]], label)
        for dataset in datasets:
            for image in dataset.pop("images"):
                add("images", image["id"], dataset["id"], image)
            add("datasets", dataset["id"], dataset)
    return nodes


def check_changes(directory: Path, before: bytes, *, full: bool) -> None:
    """Check the last line, against the tree `before`. Only a full export may have no changes to tell."""
    line = (directory / "changes.jsonl").read_bytes().splitlines()[-1]
    manifest = json.loads((directory / "manifest.json").read_bytes())
    record = json.loads(line, parse_int=Digits, parse_float=Digits)
    assert int(record["generation"]) == manifest["generation"]
    assert record["timestamp"] == manifest["timestamp"]
    assert record["full"] == full
    if full:
        return
    old, new = nodes_of(before), nodes_of((directory / "database_export.json").read_bytes())
    for table in TABLES:
        was, now = old[table], new[table]
        expected = {
            "added": now.keys() - was.keys(),
            "changed": {key for key in now.keys() & was.keys() if sorted(now[key]) != sorted(was[key])},
            "removed": was.keys() - now.keys(),
        }
        for verb in VERBS:
            told = record[table][verb]
            assert int(told["count"]) == len(expected[verb]), f"{table} {verb}: {told}, not {expected[verb]}"
            ids = {repr(key) for key in told["ids"]}
            assert len(ids) == len(told["ids"]) == min(int(told["count"]), MOST_IDS)
            assert ids <= expected[verb], f"{table} {verb}: {told}, not {expected[verb]}"
