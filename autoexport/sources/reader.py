"""Reads the mapped tables of one snapshot: parents whole, images and annotations as blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Select, and_, or_

from autoexport.mapping.keys import not_unique
from autoexport.model.blocks import BlockRows, Range, Stretch
from autoexport.model.catalog import Key, Scalar
from autoexport.model.mapping import Mapping
from autoexport.model.tree import PackedRows, ParentRows, Parents, Totals
from autoexport.sources.block_size import BlockSize
from autoexport.sources.contract import Snapshot
from autoexport.sources.gather import Stream, gather
from autoexport.sources.shared_keys import published_again
from autoexport.sources.sql import SqlTables
from autoexport.sources.statements import Statements
from autoexport.values.integer_ids import LARGEST_ID

RANGES_AT_ONCE = 100
"""Ranges in one statement: well below SQLite's limit of 1,000 on the depth of an expression."""

MOST_KEYS = 30_000
"""The most image keys that are held to look rows up by: those of `RANGES_AT_ONCE` blocks. A single range with more
images is looked up by its ends."""

READ_IN_HALVES = range(50_000, 20_000_000)
"""So many annotations are read in two halves, if the database can work on both at once. Fewer are not worth a
second connection. With more, the second half would have to wait too long."""

_WIDE_FIELDS = ("document", "polygon", "mask", "points", "box_json")
"""Fields whose values may be long; the first one that the database has decides how many rows are read at once."""

Counted = tuple[int, int, frozenset[str]]
"""The numbers of images and annotations, and the logical tables with rows whose key is null."""

T = TypeVar("T")


