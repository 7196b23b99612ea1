"""One consistent read: the rows of the mapped tables, parents whole, images and annotations as blocks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, true

from autoexport.mapping.keys import not_unique
from autoexport.model.blocks import BlockRows, Range
from autoexport.model.catalog import Column, Key, Scalar
from autoexport.model.mapping import Mapping
from autoexport.model.tree import ParentRow, Parents, Totals
from autoexport.sources.contract import Snapshot
from autoexport.sources.gather import BlockSize, Stream, gather
from autoexport.sources.sql import SqlTables

RANGES_AT_ONCE = 100
"""Ranges in one statement: well below SQLite's limit of 1,000 on the depth of an expression."""

MOST_KEYS = 30_000
"""Images whose keys are held, to look their rows up by: those of `RANGES_AT_ONCE` blocks. A single range that has
more is looked up by its ends."""

READ_IN_HALVES = range(50_000, 20_000_000)
"""So many annotations are read in two halves, where the database can work on both at once. Fewer are not worth a
second connection; of more, the second half would have to wait for too long."""

T = TypeVar("T")


class SnapshotReader:
    """Reads what is mapped, and nothing else, from one snapshot."""

    def __init__(self, snapshot: Snapshot, mapping: Mapping) -> None:
        self.snapshot = snapshot
        self.tables = SqlTables(snapshot, mapping)
        self._image_count = self._annotation_count = 0
        self._keys_apart = self.tables.is_primary_key("images")

    async def totals(self) -> Totals:
        """Count the rows of every mapped table. From then on, blocks are cut as befits so many images, and rows
        without a key have an order."""
        totals = Totals()
        for logical, mapped in self.tables.mapped.items():
            known = None if mapped.deleted else await self.snapshot.row_count(self.tables.mapping, logical)
            totals.live[logical] = await self._number(self.tables.count(logical)) if known is None else known
            totals.soft_deleted[logical] = (
                await self._number(self.tables.count(logical, soft_deleted=True)) if mapped.deleted else 0
            )
            if self.tables.is_primary_key(logical) and self.tables.key_column(logical).nullable:
                rows = select(literal(1)).select_from(self.tables.sql[logical])
                if await self._number(rows.where(self.tables.key(logical).is_(None)).limit(1)):
                    self.tables.keyless.add(logical)
        self._image_count = totals.live.get("images", 0)
        self._annotation_count = totals.live.get("annotations", 0)
        return totals

    async def parents(self) -> Parents:
        """Read projects, datasets and labels."""
        level = self.tables.mapping
        labels_above = "datasets" if level.labels_by_dataset else "projects"
        return Parents(
            projects=await self._parent_rows("projects", None),
            datasets=await self._parent_rows("datasets", "projects"),
            labels=await self._parent_rows("labels", labels_above),
            deleted_labels=await self._parent_rows("labels", None, deleted=True),
        )

    async def blocks(
        self, ranges: Sequence[Range] | None = None, kept: int = 0
    ) -> AsyncGenerator[BlockRows, None]:
        """Read images and their annotations as blocks, by dataset and id; only those of `ranges` if given. A large
        block comes in pieces. The more blocks there are, with those that are `kept`, the larger they become.

        A dataset's blocks follow one another; the datasets come in the order of their keys. Blocks
        of one range never hold images of another.
        """
        size = BlockSize.of(self._image_count, kept)
        if ranges is None:
            await self.snapshot.prepare_for_all()
            async for block in self._blocks(None, (), size):
                yield block
            return
        waiting = _groups(ranges, RANGES_AT_ONCE)
        while waiting:
            group = waiting.pop(0)
            chosen = or_(*(self._within(item) for item in group))
            keys = await self._few_keys(chosen)
            if keys is None and len(group) > 1:
                waiting[:0] = _groups(group, -(-len(group) // 2))
                continue
            if keys is not None:
                # Keys are looked up sooner than ranges. Where others have the same ones, the ranges count as well.
                among = self._among(keys)
                chosen = among if await self._alone(among, len(keys)) else and_(among, chosen)
            async for block in self._blocks(chosen, group, size):
                yield block

    async def places(self, keys: Sequence[Key]) -> list[tuple[Any, Any]]:
        """Dataset and key of those of these images that are published."""
        joined, live = self.tables.reachable("images")
        statement = select(self.tables.dataset_key(), self.tables.read_key("images")).select_from(joined)
        stream = self.snapshot.stream(statement.where(live, self._among(keys)))
        return [(row[0], row[1]) async for part in stream for row in part]

    async def annotation_counts(self) -> AsyncIterator[tuple[Any, Any, int]]:
        """Dataset, key and number of annotations of every published image, in no order."""
        tables = self.tables
        joined, live = tables.reachable("images")
        number: ColumnElement[Any] = literal(0)
        if "annotations" in tables.mapped:
            link = tables.mapping.annotations.parent_link  # type: ignore[union-attr]
            named = tables.at("annotations", link)  # type: ignore[arg-type]
            grouped = (
                select(named.label("image"), func.count().label("number"))
                .where(tables.live("annotations"))
                .group_by(named)
                .subquery()
            )
            parent = tables.mapping.annotations.parent_column  # type: ignore[union-attr]
            same = tables.snapshot.same((link, grouped.c.image), (parent, tables.at("images", parent)))  # type: ignore[arg-type]
            joined, number = joined.outerjoin(grouped, same), func.coalesce(grouped.c.number, 0)
        statement = select(tables.dataset_key(), tables.read_key("images"), number).select_from(joined).where(live)
        async for part in self.snapshot.stream(statement):
            for dataset, image, own in part:
                yield dataset, image, int(own)  # type: ignore[arg-type]

    # --- statements --------------------------------------------------------------------------------

    async def _few_keys(self, condition: ColumnElement[bool]) -> list[Any] | None:
        """The keys of the images of some ranges; None if they are many."""
        keys: list[Any] = []
        parts = cast(AsyncGenerator[Sequence[Sequence[Any]]], self.snapshot.stream(self._image_keys(condition)))
        async with aclosing(parts):
            async for part in parts:
                keys += [row[0] for row in part]
                if len(keys) > MOST_KEYS:
                    return None
        return keys

    async def _alone(self, among: ColumnElement[bool], keys: int) -> bool:
        """Whether no other image has one of these keys: that of another dataset, or one that is equal by the
        collation of the column alone."""
        if not self._keys_apart:
            return False
        joined, live = self.tables.reachable("images")
        return await self._number(select(func.count()).select_from(joined).where(live, among)) == keys

    def _among(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """That an image has one of these keys."""
        tables = self.tables
        return tables.snapshot.member(tables.key_column("images"), tables.key("images"), keys)

    def _within(self, item: Range) -> ColumnElement[bool]:
        tables = self.tables
        column = tables.key_column("images")
        key = tables.snapshot.ordered(column, tables.key("images"))
        level = tables.dataset_level()
        conditions: list[ColumnElement[bool]] = [
            tables.snapshot.member(tables.key_column(level), tables.key(level), [item.dataset])
            if level
            else true()
        ]
        if item.after is not None:
            conditions.append(key > tables.snapshot.bound(column, item.after))
        if item.to is not None:
            conditions.append(key <= tables.snapshot.bound(column, item.to))
        return and_(*conditions)

    def _ordered(self, statement: Select[Any], *lowest: str) -> Select[Any]:
        below = [order for logical in lowest for order in self.tables.total_order(logical)]
        return statement.order_by(*self._order(), *below)

    def _order(self) -> list[ColumnElement[Any]]:
        """The order of the images: by dataset and id."""
        level = self.tables.dataset_level()
        return [self.tables.order(name) for name in ([level] if level else []) + ["images"]]

    def _image_keys(self, condition: ColumnElement[bool]) -> Select[Any]:
        joined, live = self.tables.reachable("images")
        key = self.tables.read_key("images")
        return select(key).select_from(joined).where(live, condition)

    def _images(self, chosen: ColumnElement[bool] | None) -> Select[Any]:
        joined, live = self.tables.reachable("images")
        columns = self.tables.fields("images").values()
        statement = select(self.tables.dataset_key(), *columns).select_from(joined).where(live)
        return self._ordered(statement if chosen is None else statement.where(chosen))

    def _annotations(self, chosen: ColumnElement[bool] | None) -> Select[Any]:
        """The key of the image first; before it that of its dataset, where images of several have the same."""
        tables = self.tables
        fields = tables.fields("annotations").values()
        if chosen is None and tables.snapshot.places_images:
            return self._placed_annotations()
        joined, live = tables.reachable("annotations")
        owner = [] if self._keys_apart else [tables.dataset_key()]
        statement = select(*owner, tables.read_key("images"), *fields).select_from(joined).where(live)
        if chosen is not None:
            statement = statement.where(chosen)
        return self._ordered(statement, "annotations")

    def _placed_annotations(self, after: int | None = None, to: int | None = None) -> Select[Any]:
        """All of them, or those of the images after one place or up to one, in the same order."""
        tables = self.tables
        fields = tables.fields("annotations").values()
        joined, live = tables.reachable("images")
        named: Column = tables.mapped["annotations"].parent_column  # type: ignore[assignment]
        link: Column = tables.mapped["annotations"].parent_link  # type: ignore[assignment]
        placed = (
            select(
                tables.read_key("images").label("key"),
                *([] if self._keys_apart else [tables.dataset_key().label("dataset")]),
                tables.at("images", named).label("named"),
                func.row_number().over(order_by=self._order()).label("place"),
            )
            .select_from(joined)
            .where(live)
            .subquery("placed")
        )
        same = tables.snapshot.same((link, tables.at("annotations", link)), (named, placed.c.named))
        owner = [] if self._keys_apart else [placed.c.dataset]
        statement = select(*owner, placed.c.key, *fields).select_from(tables.sql["annotations"].join(placed, same))
        if after is not None:
            statement = statement.where(placed.c.place > after)
        if to is not None:
            statement = statement.where(placed.c.place <= to)
        return statement.where(tables.live("annotations")).order_by(
            placed.c.place, *tables.total_order("annotations")
        )

    async def _number(self, statement: Select[Any]) -> int:
        async for part in self.snapshot.stream(statement):
            return int(part[0][0])  # type: ignore[arg-type]
        return 0

    async def _parent_rows(self, logical: str, above: str | None, *, deleted: bool = False) -> list[ParentRow]:
        tables = self.tables
        if logical not in tables.mapped or (deleted and not tables.mapped[logical].deleted):
            return []
        fields = dict(tables.fields(logical))
        joined = tables.sql[logical]
        if above in tables.mapped and tables.mapped[logical].parent_link is not None:
            fields["parent"] = tables.read_key(above)
            condition = and_(tables.link(logical, above), tables.live(above))
            joined = joined.outerjoin(tables.sql[above], condition)  # type: ignore[assignment]
        named_by_images = tables.mapping.images.parent_column
        if logical == tables.dataset_level() and named_by_images is not None:
            fields["named"] = tables.read(logical, named_by_images)
        live = tables.live(logical)
        statement = select(*fields.values()).select_from(joined).where(~live if deleted else live)
        statement = statement.order_by(*tables.total_order(logical))
        names = list(fields)
        return [
            dict(zip(names, row, strict=True)) async for part in self.snapshot.stream(statement) for row in part
        ]

    async def _blocks(
        self, chosen: ColumnElement[bool] | None, ranges: Sequence[Range], size: BlockSize
    ) -> AsyncIterator[BlockRows]:
        tables = self.tables
        images = Stream(list(tables.fields("images")), self.snapshot.stream(self._images(chosen)))
        annotations = None
        if "annotations" in tables.mapped:
            fields = list(tables.fields("annotations"))
            wide_column = next((fields.index(name) for name in ("polygon", "box_json") if name in fields), None)
            leading = 1 if self._keys_apart else 2
            place = wide_column + leading if wide_column is not None else None
            parts = await self._halves(place) if chosen is None else None
            if parts is None:
                parts = self.snapshot.stream(self._annotations(chosen), wide_column=place)
            annotations = Stream(fields, parts, wide_column, leading)
        duplicate_error = partial(not_unique, "images", tables.mapping.images)
        async for block in gather(images, annotations, ranges, size, duplicate_error):
            yield block

    async def _halves(self, wide_column: int | None) -> AsyncIterator[Sequence[Sequence[Scalar]]] | None:
        """All annotations from two statements that the database works on at the same time; None if it does not."""
        if not self.tables.snapshot.places_images or self._annotation_count not in READ_IN_HALVES:
            return None
        if not self._keys_apart or "images" in self.tables.keyless:
            return None  # Two statements may place images without an order differently.
        middle = self._image_count // 2
        latter = await self.snapshot.stream_in_parallel(
            self._placed_annotations(after=middle), wide_column=wide_column
        )
        if latter is None:
            return None
        return _one_after_the_other(
            self.snapshot.stream(self._placed_annotations(to=middle), wide_column=wide_column), latter
        )


async def _one_after_the_other(*streams: AsyncIterator[T]) -> AsyncIterator[T]:
    for stream in streams:
        async for part in stream:
            yield part


def _groups(ranges: Sequence[Range], size: int) -> list[Sequence[Range]]:
    return [ranges[start : start + size] for start in range(0, len(ranges), size)]
