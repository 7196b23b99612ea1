"""Kept and fresh bytes are laid out, compared with the published file, and copied."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.errors import PublishError
from autoexport.formats.annotations_csv import AnnotationsTable
from autoexport.formats.contract import Format
from autoexport.formats.csv_table import ImagesTable, ProjectsTable
from autoexport.formats.json_document import JsonDocument
from autoexport.model.blocks import BlockRecord, Part
from autoexport.model.tree import Tree
from autoexport.publishing import splice
from autoexport.publishing.identity import FileIdentity
from autoexport.publishing.layout import Layout, lay_out
from autoexport.publishing.pieces import Segment
from autoexport.publishing.splice import Staged, find_identical, stage
from autoexport.runtime.files import TEMP_SUFFIX
from tests.trees import Built, Dataset, Project, built

FORMATS: list[Format] = [JsonDocument(), ImagesTable()]


def tree_of(names: Sequence[str], sizes: Sequence[int] = (2,)) -> Built:
    """Two datasets of images with these names, cut into blocks of these sizes."""
    images = [{"id": number, "filename": name} for number, name in enumerate(names)]
    half = len(images) // 2
    datasets = [Dataset({"id": 1, "name": "a"}, images[:half]), Dataset({"id": 2, "name": "b"}, images[half:])]
    return built([Project({"id": 1, "name": "p"}, [], datasets)], cycle(sizes))


class Workshop:
    """An export directory with one published file, and a spool for fresh blocks."""

    def __init__(self, directory: Path, output: Format) -> None:
        self.directory = directory
        self.output = output
        self.spool_path = directory / "spool"
        self.spool = os.open(self.spool_path, os.O_RDWR | os.O_CREAT)
        self.target = directory / output.file_name

    def fresh(self, bodies: Sequence[bytes]) -> list[Part]:
        """Parts of these blocks, spooled one after the other as the exporter does it."""
        parts = []
        for body in bodies:
            at = os.lseek(self.spool, 0, os.SEEK_END)
            os.write(self.spool, body + self.output.separator)
            parts.append(Part(at, len(body), zlib.crc32(body), fresh=True))
        return parts

    def lay_out(self, tree: Tree, parts: Sequence[Part]) -> Layout:
        """The layout of a tree whose blocks have these parts."""
        return lay_out(self.output, tree, [BlockRecord(1, 1, 1, b"", "", 0, [part]) for part in parts], 0)

    def stage(self, layout: Layout, known: FileIdentity | None = None) -> Staged:
        """Write the file beside its target."""
        return stage(layout, [self.spool], self.directory, known)

    def publish(self, tree: Built) -> list[Part]:
        """Publish a tree with every block fresh; the parts as they are kept in the ledger."""
        parts = self.fresh(tree.bodies(self.output))
        layout = self.lay_out(tree.tree, parts)
        os.replace(self.stage(layout).temp, self.target)
        places = zip(layout.blocks, layout.offsets, strict=True)
        return [Part(offset, parts[block].length, parts[block].crc) for block, offset in places]

    def identity(self) -> FileIdentity:
        """The identity of the published file, for the ledger."""
        return FileIdentity.of(self.target, 0)

    def leftovers(self) -> list[Path]:
        """Temp files."""
        return [path for path in self.directory.iterdir() if path.name.endswith(TEMP_SUFFIX)]


@contextmanager
def workshop(output: Format) -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory() as folder:
        shop = Workshop(Path(folder), output)
        yield shop
        os.close(shop.spool)


@pytest.fixture
def _by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a piece is."""
    monkeypatch.setattr(splice, "SMALL_BYTES", 0)


NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"]
every_format = pytest.mark.parametrize("output", FORMATS, ids=lambda output: output.file_name)


# --- layout --------------------------------------------------------------------------------------