class SnapshotReader:
    """Reads the mapped rows, and nothing else, from one snapshot. Every method raises `SourceError`."""

    def __init__(self, snapshot: Snapshot, mapping: Mapping) -> None:
        self.snapshot = snapshot
        self.tables = SqlTables(snapshot, mapping)
        self.statements = Statements(self.tables)
        self._image_count = self._annotation_count = 0

    async def totals(self) -> Totals:
        """Count the rows of every mapped table.

        Call it first: the size of blocks depends on the counts, and so does a definite order of rows without a
        key.
        """
        totals = Totals()
        for logical, mapped in self.tables.mapped.items():
            totals.live[logical] = await self._live_count(logical)
            soft_deleted = self.statements.row_count(logical, soft_deleted=True)
            totals.soft_deleted[logical] = await self._number(soft_deleted) if mapped.deleted else 0
            if await self._has_rows_without_key(logical):
                self.tables.keyless.add(logical)
        totals.published_again = await published_again(self)
        self._image_count = totals.live.get("images", 0)
        self._annotation_count = totals.live.get("annotations", 0)
        return totals

    async def parents(self) -> Parents:
        """Read projects, datasets and labels."""
        labels_above = "datasets" if self.tables.mapping.labels_by_dataset else "projects"
        return Parents(
            projects=await self._parent_rows("projects", None),
            datasets=await self._parent_rows("datasets", "projects"),
            labels=await self._parent_rows("labels", labels_above),
            deleted_labels=await self._parent_rows("labels", None, soft_deleted=True),
        )

    async def blocks(
        self, ranges: Sequence[Range] | None = None, kept: int = 0
    ) -> AsyncGenerator[BlockRows, None]:
        """Read images and their annotations as blocks, by dataset and id; only those of `ranges` if given.

        A large block comes in pieces. Blocks grow with the number of blocks, of which `kept` exist already. A
        dataset's blocks follow one another; the datasets come in the order of their keys. A block of one range
        never holds images of another.
        """
        size = BlockSize.of(self._image_count, kept)
        if ranges is None:
            await self.snapshot.prepare_for_all()
            async for block in self._blocks(None, (), size):
                yield block
            return
        groups = _groups(ranges, RANGES_AT_ONCE)
        while groups:
            group = groups.pop(0)
            condition = or_(*(self.statements.in_range(item) for item in group))
            keys = await self._keys_if_few(condition)
            if keys is None and len(group) > 1:
                groups[:0] = _groups(group, -(-len(group) // 2))
                continue
            if keys is not None:
                # The database finds keys sooner than ranges. If other images share them, the ranges count as well.
                has_key = self.statements.has_key(keys)
                condition = has_key if await self._only_one_each(has_key, keys) else and_(has_key, condition)
            async for block in self._blocks(condition, group, size):
                yield block

    async def stretch(self, stretch: Stretch, counted: Counted, kept: int) -> AsyncGenerator[BlockRows, None]:
        """Read the images of a stretch and their annotations as blocks, as `blocks` does.

        `counted` is what another reader of the same snapshot counted, in place of `totals`. `kept` is the number
        of blocks before the stretch.
        """
        self._image_count, self._annotation_count, keyless = counted
        self.tables.keyless |= keyless
        await self.snapshot.prepare_for_all()
        size = BlockSize.of(self._image_count, kept)
        async for block in self._blocks(
            self.statements.in_stretch(stretch), (), size, self.snapshot.places_images
        ):
            yield block

    @property
    def counted(self) -> Counted:
        """The counts of `totals`, for a reader in another process."""
        return self._image_count, self._annotation_count, frozenset(self.tables.keyless)

    async def places(self, keys: Sequence[Key]) -> list[tuple[Any, Any]]:
        """Dataset and key of those of these images that are published."""
        stream = self.snapshot.stream(self.statements.image_places(keys))
        return [(row[0], row[1]) async for part in stream for row in part]

    async def annotation_counts(self) -> AsyncIterator[tuple[Any, Any, int]]:
        """Dataset, key and number of annotations of every published image, in no order."""
        async for part in self.snapshot.stream(self.statements.annotation_counts()):
            for dataset, image, count in part:
                yield dataset, image, int(count)  # type: ignore[arg-type]

    # --- keys and labels, for the formats for training -------------------------------------------------

    async def has_integer_keys(self, logical: str) -> bool:
        """Whether a logical table is declared to have integer keys, and all of them are from 1 to 2^53 - 1."""
        if self.tables.key_column(logical).kind != "integer":
            return False
        return not await self._number(self.statements.unfit_key(logical, LARGEST_ID))

    async def all_keys(self, logical: str) -> AsyncIterator[list[Any]]:
        """The keys of all rows of a logical table, published or not, in no order."""
        async for part in self.snapshot.stream(self.statements.all_keys(logical)):
            yield [row[0] for row in part]

    async def image_paths(self) -> AsyncIterator[tuple[list[Any], dict[str, list[Any]]]]:
        """The datasets of all published images, and the columns that paths are made of, in no order."""
        names, statement = self.statements.image_paths()
        async for part in self.snapshot.stream(statement):
            datasets, *columns = map(list, zip(*part, strict=True))
            yield datasets, dict(zip(names, columns, strict=True))

    async def labels_in_use(self) -> AsyncIterator[Sequence[tuple[Any, Any]]]:
        """Each dataset with each label of its published annotations, in no order."""
        if "annotations" in self.tables.mapped and self.tables.label() is not None:
            async for part in self.snapshot.stream(self.statements.labels_in_use()):
                yield [(row[0], row[1]) for row in part]

    # --- rows ----------------------------------------------------------------------------------------

    async def _number(self, statement: Select[Any]) -> int:
        """The first value of a statement, a number; 0 if there is no row."""
        async for part in self.snapshot.stream(statement):
            return int(part[0][0])  # type: ignore[arg-type]
        return 0

    async def _live_count(self, logical: str) -> int:
        """The number of rows that are not soft-deleted; the snapshot may know it already."""
        known = None
        mapped = self.tables.mapped[logical]
        if not mapped.deleted and not mapped.filtered:
            known = await self.snapshot.row_count(self.tables.mapping, logical)
        if known is None:
            known = await self._number(self.statements.row_count(logical))
        if self.tables.mapped[logical].table.query is not None:
            self.snapshot.keep_count(logical, known)
        return known

    async def _has_rows_without_key(self, logical: str) -> bool:
        """Whether the primary key of some rows is null. Only asked about a primary key that may be null."""
        if not self.tables.is_primary_key(logical) or not self.tables.key_column(logical).nullable:
            return False
        return bool(await self._number(self.statements.any_row_without_key(logical)))

    async def _parent_rows(self, logical: str, above: str | None, *, soft_deleted: bool = False) -> ParentRows:
        mapped = self.tables.mapped.get(logical)
        if mapped is None or (soft_deleted and not mapped.deleted):
            return ParentRows()
        names, statement = self.statements.parents(logical, above, soft_deleted=soft_deleted)
        stream = self.snapshot.stream(statement)
        rows = PackedRows()
        async for part in stream:
            rows.extend(part)
        return ParentRows(names, rows)

    async def _keys_if_few(self, condition: ColumnElement[bool]) -> list[Any] | None:
        """The keys of the images that meet a condition; None if there are more than `MOST_KEYS`."""
        keys: list[Any] = []
        stream = self.snapshot.stream(self.statements.image_keys(condition))
        async with aclosing(cast(AsyncGenerator[Sequence[Sequence[Any]]], stream)) as parts:
            async for part in parts:
                keys += [row[0] for row in part]
                if len(keys) > MOST_KEYS:
                    return None
        return keys

    async def _only_one_each(self, has_key: ColumnElement[bool], keys: Sequence[Any]) -> bool:
        """Whether no other image has one of these keys.

        Another one may be of another dataset, or have a key that only the collation of the column makes equal.
        """
        if not self.statements.unique_image_keys:
            return False
        return await self._number(self.statements.image_count(has_key)) == len(keys)

    # --- blocks --------------------------------------------------------------------------------------

    async def _blocks(
        self, condition: ColumnElement[bool] | None, ranges: Sequence[Range], size: BlockSize, placed: bool = False
    ) -> AsyncIterator[BlockRows]:
        fields = list(self.tables.fields("images"))
        wide_column = fields.index("document") + 1 if "document" in fields else None
        image_rows = self.snapshot.stream(self.statements.images(condition), wide_column=wide_column)
        images = Stream(fields, image_rows)
        annotations = await self._annotations(condition, placed) if "annotations" in self.tables.mapped else None
        duplicate_error = partial(not_unique, "images", self.tables.mapping.images)
        async for block in gather(images, annotations, ranges, size, duplicate_error):
            yield block

    async def _annotations(self, condition: ColumnElement[bool] | None, placed: bool) -> Stream:
        fields = list(self.tables.fields("annotations"))
        leading = 1 if self.statements.unique_image_keys else 2
        wide_field = next((fields.index(name) for name in _WIDE_FIELDS if name in fields), None)
        wide_column = wide_field + leading if wide_field is not None else None
        rows = await self._in_halves(wide_column) if condition is None else None
        if rows is None:
            statement = self.statements.annotations(condition)
            if placed:
                statement = self.statements.annotations_by_place(condition=condition)
            rows = self.snapshot.stream(statement, wide_column=wide_column)
        return Stream(fields, rows, wide_field, leading)

    async def _in_halves(self, wide_column: int | None) -> AsyncIterator[Sequence[Sequence[Scalar]]] | None:
        """All annotations from two statements that the database works on at the same time; None if it cannot."""
        if not self.snapshot.places_images or self._annotation_count not in READ_IN_HALVES:
            return None
        if not self.statements.unique_image_keys or "images" in self.tables.keyless:
            return None  # Two statements may number images without a definite order differently.
        middle = self._image_count // 2
        second = await self.snapshot.stream_in_parallel(
            self.statements.annotations_by_place(after=middle), wide_column=wide_column
        )
        if second is None:
            return None
        first = self.snapshot.stream(self.statements.annotations_by_place(to=middle), wide_column=wide_column)
        return _one_after_the_other(first, second)


async def _one_after_the_other(*streams: AsyncIterator[T]) -> AsyncIterator[T]:
    for stream in streams:
        async for part in stream:
            yield part


def _groups(ranges: Sequence[Range], size: int) -> list[Sequence[Range]]:
    return [ranges[start : start + size] for start in range(0, len(ranges), size)]
