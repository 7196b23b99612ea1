"""Prepares what the formats for training need of the whole database: integer ids, classes, folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from autoexport.formats.contract import FormatOptions
from autoexport.formats.training.classes import merged, pinned_classes, read_document, with_seen
from autoexport.formats.training.facts import FACTS, Facts
from autoexport.formats.training.folders import folders
from autoexport.formats.training.yolo_rows import YoloRows
from autoexport.model.blocks import BlockRecord
from autoexport.model.catalog import Key
from autoexport.model.mapping import LABEL_FIELDS
from autoexport.publishing.contract import Target
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.duplicates import Numbers
from autoexport.runtime.logs import get_logger
from autoexport.runtime.threads import in_thread
from autoexport.sources.reader import SnapshotReader
from autoexport.values import scalars
from autoexport.values.block import image_names
from autoexport.values.integer_ids import IdRule, fits
from autoexport.values.scalars import encode
from autoexport.values.urls import cut_urls

log = get_logger()

_ID_BITS = 53
_NAME = LABEL_FIELDS.index("name")


@dataclass(slots=True)
class Training:
    """The facts of one snapshot, and the folder and the classes of each project by its key."""

    facts: Facts
    folders: Mapping[Key, str]
    classes: dict[Key, list[str]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """A digest of the facts, on which every row depends."""
        return xxhash.xxh3_64_hexdigest(repr(self.facts.plain()).encode())

    def options(self, options: FormatOptions) -> FormatOptions:
        """The options with the facts, for the formats and the rendering process."""
        return {**options, FACTS: self.facts.plain()}

    def of_projects(self) -> dict[Key, tuple[str, Sequence[str]]]:
        """The folder and the classes of each project."""
        return {key: (folder, self.classes[key]) for key, folder in self.folders.items()}

    def learn(self, builder: TreeBuilder, seen: Iterable[tuple[Key, Iterable[str]]]) -> bool:
        """Add the names that only annotations have, from those seen in datasets; whether there were any."""
        new: dict[Key, set[str]] = {}
        known: dict[Key, set[str]] = {}
        for dataset, names in seen:
            project = builder.outline.project_key(builder.outline.rows_of(dataset)[0])
            if project not in known:
                known[project] = set(self.classes[project])
            unknown = {name for name in names if name.strip() and name not in known[project]}
            if unknown:
                new.setdefault(project, set()).update(unknown)
        for project, names in new.items():
            self.classes[project] = with_seen(self.classes[project], names)
        return bool(new)


def names_in(records: Iterable[BlockRecord]) -> Iterable[tuple[Key, Iterable[str]]]:
    """The names of the labels in each block, with its dataset."""
    return ((record.dataset, record.counts.labels) for record in records)


async def prepare(
    reader: SnapshotReader, builder: TreeBuilder, options: FormatOptions, target: Target, state: Path
) -> Training:
    """Gather the facts of the snapshot. The published classes are read from the target.

    Raises `SourceError`, and `OSError` if a working file cannot be written.
    """
    facts = Facts(
        await id_rule(reader, "images", state),
        await id_rule(reader, "annotations", state),
        await doubled_images(reader, builder, options, state),
    )
    return await in_thread(_training, facts, builder, options, target)


def _training(facts: Facts, builder: TreeBuilder, options: FormatOptions, target: Target) -> Training:
    nodes = [(node.key, node.values) for node in builder.project_nodes()]
    training = Training(facts, folders((key, values["name"]) for key, values in nodes))
    published, pinned = _published(target), pinned_classes(options["classes"])
    for key, values in nodes:
        labels = (own[_NAME] for some, _ in builder.labels(key) for own in some)
        training.classes[key] = merged(pinned, published.get(encode(values["id"]), ()), labels)
    return training


def _published(target: Target) -> dict[bytes, list[str]]:
    """The published classes by the JSON of the project's id. If two formats have lists, the longer one goes first:
    one of them was off for a while."""
    found: dict[bytes, list[str]] = {}
    for text in target.read_all("*/*/classes.json"):
        document = read_document(text)
        if document is None:
            log.warning("export.classes", hint="a classes.json cannot be read: restore it, or classes may change")
        else:
            project = encode(document[0])
            first, second = sorted((found.get(project, []), document[1]), key=len, reverse=True)
            found[project] = list(dict.fromkeys([*first, *second]))
    return found


async def learn_all(training: Training, reader: SnapshotReader, builder: TreeBuilder) -> None:
    """Learn the names of all annotations in advance, where there are no rows of labels."""
    async for rows in reader.labels_in_use():
        names = _names([label for _, label in rows])
        pairs = zip((dataset for dataset, _ in rows), names, strict=True)
        training.learn(builder, [(dataset, [name]) for dataset, name in pairs if name is not None])


def _names(column: Sequence[Any]) -> Sequence[str | None]:
    return scalars.names(cut_urls(column, ())[0])[0]


# --- ids -----------------------------------------------------------------------------------------


async def id_rule(reader: SnapshotReader, logical: str, state: Path) -> IdRule:
    """How the keys of a table become ids: from all keys, also of rows that are not published."""
    if logical not in reader.tables.mapped:
        return IdRule()
    integers = await reader.has_integer_keys(logical)
    unique = reader.tables.is_primary_key(logical)
    if integers and unique:
        return IdRule()
    rule = IdRule(hashed=not integers)
    while True:
        repeated, all_fit = await _repeated(reader, logical, rule, state)
        if rule.hashed and not rule.levels and all_fit:
            rule = IdRule()
            if unique:
                return rule
        elif not repeated:
            return rule
        else:
            rule = rule.again(repeated)
            if rule.shared:
                return rule


async def _repeated(
    reader: SnapshotReader, logical: str, rule: IdRule, state: Path
) -> tuple[frozenset[int], bool]:
    """The ids that several rows have under a rule, and whether every key fits as it is."""
    keep = reader.tables.mapping.keep_query.get(logical, {}).get("id", ())
    duplicates = Numbers(state, _ID_BITS)
    all_fit = True

    def add(keys: Sequence[Any]) -> bool:
        published = scalars.texts(cut_urls(keys, keep)[0])[0]
        duplicates.add(found for found in rule.ids(published) if found is not None)
        return all_fit and all(map(fits, published))

    try:
        async for keys in reader.all_keys(logical):
            all_fit = await in_thread(add, keys)
        return frozenset(await in_thread(duplicates.repeated)), all_fit
    finally:
        duplicates.close()


# --- label files -----------------------------------------------------------------------------------


async def doubled_images(
    reader: SnapshotReader, builder: TreeBuilder, options: FormatOptions, state: Path
) -> frozenset[tuple[Any, Any]]:
    """The images whose label file is that of another image of the project, if a format has label files.

    Of several images, one keeps the file: a labelled one rather than another, else the first in the tree.
    """
    if not options.get("export_yolo"):
        return frozenset()
    rows = YoloRows(image_root=options["image_root"])
    keep = reader.tables.mapping.keep_query
    projects: dict[Key, str] = {}

    def project_of(dataset: Key) -> str:
        if dataset not in projects:
            projects[dataset] = repr(builder.outline.project_key(builder.outline.rows_of(dataset)[0]))
        return projects[dataset]

    def named(datasets: Sequence[Key], stored: Mapping[str, Sequence[Any]]) -> list[tuple[int, Any, Any, bool]]:
        images = image_names(stored, len(datasets), keep)
        paths = zip(datasets, images["id"], images["is_labeled"], rows.paths(images), strict=True)
        return [
            (xxhash.xxh3_64_intdigest(f"{project_of(dataset)} {pair[1]}".encode()), dataset, key, bool(labeled))
            for dataset, key, labeled, pair in paths
            if pair is not None
        ]

    numbers = Numbers(state, 64)
    try:
        async for datasets, stored in reader.image_paths():
            found = await in_thread(named, datasets, stored)
            await in_thread(numbers.add, [number for number, *_ in found])
        repeated = await in_thread(numbers.repeated)
    finally:
        numbers.close()
    if not repeated:
        return frozenset()
    groups: dict[int, list[tuple[Any, ...]]] = {}
    async for datasets, stored in reader.image_paths():
        for number, dataset, key, labeled in await in_thread(named, datasets, stored):
            if number in repeated:
                order = (not labeled, builder.outline.index_of[dataset], type(key).__name__, key)
                groups.setdefault(number, []).append((*order, dataset))
    return frozenset((dataset, key) for group in groups.values() for *_, key, dataset in sorted(group)[1:])