@every_format
@given(
    before=st.lists(st.sampled_from(["a", "bb", "=c"]), min_size=2, max_size=9),
    after=st.lists(st.sampled_from(["a", "bb", "=c"]), min_size=2, max_size=9),
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    kept=st.sets(st.integers(0, 8)),
)
def test_any_mixture_gives_the_file(
    output: Format, before: list[str], after: list[str], sizes: list[int], kept: set[int]
) -> None:
    """Blocks of the published file that are the same may be kept or rendered again: the bytes are those of a
    file that is written in one go, and so are length, checksum and the places of the blocks."""
    with workshop(output) as shop:
        old, new = tree_of(before, sizes), tree_of(after, sizes)
        published = shop.publish(old)
        known = dict(zip(old.bodies(output), published, strict=True))
        bodies = new.bodies(output)
        parts = [
            known[body] if body in known and number in kept else shop.fresh([body])[0]
            for number, body in enumerate(bodies)
        ]
        layout, whole = shop.lay_out(new.tree, parts), new.written(output)
        assert (layout.length, layout.crc) == (len(whole), zlib.crc32(whole))
        assert list(layout.blocks) == list(range(len(parts)))
        assert [whole[at : at + part.length] for at, part in zip(layout.offsets, parts, strict=True)] == bodies
        for small_bytes in (0, 30, splice.SMALL_BYTES):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(splice, "SMALL_BYTES", small_bytes)
                patch.setattr(splice, "_WINDOW_BYTES", 50)
                assert shop.stage(layout, shop.identity()).temp.read_bytes() == whole
        assert bool(find_identical(layout, [shop.spool], shop.directory, shop.identity())) == (
            shop.target.read_bytes() == whole
        )


@every_format
def test_neighbours_are_one_segment(output: Format) -> None:
    """Blocks that stand side by side where they come from, and where they go, are copied in one call."""
    with workshop(output) as shop:
        tree = tree_of(NAMES)
        published = shop.publish(tree)
        layout = shop.lay_out(tree.tree, published)
        segments = [piece for piece in layout.pieces if isinstance(piece, Segment)]
        # The JSON file has text between the two datasets; images.csv has none.
        assert len(segments) == (2 if output.separator else 1)
        assert layout.kept_bytes == sum(segment.length for segment in segments)
        assert shop.stage(layout, shop.identity()).temp.read_bytes() == tree.written(output)


@every_format
def test_parts_that_are_not_neighbours_are_not_joined(output: Format) -> None:
    """Blocks that changed places, and a fresh one between kept ones, are segments of their own."""
    with workshop(output) as shop:
        tree = tree_of(NAMES[:6], (1,))
        published = shop.publish(tree)
        first, second, third, *rest = published
        swapped = shop.lay_out(tree.tree, [second, first, third, *rest])
        mixed = shop.lay_out(tree.tree, [first, *shop.fresh(tree.bodies(output)[1:2]), third, *rest])
        assert sum(isinstance(piece, Segment) for piece in swapped.pieces) == 3 + (1 if output.separator else 0)
        assert sum(isinstance(piece, Segment) for piece in mixed.pieces) == 3 + (1 if output.separator else 0)
        assert shop.stage(mixed, shop.identity()).temp.read_bytes() == tree.written(output)


def test_blocks_without_bytes_can_be_kept() -> None:
    """Images without annotations have no bytes in annotations.csv, whether any other image has some or not."""
    output = AnnotationsTable()
    for annotated in ([], [{"id": 1, "label": "a"}]):
        images = [{"id": 1}, {"id": 2, "annotations": annotated}, {"id": 3}]
        tree = built([Project({"id": 1, "name": "p"}, [], [Dataset({"id": 1, "name": "d"}, images)])], cycle([1]))
        with workshop(output) as shop:
            layout = shop.lay_out(tree.tree, shop.publish(tree))
            assert find_identical(layout, shop.spool, shop.directory, shop.identity())
            assert shop.stage(layout, shop.identity()).temp.read_bytes() == tree.written(output)


