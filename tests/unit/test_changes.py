"""Sums of counts prove that no row was lost; if they cannot, the rows are counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from autoexport.incremental import plan
from autoexport.incremental.changes import Assessment, conserved
from autoexport.incremental.key_kinds import can_be_kept
from autoexport.incremental.ledger import Ledger, load_ledger
from autoexport.incremental.plan import Blocks, Plan
from autoexport.model.blocks import BlockRecord, Counts, pack
from autoexport.model.catalog import Key
from autoexport.model.tree import Totals
from autoexport.publishing.identity import FileIdentity
from autoexport.sources import block_size
from tests.applications import annotation_row, create_sqlite, image_row, key
from tests.databases import SqliteDatabase
from tests.properties.comparison import Compared, Exporting, without_waiting_for_the_disk
from tests.properties.schemas import CODES

# --- conservation, as arithmetic -----------------------------------------------------------------------


def block(images: int, annotations: int, ids: int = 0, *, dataset: Key = 1, first: Key = 1) -> BlockRecord:
    """A block with these counts; `ids` stands for the set of its images."""
    return BlockRecord(dataset, first, first, pack(Counts(images=images, annotations=annotations)), "", ids, [])


def holds(
    *,
    before: BlockRecord,
    after: BlockRecord,
    live: tuple[int, int],
    unpublished: tuple[int, int] = (0, 0),
    trusted: bool = True,
) -> bool:
    """Whether it is proved that a kept block of 10 images and 20 annotations lost no row.

    It stands beside one that was rendered again.
    """
    kept = block(10, 20, 111)
    ledger = Ledger(
        "d", "s", "m", 1, "", {}, unpublished={"images": unpublished[0], "annotations": unpublished[1]}
    )
    found = Assessment(Plan((0,), (), ""), Blocks([kept, before]), trusted)
    totals = Totals(live={"images": live[0], "annotations": live[1]})
    return conserved(found, [after], ledger, totals)


def test_equal_sums_prove_that_nothing_is_gone() -> None:
    """The counts of the kept block and of the fresh one add up to the live rows."""
    assert holds(before=block(5, 5, 7), after=block(5, 9, 7), live=(15, 29))


def test_a_missing_annotation_shows() -> None:
    """One less in the database than in the blocks."""
    assert not holds(before=block(5, 5, 7), after=block(5, 9, 7), live=(15, 28))


def test_a_missing_image_shows() -> None:
    """One less in the database than in the blocks."""
    assert not holds(before=block(5, 5, 7), after=block(5, 5, 7), live=(14, 25))


def test_what_is_published_nowhere_is_counted() -> None:
    """Rows without a parent are in the database and in no block; if one of them went, that shows, too."""
    assert holds(before=block(5, 5, 7), after=block(5, 5, 7), live=(17, 28), unpublished=(2, 3))
    assert not holds(before=block(5, 5, 7), after=block(5, 5, 7), live=(17, 27), unpublished=(2, 3))


def test_an_image_that_came_may_hide_one_that_went() -> None:
    """The rendered blocks have as many images as before, but other ones: one may be of the kept block."""
    assert not holds(before=block(5, 5, 7), after=block(6, 5, 8), live=(16, 25))
    assert not holds(before=block(5, 5, 7), after=block(5, 5, 8), live=(15, 25))


def test_without_trust_sums_prove_nothing() -> None:
    """Where a changed row names a missing parent, equal sums may be a coincidence."""
    assert not holds(before=block(5, 5, 7), after=block(5, 9, 7), live=(15, 29), trusted=False)


# --- keys ------------------------------------------------------------------------------------------------


def spans(*ends: tuple[Any, Any, Any]) -> list[BlockRecord]:
    """Blocks by dataset, first and last image."""
    return [BlockRecord(dataset, first, last, b"", "", 0, []) for dataset, first, last in ends]


def test_keys_of_one_type_can_be_kept() -> None:
    """All numbers, all text, or all bytes, on each level."""
    assert can_be_kept(spans((1, "a", "b"), (1, "c", "d"), (2, "a", "a")), [1, 2, 3])
    assert can_be_kept(spans(("x", 1, 5), ("x", 6, 7)), ["x"])
    assert can_be_kept(spans((b"d", b"a", b"b"), (b"d", b"c", b"d")), [b"d"])
    assert can_be_kept([], [])


@pytest.mark.parametrize(
    "records",
    [
        spans((1, 1, "a")), spans((1, 1, 2), (1, "a", "b")), spans((1, 1, 2), (2, "a", "b")),
        spans((1, None, 2)), spans((1, None, None)), spans((1, b"a", "b")), spans((1, 1.5, 2.5)),
        spans((1, 1, 2), ("1", 1, 2)), spans((1, b"a", b"b"), (1, 1, 2)),
    ],
)  # fmt: skip
def test_keys_of_several_types_cannot_be_kept(records: list[BlockRecord]) -> None:
    """Python does not compare them as databases do, or at all."""
    assert not can_be_kept(records, [])


def test_a_dataset_without_images_has_a_key_as_well() -> None:
    """It counts, for an image may come to it."""
    assert not can_be_kept(spans((1, 1, 2)), [1, "2"])


def test_blocks_that_overlap_cannot_be_kept() -> None:
    """Images with equal keys cannot be told apart."""
    assert not can_be_kept(spans((1, 1, 5), (1, 5, 9)), [1])


# --- on a database -----------------------------------------------------------------------------------------


class Watched:
    """A database of four datasets of 40 images with two annotations each, its exporter, and what it logs."""

    def __init__(self, directory: Path) -> None:
        path = directory / "application.sqlite3"
        # Three or four annotations share a page, and they are of images far apart: what a page has lost
        # is not rendered just because its neighbours are.
        connection = create_sqlite(path, page_size=512)
        connection.execute("BEGIN")
        for number in range(4):
            connection.execute("INSERT INTO projects (id, name) VALUES (?, ?)", (number + 1, f"p{number}"))
            connection.execute(
                "INSERT INTO datasets (id, name, project_id) VALUES (?, ?, ?)",
                (f"d{number}", f"d{number}", number + 1),
            )
        images = [image_row(number, f"d{number // 40}") for number in range(160)]
        annotations = [annotation_row(number * 37 % 320, key(number * 37 % 320 // 2)) for number in range(320)]
        annotations += [annotation_row(1000 + number, f"lost {number}") for number in range(3)]
        for table, rows in (("images", images), ("annotations", annotations)):
            connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)
        connection.execute("COMMIT")
        connection.close()
        self.database = SqliteDatabase(path)
        self.exporting = Exporting(self.database.url, directory)
        self.recounted = False

    def export(self) -> Compared:
        """Export, and compare with a full export."""
        with capture_logs() as logs:
            done = asyncio.run(self.exporting.export())
        self.recounted = any(entry["event"] == "changes.recounted" for entry in logs)
        return done

    def blocks(self) -> list[BlockRecord]:
        """The blocks in the ledger of the last export."""
        ledger = load_ledger(self.exporting.directory / ".autoexport")
        assert ledger is not None
        return list(ledger.blocks())

    def after(self, *statements: str) -> Compared:
        """Run these statements, each in its own transaction, and export."""
        for statement in statements:
            self.database.execute(statement)
        return self.export()


def one_more_annotation(image: str) -> str:
    """The statement that inserts an annotation of an image."""
    return (
        f"INSERT INTO annotations SELECT 'new', '{image}', class_name, class_id, confidence, x_min, y_min, x_max,"
        " y_max, segmentation, 0, 0, NULL, NULL, NULL FROM annotations LIMIT 1"
    )


def one_more_image(name: str, dataset: str) -> str:
    """The statement that inserts an image into a dataset."""
    return (
        f"INSERT INTO images SELECT '{name}', filename, original_filename, file_path, 1, 1, 1, 'x', '{dataset}',"
        " 0, 0, 0, NULL, NULL, NULL, NULL FROM images LIMIT 1"
    )


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The database, exported once, in blocks of eight images."""
    monkeypatch.setattr(block_size, "BLOCK_IMAGES", 8)
    monkeypatch.setattr(plan, "SMALL_IMAGES", 2)
    monkeypatch.setattr(os, "fsync", without_waiting_for_the_disk)
    watched = Watched(tmp_path)
    watched.export()
    yield watched
    watched.database.close()


