"""Counts the blocks of each section, and finishes the tree with all counts."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import xxhash

from autoexport.model import packing
from autoexport.model.blocks import Counts
from autoexport.model.scratch import Scratch
from autoexport.model.sections import BlockRecords, SectionRecord, Sums
from autoexport.model.tree import SPLITS, DatasetNode, ProjectNode, Section, Tree, in_order
from autoexport.rendering import label_counts
from autoexport.rendering.label_counts import LabelCounts
from autoexport.rendering.outline import hashed
from autoexport.rendering.tree import NamedLabels, TableLabels, TreeBuilder


@dataclass(slots=True)
class CountedSection:
    """A section with its counts: see `SectionRecord`. `blocks` are the indexes of its blocks in file order.

    Those that have no image, because no row of them is one, are not among them.
    """

    section: Section
    sums: Sums
    counted: str
    empty: bool
    blocks: Sequence[int]


class CountedSections:
    """Builds the sections with their counts from the block records, as often as they are asked for.

    `kept` are the sections that are kept as they were published, by index; `records` has no block of those.
    """

    def __init__(
        self, builder: TreeBuilder, records: BlockRecords, kept: Mapping[int, SectionRecord], scratch: Scratch
    ) -> None:
        self.builder = builder
        self.records = records
        self.kept = kept
        self.sums: dict[int, Sums] = {index: record.sums for index, record in kept.items()}
        self.counted: dict[int, str] = {index: record.counted for index, record in kept.items()}
        self._scratch = scratch
        index_of = builder.outline.index_of
        owners = array("L", (index_of[dataset] for dataset in records.datasets()))
        self._order = array("L", sorted(range(len(owners)), key=owners.__getitem__))
        self._owners = array("L", map(owners.__getitem__, self._order))

    def blocks_of(self, index: int) -> array[int]:
        """The indexes of the blocks of a section, in file order."""
        rows = self.builder.outline.sections[index]
        begun, ended = (bisect_left(self._owners, place) for place in (rows.begin, rows.end))
        return self._order[begun:ended]

    def section(self, index: int) -> CountedSection:
        """The section of this index, which is no head."""
        rows = self.builder.outline.sections[index]
        section, mended = self.builder.nodes(index)
        sums = Sums(repaired=mended.repaired, redacted=mended.redacted)
        begun, ended = bisect_left(self._owners, rows.begin), bisect_left(self._owners, rows.end)
        blocks, owners = self._order[begun:ended], self._owners[begun:ended]
        datasets = [dataset for project in section.projects for dataset in project.datasets]
        last: DatasetNode | None = None
        held = 0
        shown = array("L")
        for block, owner in zip(blocks, owners, strict=True):
            record = self.records[block]
            node, counts = datasets[owner - rows.begin], record.counts
            if node is not last:
                held = self._spill(last, held)
                last = node
            self._count(node, counts)
            if counts.images or not counts.hidden_images:
                node.blocks.append(block)
                shown.append(block)
            sums.ids += record.ids
        sums.ids %= 2**64
        sums.blocks = len(blocks)
        own = Counts()
        for project in section.projects:
            of_datasets = [dataset.counts for dataset in project.datasets]
            if section.kind == "datasets":
                for counts in of_datasets:
                    self._add(own, counts)
                    sums.largest = max(sums.largest, counts.images)
            else:
                self._finish(project, of_datasets, sums)
                sums.largest = max(sums.largest, project.counts.images)
            for counts in of_datasets:
                _sum_up(sums, counts)
        counted = _counted_digest(own) if section.kind == "datasets" else ""
        self.sums[index], self.counted[index] = sums, counted
        empty = len(set(owners)) < len(datasets)
        return CountedSection(section, sums, counted, empty, shown)

    def head_digest(self, index: int, below: Sequence[int]) -> str:
        """The digest of the head of a large project, once its datasets are counted."""
        rows = self.builder.outline.sections
        count = rows[below[-1]].end - rows[index].begin
        return hashed((rows[index].digest, count, [self.counted[part] for part in below]))

    def head(self, index: int, below: Sequence[int]) -> CountedSection:
        """The head of a large project, with the counts of its datasets."""
        section, mended = self.builder.nodes(index)
        (project,) = section.projects
        sums = Sums(repaired=mended.repaired, redacted=mended.redacted)
        total = Counts()
        for part in below:
            own = self.sums[part]
            total.images += own.images
            total.labeled += own.labeled
            total.annotations += own.annotations
            for labels in self._labels_of(part):
                self._add(total, Counts(labels=labels))
        rows = self.builder.outline.sections
        project.datasets = _Datasets(self, below, rows[below[-1]].end - rows[index].begin)
        self._finish(project, [total], sums)
        sums.largest = total.images
        self.sums[index], self.counted[index] = sums, ""
        return CountedSection(section, sums, "", False, ())

    def whole(self, index: int) -> Section:
        """The section of this index, which is no head, with its counts, also if it is kept."""
        if index not in self.kept:
            return self.section(index).section
        section, _ = self.builder.nodes(index)
        nodes = {dataset.key: dataset for project in section.projects for dataset in project.datasets}
        for dataset, counts in self.kept[index].dataset_counts():
            node = nodes[dataset]
            self._add(node.counts, counts)
        if section.kind != "datasets":
            for project in section.projects:
                self._finish(project, [dataset.counts for dataset in project.datasets], Sums())
        return section

    def _labels_of(self, index: int) -> Iterator[Mapping[str, int]]:
        """The counts of the labels of each block of a section."""
        if index in self.kept:
            yield from self.kept[index].label_counts()
            return
        for block in self.blocks_of(index):
            yield self.records[block].counts.labels

    # --- counts --------------------------------------------------------------------------------------

    def _count(self, node: DatasetNode, counts: Counts) -> None:
        if node.counts.image_rows:
            self._add(node.counts, counts)
        else:
            node.counts = counts

    def _spill(self, node: DatasetNode | None, held: int) -> int:
        """Keep the labels of a counted dataset in the scratch file if those in memory become many.

        `held` of this section are in memory; returns how many are then.
        """
        if node is None or not isinstance(node.counts.labels, dict):
            return held
        if held + len(node.counts.labels) <= label_counts.MOST_HELD:
            return held + len(node.counts.labels)
        spilled = LabelCounts(self._scratch)
        spilled.add(node.counts.labels)
        spilled.spill()
        node.counts.labels = spilled
        return held

    def _add(self, mine: Counts, other: Counts) -> None:
        """Add counts, and go on in the scratch file if the labels become many."""
        labels = mine.labels
        if isinstance(labels, dict) and len(labels) + len(other.labels) > label_counts.MOST_HELD:
            many = LabelCounts(self._scratch)
            many.add(labels)
            mine.labels = labels = many
        if isinstance(labels, LabelCounts):
            labels.add(other.labels)
            mine.labels = {}
            mine.add(replace(other, labels={}))
            mine.labels = labels
        else:
            mine.add(other)

    def _finish(self, project: ProjectNode, below: Sequence[Counts], sums: Sums) -> None:
        """Give a project its counts and its labels."""
        if len(below) == 1:
            project.counts = below[0]
        else:
            for counts in below:
                self._add(project.counts, counts)
        counted = project.counts.labels
        if self.builder.outline.labels_from_names:
            project.labels = NamedLabels(counted, project.label_colors)
        else:
            project.labels = TableLabels(self.builder, project.key, counted)
            if not self.builder.outline.labels.common:
                mended = self.builder.mended_labels(project.key)
                sums.repaired += mended.repaired
                sums.redacted += mended.redacted
        sums.labels += len(project.labels)

    # --- the tree ------------------------------------------------------------------------------------

    def tree(self, timestamp: datetime) -> Tree:
        """The whole tree, once every section was asked for or is kept."""
        outline, total = self.builder.outline, Sums()
        for index in range(len(outline.sections)):
            total.add(self.sums[index])
        if outline.labels.common:
            mended = self.builder.mended_labels(None)
            total.repaired += mended.repaired
            total.redacted += mended.redacted
        counts = Counts(
            images=total.images, labeled=total.labeled, annotations=total.annotations, repaired=total.repaired,
            guarded=total.guarded, redacted=total.redacted, hidden_images=total.hidden_images,
            added_annotations=total.added_annotations, verified=total.verified, unsized=total.unsized,
            splits={name: getattr(total, name) for name in SPLITS},
        )  # fmt: skip
        labels = total.labels if outline.labels_from_names else outline.labels.published
        return Tree(timestamp, _Projects(self), labels, counts, outline.parts, outline.dataset_count)


class _Projects(Collection[ProjectNode]):
    """All projects, of which only those of one section are in memory at a time."""

    def __init__(self, sections: CountedSections) -> None:
        self._sections = sections

    def __len__(self) -> int:
        return self._sections.builder.outline.project_count

    def __iter__(self) -> Iterator[ProjectNode]:
        for part in self._sections.builder.outline.parts:
            counted = self._sections.section(part) if isinstance(part, int) else self._sections.head(*part)
            yield from counted.section.projects

    def __contains__(self, item: object) -> bool:
        return any(item is project for project in self)


class _Datasets(Collection[DatasetNode]):
    """The datasets of a large project, of which only those of one section are in memory at a time."""

    def __init__(self, sections: CountedSections, below: Sequence[int], count: int) -> None:
        self._sections, self._below, self._count = sections, below, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[DatasetNode]:
        for part in self._below:
            for project in self._sections.section(part).section.projects:
                yield from project.datasets

    def __contains__(self, item: object) -> bool:
        return any(item is dataset for dataset in self)


def _sum_up(sums: Sums, counts: Counts) -> None:
    sums.images += counts.images
    sums.labeled += counts.labeled
    sums.annotations += counts.annotations
    sums.repaired += counts.repaired
    sums.guarded += counts.guarded
    sums.redacted += counts.redacted
    sums.hidden_images += counts.hidden_images
    sums.added_annotations += counts.added_annotations
    sums.verified += counts.verified
    sums.unsized += counts.unsized
    splits = counts.splits
    for name in SPLITS:
        setattr(sums, name, getattr(sums, name) + splits.get(name, 0))
    sums.without_val += bool(splits.get("train")) and not splits.get("val")


def _counted_digest(counts: Counts) -> str:
    digest = xxhash.xxh3_64(packing.pack((counts.images, counts.labeled, counts.annotations)))
    for name, count in in_order(counts.labels):
        digest.update(b"%d:%b\n" % (count, name.encode("utf-8", "surrogatepass")))
    return digest.hexdigest()