def test_a_file_without_blocks() -> None:
    """It is one piece of bytes, and nothing is kept."""
    output = ProjectsTable()
    with workshop(output) as shop:
        tree = tree_of(NAMES)
        layout = lay_out(output, tree.tree, [], 0)
        assert (list(layout.pieces), layout.kept_bytes) == ([tree.written(output)], 0)
        assert stage(layout, None, shop.directory, None).temp.read_bytes() == tree.written(output)


# --- is it there already -------------------------------------------------------------------------


@every_format
def test_every_changed_byte_is_seen(output: Format) -> None:
    """A fresh layout against the published file: equal, then with each single byte of it changed."""
    with workshop(output) as shop:
        tree = tree_of(NAMES[:2])
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(output)))
        assert not find_identical(layout, [shop.spool], shop.directory)
        shop.publish(tree)
        whole = shop.target.read_bytes()
        assert find_identical(layout, [shop.spool], shop.directory)
        for at in range(len(whole)):
            shop.target.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert not find_identical(layout, [shop.spool], shop.directory), at
        for other in (whole[:-1], whole + b"\n", b""):
            shop.target.write_bytes(other)
            assert not find_identical(layout, [shop.spool], shop.directory)


def test_kept_blocks_that_move_are_compared() -> None:
    """A kept block that goes elsewhere in a file of the same size is no reason to leave the file alone."""
    with workshop(ImagesTable()) as shop:
        published = shop.publish(tree_of(["aa", "bb", "cc", "dd"], (1,)))
        tree = tree_of(["aa", "bb", "cc", "dd"], (1,))
        same = shop.lay_out(tree.tree, published)
        moved = shop.lay_out(tree.tree, [published[1], published[0], *published[2:]])
        assert moved.length == same.length
        known = shop.identity()
        assert find_identical(same, None, shop.directory, known)
        assert not find_identical(moved, None, shop.directory, known)


def test_kept_blocks_of_another_file_are_not_taken_on_trust() -> None:
    """Another program may have written to a range that is not read, since the identity was taken."""
    with workshop(ImagesTable()) as shop:
        tree = tree_of(["aa", "bb", "cc", "dd"], (1,))
        layout = shop.lay_out(tree.tree, shop.publish(tree))
        known, whole = shop.identity(), shop.target.read_bytes()
        identity = find_identical(layout, None, shop.directory, known)
        assert identity is not None
        assert identity.crc == layout.crc
        shop.target.write_bytes(whole.replace(b"cc", b"xx"))
        assert not find_identical(layout, None, shop.directory, known)
        assert not find_identical(layout, None, shop.directory)


# --- copying -------------------------------------------------------------------------------------


def unable(code: int) -> Callable[..., int]:
    def copy_file_range(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return copy_file_range


@pytest.mark.usefixtures("_by_the_kernel")
@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, None])
def test_without_copying_in_the_kernel(code: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the kernel or the file system cannot do it, or there is no such call, bytes are copied through memory."""
    if code is None:
        monkeypatch.delattr(os, "copy_file_range")
    else:
        monkeypatch.setattr(os, "copy_file_range", unable(code))
    with workshop(JsonDocument()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.publish(tree))
        assert shop.stage(layout, shop.identity()).temp.read_bytes() == tree.written(shop.output)


@pytest.mark.usefixtures("_by_the_kernel")
def test_the_kernel_gives_up_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that it copied are not copied again; short copies are continued."""
    real, calls = os.copy_file_range, []

    def three_bytes_then_no_more(source: int, target: int, count: int, offset: int) -> int:
        calls.append(count)
        if len(calls) > 2:
            raise OSError(errno.EINVAL, "no more")
        return real(source, target, min(count, 3), offset)

    monkeypatch.setattr(os, "copy_file_range", three_bytes_then_no_more)
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))
        assert shop.stage(layout).temp.read_bytes() == tree.written(shop.output)
        assert calls[1] == calls[0] - 3