def test_a_change_in_place_costs_one_block_and_no_count(watched: Watched) -> None:
    """The sums prove the rest."""
    done = watched.after(f"UPDATE annotations SET x_min = 7 WHERE image_id = '{key(50)}'")
    assert (done.manifest["mode"], watched.recounted) == ("incremental", False)
    assert done.outcome.manifest.rendered_images <= 6 * 8


def test_a_change_in_place_leaves_the_blocks_as_they_were_cut(watched: Watched) -> None:
    """Full blocks as well, in several datasets."""
    before = [(block.dataset, block.first, block.last) for block in watched.blocks()]
    done = watched.after(*(f"UPDATE annotations SET x_min = 7 WHERE image_id = '{key(at)}'" for at in (3, 20, 41)))
    assert done.manifest["mode"] == "incremental"
    assert [(block.dataset, block.first, block.last) for block in watched.blocks()] == before


def test_blocks_do_not_crumble(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that come one at a time into a full block do not leave one small block each."""
    monkeypatch.setattr(plan, "SMALL_IMAGES", 6)
    before = len(watched.blocks())
    for number in range(12):
        watched.after(one_more_image(f"{key(42)}-{number:02}", "d1"))
    assert len(watched.blocks()) <= before + 1 + 12 // 6


def test_a_deleted_annotation_is_found_by_counting(watched: Watched) -> None:
    """Its block is rendered, the others are kept."""
    done = watched.after(f"DELETE FROM annotations WHERE id = '{key(100)}'")
    assert (done.manifest["mode"], watched.recounted) == ("incremental", True)
    assert done.outcome.manifest.rendered_images <= 6 * 8


def test_a_deletion_that_an_orphan_balances(watched: Watched) -> None:
    """The number of annotations is what it was, and a changed row names an image that is not there."""
    watched.after(
        f"DELETE FROM annotations WHERE id = '{key(319)}'",
        f"UPDATE annotations SET image_id = 'nowhere' WHERE id = '{key(2)}'",
        one_more_annotation("nowhere"),
    )
    assert watched.recounted


def test_a_deletion_that_an_annotation_of_an_unpublished_image_balances(watched: Watched) -> None:
    """The image is there, its dataset is not: the annotation is published nowhere."""
    watched.after(one_more_image("stray", "no dataset"))
    watched.after(
        f"DELETE FROM annotations WHERE id = '{key(319)}'",
        f"UPDATE annotations SET image_id = 'stray' WHERE id = '{key(2)}'",
    )
    watched.after(
        f"DELETE FROM annotations WHERE id = '{key(318)}'",
        one_more_annotation("stray"),
    )
    assert watched.recounted


def test_a_deletion_that_an_adopted_orphan_balances(watched: Watched) -> None:
    """An annotation goes from a clean block, and one that was published nowhere comes to another."""
    watched.after(
        f"DELETE FROM annotations WHERE id = '{key(319)}'",
        f"UPDATE annotations SET image_id = '{key(3)}' WHERE id = '{key(1000)}'",
    )


def test_an_orphan_that_went_while_another_row_came(watched: Watched) -> None:
    """The number of annotations is what it was, and nothing that was published is gone."""
    watched.after(
        f"DELETE FROM annotations WHERE id = '{key(1001)}'",
        one_more_annotation(key(3)),
    )


def test_an_image_that_moves_and_one_that_takes_its_place(watched: Watched) -> None:
    """Two images exchange their datasets: every count is what it was, on every level."""
    watched.after(
        f"UPDATE images SET dataset_id = 'd3' WHERE id = '{key(1)}'",
        f"UPDATE images SET dataset_id = 'd0' WHERE id = '{key(150)}'",
    )


def test_an_image_that_is_replaced_by_an_unpublished_one(watched: Watched) -> None:
    """One image goes, another comes and is published nowhere, with as many annotations as went."""
    watched.after(
        f"DELETE FROM images WHERE id = '{key(150)}'",
        one_more_image("stray", "no dataset"),
    )


def test_annotations_that_lose_their_image(watched: Watched) -> None:
    """An image goes and its annotations stay: no annotation was touched, and two are no longer published."""
    done = watched.after(f"DELETE FROM images WHERE id = '{key(150)}'")
    assert done.manifest["orphans"] == {"datasets": 0, "images": 0, "annotations": 5}


def test_annotations_that_find_their_image(watched: Watched) -> None:
    """An image comes after its annotations."""
    watched.after(one_more_image("lost 1", "d1"))


def test_a_dataset_that_comes_after_its_images(watched: Watched) -> None:
    """Its images are rendered though none of them was touched; when it goes, they are dropped."""
    watched.after(f"UPDATE images SET dataset_id = 'later' WHERE id > '{key(155)}'")
    watched.after("INSERT INTO datasets (id, name, project_id) VALUES ('later', 'later', 1)")
    assert watched.after("DELETE FROM datasets WHERE id = 'later'").manifest["orphans"]["images"] == 4  # type: ignore[index]


def test_a_project_that_goes_and_comes_back(watched: Watched) -> None:
    """Its dataset and all images below are published no more, then again."""
    watched.after("DELETE FROM projects WHERE id = 2")
    watched.after("INSERT INTO projects (id, name) VALUES (2, 'back')")


@pytest.mark.parametrize("table", ["projects", "datasets"])
def test_a_name_from_above_makes_blocks_dirty(watched: Watched, table: str) -> None:
    """images.csv repeats it in every row of the dataset, and the other datasets keep theirs."""
    done = watched.after(f"UPDATE {table} SET name = 'other' WHERE name LIKE '%1'")
    assert done.outcome.manifest.rendered_images == 40


def test_what_is_written_above_the_images_renders_none(watched: Watched) -> None:
    """A description or a label's colour is in the small part of the files, which is always written."""
    done = watched.after(
        "UPDATE datasets SET description = 'other'", "INSERT INTO labels VALUES (1, 'car', 'red', 1)"
    )
    assert (done.outcome.published, done.outcome.manifest.rendered_images) == (True, 0)


def test_a_change_elsewhere_writes_nothing_but_the_position(watched: Watched) -> None:
    """The ledger and the published files stay, and the next look starts from here."""
    ledger = watched.exporting.directory / ".autoexport" / "ledger.json"
    before = FileIdentity.of(ledger, 0)
    done = watched.after("INSERT INTO dev_mode_settings VALUES (1, 'x', NULL, NULL)")
    assert not done.outcome.published
    assert FileIdentity.of(ledger, 0) == before


def test_orphans_are_remembered_though_nothing_is_published(watched: Watched) -> None:
    """An orphan comes and nothing is published; then a published row goes: the old number of orphans would
    make the sums equal."""
    one_more = one_more_annotation("nowhere")
    assert not watched.after(one_more).outcome.published
    assert watched.after(f"DELETE FROM annotations WHERE id = '{key(319)}'").outcome.published


def test_repairs_are_remembered_though_nothing_is_published(watched: Watched) -> None:
    """An infinity, published as null, becomes null: the files are the same, the number of repairs is not."""
    assert (
        watched.after(f"UPDATE annotations SET confidence = 9e999 WHERE id = '{key(5)}'").manifest["repaired"] == 1
    )
    assert not watched.after(f"UPDATE annotations SET confidence = NULL WHERE id = '{key(5)}'").outcome.published
    assert watched.after("UPDATE projects SET name = 'other' WHERE id = 4").manifest["repaired"] == 0


def test_columns_that_exchange_their_names(watched: Watched) -> None:
    """Every row changes and no row is touched."""
    done = watched.after(
        "ALTER TABLE annotations RENAME COLUMN x_min TO swapping",
        "ALTER TABLE annotations RENAME COLUMN y_min TO x_min",
        "ALTER TABLE annotations RENAME COLUMN swapping TO y_min",
    )
    assert done.outcome.manifest.mode == "full"


def test_datasets_that_exchange_what_images_call_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images name their dataset by its code: two datasets exchange theirs, then a new code adopts an orphan, and
    no row of an image was touched."""
    monkeypatch.setattr(os, "fsync", without_waiting_for_the_disk)
    database = SqliteDatabase(tmp_path / "application.sqlite3")
    database.script(CODES.sql)
    database.execute("INSERT INTO projects (id, code, name) VALUES (1, 'p', 'p')")
    for number, code in enumerate(("a", "b", "c")):
        database.execute("INSERT INTO datasets VALUES (?, ?, 'd', NULL, 'p', NULL)", number, code)
    for number, code in enumerate(("a", "a", "b", "lost")):
        database.execute("INSERT INTO images (id, filename, dataset_id) VALUES (?, 'x', ?)", number, code)
    exporting = Exporting(database.url, tmp_path)
    asyncio.run(exporting.export())
    codes = "UPDATE datasets SET code = CASE id WHEN 0 THEN {} WHEN 1 THEN {} ELSE {} END"
    for exchanged in (
        ("'b_'", "'a_'", "'c_'"),
        ("'b'", "'a'", "'c'"),
        ("'b'", "'c'", "'a'"),
        ("'b'", "'c'", "'lost'"),
    ):
        database.execute("UPDATE datasets SET code = code || '-'")
        database.execute(codes.format(*exchanged))
        assert asyncio.run(exporting.export()).outcome.published
    database.close()


def test_blocks_grow_with_the_database() -> None:
    """Up to their size, once there are many of them."""
    sizes = [block_size.block_images(images) for images in (0, 1, 256_000, 600_000, 1_024_000, 10_000_000)]
    assert sizes == [64, 64, 64, 150, 256, 256]


@pytest.mark.parametrize("rows", [1, 10])
def test_the_cost_is_that_of_the_change(tmp_path: Path, rows: int) -> None:
    """One annotation, or ten neighbours, among 2,000 images, with blocks as they are: two blocks at most."""
    path = tmp_path / "application.sqlite3"
    connection = create_sqlite(path)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO projects (id, name) VALUES (1, 'p')")
    connection.execute("INSERT INTO datasets (id, name, project_id) VALUES ('d', 'd', 1)")
    for table, made in (
        ("images", [image_row(number, "d") for number in range(2000)]),
        ("annotations", [annotation_row(number, key(number // 4)) for number in range(8000)]),
    ):
        connection.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(made[0]))})", made)
    connection.execute("COMMIT")
    exporting = Exporting(f"sqlite:///{path}", tmp_path)
    first = asyncio.run(exporting.export())
    connection.execute("UPDATE annotations SET x_min = 9 WHERE id BETWEEN ? AND ?", (key(3000), key(2999 + rows)))
    connection.close()
    done = asyncio.run(exporting.export())
    assert (first.manifest["mode"], done.manifest["mode"]) == ("full", "incremental")
    assert 0 < done.outcome.manifest.rendered_images <= 2 * block_size.block_images(2000)
    assert done.outcome.manifest.rendered_bytes < 0.3 * first.outcome.manifest.rendered_bytes
