"""The common part of formats that write several files for each project."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

from autoexport.model.blocks import Block, BlockRef
from autoexport.model.tree import DatasetNode, ProjectNode, Tree


class TrainingFiles:
    """Counts in the tallies of blocks, under names that begin with `counted`.

    `images_of` are the names of the tallies of images by split. `published_tallies` count nothing that is left
    out. `fields` are those that the rows depend on.
    """

    counted: ClassVar[str]
    images_of: ClassVar[tuple[str, ...]]
    published_tallies: tuple[str, ...] = ()
    fields: ClassVar[Mapping[str, frozenset[str]]] = {
        "images": frozenset({"id", "filename", "file_path", "width", "height", "split", "is_labeled"}),
        "annotations": frozenset(
            {"id", "type", "label", "label_id", "polygon", "points", "mask", "rotation", "box_json"}
            | {f"box_{index}" for index in range(4)}
        ),
    }

    def block(self, block: Block, project: ProjectNode, dataset: DatasetNode) -> tuple[bytes, int]:
        """Not called: a block has several parts."""
        raise NotImplementedError

    def assemble(self, tree: Tree) -> Iterator[bytes | BlockRef]:
        """Not called: there are several files."""
        raise NotImplementedError

    def left_out(self, tree: Tree) -> dict[str, int]:
        """What no file has, and what was changed, by reason."""
        counted: Counter[str] = Counter()
        for project in tree.projects:
            counted.update(self.tallies(project.datasets))
        others = sorted(counted.keys() - set(self.published_tallies))
        return {name.removeprefix(self.counted): counted[name] for name in others}

    def rows(self, tree: Tree) -> int:
        """The number of images in all files."""
        counted = (self.tallies(project.datasets) for project in tree.projects)
        return sum(own.get(name, 0) for own in counted for name in self.images_of)

    def guarded(self, tree: Tree) -> int:
        """None: no spreadsheet reads these files."""
        return 0

    def tallies(self, datasets: Iterable[DatasetNode]) -> Mapping[str, int]:
        """The tallies of this format in some datasets."""
        counted: Counter[str] = Counter()
        for dataset in datasets:
            for name, count in dataset.counts.tallies.items():
                if name.startswith(self.counted):
                    counted[name] += count
        return counted