@pytest.mark.usefixtures("_by_the_kernel")
def test_a_copy_is_done_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be stopped."""
    real, steps = os.copy_file_range, []

    def noted(source: int, target: int, count: int, offset: int) -> int:
        steps.append(count)
        return real(source, target, count, offset)

    monkeypatch.setattr(os, "copy_file_range", noted)
    monkeypatch.setattr(splice, "_COPY_BYTES", 100)
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))
        assert shop.stage(layout).temp.read_bytes() == tree.written(shop.output)
    assert max(steps) == 100
    assert len(steps) > 2


# --- what goes wrong -----------------------------------------------------------------------------


def test_another_file_than_the_known_one() -> None:
    """Kept ranges come only from the file that the ledger knows."""
    with workshop(JsonDocument()) as shop:
        tree = tree_of(NAMES)
        layout, known = shop.lay_out(tree.tree, shop.publish(tree)), shop.identity()
        shop.target.write_bytes(shop.target.read_bytes())
        for identity in (known, None):
            with pytest.raises(PublishError, match="changed while it was being copied") as raised:
                shop.stage(layout, identity)
            assert raised.value.hint
        assert shop.leftovers() == []


@pytest.mark.usefixtures("_by_the_kernel")
@pytest.mark.parametrize("change", ["cut", "append", "touch"])
def test_a_file_that_changes_while_it_is_copied(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short, grown or written to between the first look and the last: nothing is staged."""
    real = os.copy_file_range
    with workshop(JsonDocument()) as shop:
        tree = tree_of(NAMES)
        layout, known = shop.lay_out(tree.tree, shop.publish(tree)), shop.identity()

        def meddled(source: int, target: int, count: int, offset: int) -> int:
            if change == "cut":
                os.truncate(shop.target, 10)
            elif change == "append":
                with shop.target.open("ab") as file:
                    file.write(b"x")
            else:
                os.utime(shop.target, ns=(1, 1))
            return real(source, target, count, offset)

        monkeypatch.setattr(os, "copy_file_range", meddled)
        with pytest.raises(PublishError, match="changed while it was being copied"):
            shop.stage(layout, known)
        assert shop.leftovers() == []


def test_a_spool_that_is_cut_short() -> None:
    """A working file that lacks bytes is an error, not a short file."""
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))
        os.truncate(shop.spool, 10)
        with pytest.raises(PublishError):
            shop.stage(layout)
        assert shop.leftovers() == []


def test_the_published_file_is_gone() -> None:
    """Kept ranges of a missing file are an error that names the file."""
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout, known = shop.lay_out(tree.tree, shop.publish(tree)), shop.identity()
        shop.target.unlink()
        with pytest.raises(PublishError, match=r"images\.csv"):
            shop.stage(layout, known)
        assert not find_identical(layout, None, shop.directory)
        assert shop.leftovers() == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No temp file is left, and the error says which file and what to do."""
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))

        def full(descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(PublishError, match=r"images\.csv") as raised:
            shop.stage(layout)
        assert raised.value.hint
        assert isinstance(raised.value.__cause__, OSError)
        assert shop.leftovers() == []


def test_a_process_that_is_about_to_end_writes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread cannot be cancelled: it sees by itself that the work was interrupted, and leaves no temp file."""
    interrupted = threading.Event()
    interrupted.set()
    monkeypatch.setattr("autoexport.runtime.interruption._interrupted", interrupted)
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))
        with pytest.raises(PublishError, match="interrupted"):
            shop.stage(layout)
        assert shop.leftovers() == []


def test_temp_files_are_beside_the_target_and_new() -> None:
    """Two temp files have different, unguessable names, on the same file system as the target."""
    with workshop(ImagesTable()) as shop:
        tree = tree_of(NAMES)
        layout = shop.lay_out(tree.tree, shop.fresh(tree.bodies(shop.output)))
        first, second = shop.stage(layout), shop.stage(layout)
        assert first.temp != second.temp
        assert first.temp.parent == second.temp.parent == shop.directory
        assert first.temp.name.startswith(".images.csv.")
        assert first.temp in shop.leftovers()
