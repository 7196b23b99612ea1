"""The SELECT statements of an export: which rows, with which columns, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)

from autoexport.model.blocks import Place, Range, Stretch
from autoexport.model.catalog import Key
from autoexport.sources.sql import SqlTables


class Statements:
    """Builds the statements of one snapshot; runs none of them."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self.unique_image_keys = tables.is_primary_key("images")
        """Whether the database lets no two images have the same key, whatever their datasets."""

    # --- counts --------------------------------------------------------------------------------------

    def row_count(self, logical: str, *, soft_deleted: bool = False) -> Select[Any]:
        """Count the rows of a logical table: those that are live, or those that are soft-deleted."""
        tables = self._tables
        live = tables.live(logical)
        return select(func.count()).select_from(tables.sql[logical]).where(~live if soft_deleted else live)

    def image_count(self, condition: ColumnElement[bool]) -> Select[Any]:
        """Count the published images that meet a condition."""
        joined, live = self._tables.reachable("images")
        return select(func.count()).select_from(joined).where(live, condition)

    def annotation_counts(self) -> Select[Any]:
        """Dataset, key and number of annotations of every published image, in no order."""
        tables = self._tables
        joined, live = tables.reachable("images")
        count: ColumnElement[Any] = literal(0)
        if "annotations" in tables.mapped:
            link, linked = tables.link_columns("annotations", "images")
            named = tables.at("annotations", link)
            grouped = (
                select(named.label("image"), func.count().label("number"))
                .where(tables.live("annotations"))
                .group_by(named)
                .subquery()
            )
            same = tables.snapshot.same((link, grouped.c.image), (linked, tables.at("images", linked)))
            joined, count = joined.outerjoin(grouped, same), func.coalesce(grouped.c.number, 0)
        return select(tables.dataset_key(), tables.read_key("images"), count).select_from(joined).where(live)

    def any_row_without_key(self, logical: str) -> Select[Any]:
        """One row if a logical table has rows whose key is null, else none."""
        tables = self._tables
        return select(literal(1)).select_from(tables.sql[logical]).where(tables.key(logical).is_(None)).limit(1)

    def all_keys(self, logical: str) -> Select[Any]:
        """The keys of all rows of a logical table, published or not, in no order."""
        return select(self._tables.read_key(logical)).select_from(self._tables.sql[logical])

    def unfit_key(self, logical: str, largest: int) -> Select[Any]:
        """One row if a key of a logical table is no integer from 1 to `largest`, else none."""
        key = self._tables.key(logical)
        # In SQLite, a text is larger than every number.
        unfit = or_(key < 1, key > literal_column(str(largest)), key != cast(key, BigInteger))
        return select(literal(1)).select_from(self._tables.sql[logical]).where(unfit).limit(1)

    def labels_in_use(self) -> Select[Any]:
        """Each dataset with each label of its published annotations, in no order."""
        tables = self._tables
        joined, live = tables.reachable("annotations")
        label = tables.label()
        return (
            select(tables.dataset_key(), null() if label is None else label)
            .select_from(joined)
            .where(live)
            .distinct()
        )

    # --- parents -------------------------------------------------------------------------------------

    def parents(
        self, logical: str, above: str | None, *, soft_deleted: bool = False
    ) -> tuple[list[str], Select[Any]]:
        """All rows of projects, datasets or labels, by key, and the names of the selected fields.

        `parent` is the key of the row's own parent in `above`. `named` is the column by which images name the row.
        """
        tables = self._tables
        fields = dict(tables.fields(logical))
        joined = tables.sql[logical]
        if above in tables.mapped and tables.mapped[logical].parent_link is not None:
            fields["parent"] = tables.read_key(above)
            condition = and_(tables.link(logical, above), tables.live(above))
            joined = joined.outerjoin(tables.sql[above], condition)
        named_by_images = tables.mapping.images.parent_column
        if logical == tables.dataset_level() and named_by_images is not None:
            fields["named"] = tables.read(logical, named_by_images)
        live = tables.live(logical)
        statement = select(*fields.values()).select_from(joined).where(~live if soft_deleted else live)
        return list(fields), statement.order_by(*tables.total_order(logical))

    # --- images --------------------------------------------------------------------------------------

    def images(self, condition: ColumnElement[bool] | None) -> Select[Any]:
        """The published images that meet a condition, by dataset and key: the dataset's key, then the fields."""
        tables = self._tables
        joined, live = tables.reachable("images")
        statement = select(tables.dataset_key(), *tables.fields("images").values()).select_from(joined).where(live)
        if condition is not None:
            statement = statement.where(condition)
        return statement.order_by(*self._image_order())

    def _image_order(self) -> list[ColumnElement[Any]]:
        level = self._tables.dataset_level()
        datasets = [self._tables.order(level)] if level else []
        return [*datasets, self._tables.order("images")]

    def image_keys(self, condition: ColumnElement[bool]) -> Select[Any]:
        """The keys of the published images that meet a condition, in no order."""
        joined, live = self._tables.reachable("images")
        return select(self._tables.read_key("images")).select_from(joined).where(live, condition)

    def image_paths(self) -> tuple[list[str], Select[Any]]:
        """Dataset, key, names and label state of all published images, in no order, and the fields' names."""
        tables = self._tables
        joined, live = tables.reachable("images")
        known = tables.fields("images")
        fields = {name: known[name] for name in ("id", "filename", "file_path", "is_labeled") if name in known}
        statement = select(tables.dataset_key(), *fields.values()).select_from(joined).where(live)
        return list(fields), statement

    def image_places(self, keys: Sequence[Key]) -> Select[Any]:
        """Dataset and key of those of these images that are published, in no order."""
        tables = self._tables
        joined, live = tables.reachable("images")
        statement = select(tables.dataset_key(), tables.read_key("images")).select_from(joined)
        return statement.where(live, self.has_key(keys))

    def has_key(self, keys: Sequence[Key]) -> ColumnElement[bool]:
        """The condition that an image has one of these keys."""
        tables = self._tables
        return tables.snapshot.member(tables.key_column("images"), tables.key("images"), keys)

    def in_range(self, item: Range) -> ColumnElement[bool]:
        """The condition that an image is in a range."""
        tables = self._tables
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

    def in_stretch(self, stretch: Stretch) -> ColumnElement[bool]:
        """The condition that an image is in a stretch. No key of an image or a dataset may be null."""
        conditions: list[ColumnElement[bool]] = [true()]
        if stretch.after is not None:
            conditions.append(self._beyond(stretch.after, after=True))
        if stretch.to is not None:
            conditions.append(self._beyond(stretch.to, after=False))
        return and_(*conditions)

    def _beyond(self, place: Place, *, after: bool) -> ColumnElement[bool]:
        """The condition that an image comes after a place, or else that it comes before it or is there."""
        key, bound = self._comparable("images", place[1])
        own = key > bound if after else key <= bound
        level = self._tables.dataset_level()
        if level is None:
            return own
        dataset, bound = self._comparable(level, place[0])
        return or_(dataset > bound if after else dataset < bound, and_(dataset == bound, own))

    def _comparable(self, logical: str, key: Key) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
        """The key of a logical table as it is sorted by, and a key that compares with it."""
        tables = self._tables
        column = tables.key_column(logical)
        ordered = tables.snapshot.ordered(column, tables.key(logical))
        return ordered, tables.snapshot.bound(column, key)

    def numbered_images(self, numbers: Sequence[int]) -> Select[Any]:
        """The places of the published images with these numbers, counted from 1 in their order."""
        tables = self._tables
        joined, live = tables.reachable("images")
        numbered = (
            select(
                tables.dataset_key().label("dataset"),
                tables.read_key("images").label("key"),
                func.row_number().over(order_by=self._image_order()).label("place"),
            )
            .select_from(joined)
            .where(live)
            .subquery("numbered")
        )
        wanted = numbered.c.place.in_([literal_column(str(number)) for number in numbers])
        return select(numbered.c.dataset, numbered.c.key).where(wanted).order_by(numbered.c.place)

    def sampled_places(self, logical: Sequence[str], rows: int) -> Select[Any] | None:
        """The names of logical tables, each with the places of the images of about so many of its rows, in the
        order of the places. None if the database has no cheap sample.
        """
        tables = self._tables
        level = tables.dataset_level()
        samples = []
        for name in logical:
            sample = tables.sample(name, rows)
            if sample is None:
                return None
            joined, live = tables.reachable(name)
            keys = [tables.dataset_key().label("dataset"), tables.read_key("images").label("image")]
            keys += [tables.key("images").label("image_stored")]
            keys += [tables.key(level).label("dataset_stored")] if level else []
            named = literal(name).label("logical")
            samples.append(select(named, *keys).select_from(joined).where(live, sample))
        found = union_all(*samples).subquery("sample")
        order = [tables.snapshot.ordered(tables.key_column("images"), found.c.image_stored)]
        if level:
            order.insert(0, tables.snapshot.ordered(tables.key_column(level), found.c.dataset_stored))
        return select(found.c.logical, found.c.dataset, found.c.image).order_by(*order)

    # --- annotations ---------------------------------------------------------------------------------

    def annotations(self, condition: ColumnElement[bool] | None) -> Select[Any]:
        """The published annotations whose images meet a condition, in the order of the images, then by key.

        The key of the image comes first, after that of its dataset unless `unique_image_keys`; then the fields.
        """
        tables = self._tables
        if condition is None and tables.snapshot.places_images:
            return self.annotations_by_place()
        joined, live = tables.reachable("annotations")
        owner = [] if self.unique_image_keys else [tables.dataset_key()]
        fields = tables.fields("annotations").values()
        statement = select(*owner, tables.read_key("images"), *fields).select_from(joined).where(live)
        if condition is not None:
            statement = statement.where(condition)
        return statement.order_by(*self._image_order(), *tables.total_order("annotations"))

    def annotations_by_place(
        self, after: int | None = None, to: int | None = None, condition: ColumnElement[bool] | None = None
    ) -> Select[Any]:
        """As `annotations`, but the database first numbers the images from 1 on, in their order, and sorts by
        that.

        Only those that meet the condition are numbered. `after` and `to` limit the statement to the images after
        one number and up to another.
        """
        tables = self._tables
        joined, live = tables.reachable("images")
        link, linked = tables.link_columns("annotations", "images")
        placed = (
            select(
                tables.read_key("images").label("key"),
                *([] if self.unique_image_keys else [tables.dataset_key().label("dataset")]),
                tables.at("images", linked).label("named"),
                func.row_number().over(order_by=self._image_order()).label("place"),
            )
            .select_from(joined)
            .where(live if condition is None else and_(live, condition))
            .subquery("placed")
        )
        same = tables.snapshot.same((link, tables.at("annotations", link)), (linked, placed.c.named))
        owner = [] if self.unique_image_keys else [placed.c.dataset]
        fields = tables.fields("annotations").values()
        statement = select(*owner, placed.c.key, *fields).select_from(tables.sql["annotations"].join(placed, same))
        if after is not None:
            statement = statement.where(placed.c.place > after)
        if to is not None:
            statement = statement.where(placed.c.place <= to)
        order = tables.total_order("annotations")
        return statement.where(tables.live("annotations")).order_by(placed.c.place, *order)
