"""Staged files replace published ones; foreign files are backed up and leftovers removed."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError, PublishError, SourceError
from autoexport.incremental.ledger import Ledger
from autoexport.pipeline.job import ExportJob
from autoexport.pipeline.ownership import claim, is_foreign
from autoexport.publishing.backups import BACKUP_SUFFIX
from autoexport.publishing.directory import DirectoryTarget, check_room, commit, discard
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import MANIFEST_NAME, FileRecord, Manifest
from autoexport.publishing.splice import Staged, find_identical, stage
from autoexport.publishing.workspace import sweep
from autoexport.runtime.files import TEMP_SUFFIX, replace_durably, temp_beside
from autoexport.sources import open_source

NAMES = ("database_export.json", "images.csv")


@pytest.fixture
def umask() -> Iterator[None]:
    """An ordinary umask, whatever that of the test run is."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def layout(name: str, content: bytes) -> Layout:
    made = Layout(name, length=len(content), crc=zlib.crc32(content))
    made.pieces.add_text(content)
    return made


def manifest(generation: int = 1, *names: str, database: str = "app.db") -> Manifest:
    """A manifest that knows these files."""
    files = {name: FileRecord(3, "crc32:00000000", 1) for name in names or NAMES}
    return Manifest(generation, "2024-01-20T10:30:00Z", database, files)


def publish_once(directory: Path, content: bytes = b"new", previous: Manifest | None = None) -> list[Staged]:
    """Stage and publish both files with this content."""
    staged = [stage(layout(name, content), None, directory, None) for name in NAMES]
    commit(staged, manifest(), directory, previous)
    return staged


def target(directory: Path) -> DirectoryTarget:
    return DirectoryTarget(directory, directory / ".autoexport")


def mode(path: Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- into place ----------------------------------------------------------------------------------


def test_new_files(tmp_path: Path, umask: None) -> None:
    """The files and the manifest, with the mode that the umask gives, and nothing else."""
    publish_once(tmp_path)
    assert names(tmp_path) == {*NAMES, MANIFEST_NAME}
    assert [mode(tmp_path / name) for name in (*NAMES, MANIFEST_NAME)] == [0o644] * 3
    assert target(tmp_path).read_manifest() == manifest()


def test_a_reader_keeps_what_it_has_open(tmp_path: Path) -> None:
    """A file is replaced, never written over."""
    publish_once(tmp_path, b"old")
    with (tmp_path / NAMES[0]).open("rb") as reader:
        publish_once(tmp_path, b"new", manifest())
        assert reader.read() == b"old"
    assert (tmp_path / NAMES[0]).read_bytes() == b"new"


def test_the_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, then the directory made durable, then the manifest, then the directory again."""
    steps: list[str] = []
    real_replace, real_fsync = os.replace, os.fsync

    def replace(source: Path, target: Path) -> None:
        steps.append(Path(target).name)
        real_replace(source, target)

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(f"fsync {kind}")
        real_fsync(descriptor)

    staged = [stage(layout(name, b"new"), None, tmp_path, None) for name in NAMES]
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    commit(staged, manifest(), tmp_path, None)
    assert steps == [*NAMES, "fsync directory", "fsync file", MANIFEST_NAME, "fsync directory"]


def test_the_old_files_are_freed_after_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Freeing a large file takes a while, in which new files would stand beside old ones."""
    publish_once(tmp_path, b"old")
    replace, open_then = os.replace, []

    def recorded(source: str, target: Path) -> None:
        replace(source, target)
        open_then.append((target.name, deleted()))

    def deleted() -> list[str]:
        links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
        found = (os.readlink(link) for link in links if os.path.lexists(link))
        return sorted(Path(name).name for name in found if name.startswith(str(tmp_path)) and "(deleted)" in name)

    monkeypatch.setattr(os, "replace", recorded)
    publish_once(tmp_path, b"new", manifest())
    assert open_then[-1] == (MANIFEST_NAME, [f"{name} (deleted)" for name in NAMES])
    assert deleted() == []


def test_more_files_than_a_process_may_have_open(tmp_path: Path) -> None:
    """The replaced files are held open, but not all of them."""
    names = [f"{number}.json" for number in range(200)]
    for content in (b"old", b"new"):
        staged = [stage(layout(name, content), None, tmp_path, None) for name in names]
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, before[1]))
        try:
            commit(staged, manifest(1, *names), tmp_path, manifest(1, *names))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert {(tmp_path / name).read_bytes() for name in names} == {b"new"}


# --- mode and owner ------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o444])
def test_modes_are_kept(tmp_path: Path, umask: None, kept: int) -> None:
    """A file that is there keeps its mode, wider than the umask too, and so does the manifest."""
    publish_once(tmp_path)
    for name in (*NAMES, MANIFEST_NAME):
        (tmp_path / name).chmod(kept)
    publish_once(tmp_path, b"newer", manifest())
    assert [mode(tmp_path / name) for name in (*NAMES, MANIFEST_NAME)] == [kept] * 3


def test_a_private_file_is_never_public(tmp_path: Path, umask: None) -> None:
    """Not even under its temporary name, while it is being written."""
    publish_once(tmp_path)
    (tmp_path / NAMES[0]).chmod(0o600)
    staged = stage(layout(NAMES[0], b"new"), None, tmp_path, None)
    assert mode(staged.temp) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_owners_are_kept(tmp_path: Path) -> None:
    """Owner and group, of the manifest as well."""
    publish_once(tmp_path)
    for name in (*NAMES, MANIFEST_NAME):
        os.chown(tmp_path / name, 12345, 23456)
    publish_once(tmp_path, b"new", manifest())
    owners = {(status.st_uid, status.st_gid) for status in map(os.lstat, map(tmp_path.joinpath, NAMES))}
    assert owners == {(12345, 23456)}
    assert os.lstat(tmp_path / MANIFEST_NAME).st_gid == 23456


def test_the_group_is_kept_where_the_owner_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that may not give files away still keeps them readable for the group that reads them."""
    asked: list[tuple[int, int]] = []

    def chown(path: Path, user: int, group: int) -> None:
        asked.append((user, group))
        if user != -1:
            raise PermissionError(errno.EPERM, "not permitted")

    publish_once(tmp_path)
    status = os.lstat(tmp_path / NAMES[0])
    monkeypatch.setattr(os, "geteuid", lambda: status.st_uid + 1)
    monkeypatch.setattr(os, "chown", chown)
    publish_once(tmp_path, b"new", manifest())
    assert (-1, status.st_gid) in asked


# --- what was there before -----------------------------------------------------------------------


def test_files_of_the_earlier_exporter_are_kept_once(tmp_path: Path) -> None:
    """Under another name, with their bytes; the second time there is nothing to keep."""
    (tmp_path / NAMES[1]).write_bytes(b"earlier")
    publish_once(tmp_path)
    backup = tmp_path / (NAMES[1] + BACKUP_SUFFIX)
    assert backup.read_bytes() == b"earlier"
    publish_once(tmp_path, b"newer", manifest())
    (tmp_path / MANIFEST_NAME).unlink()
    publish_once(tmp_path, b"newest")
    assert backup.read_bytes() == b"earlier"
    assert names(tmp_path) >= {*NAMES, MANIFEST_NAME, backup.name}


def test_our_own_files_are_not_kept(tmp_path: Path) -> None:
    """A file that the manifest lists is replaced without a backup."""
    publish_once(tmp_path)
    publish_once(tmp_path, b"newer", manifest())
    assert names(tmp_path) == {*NAMES, MANIFEST_NAME}


def test_a_file_that_the_manifest_does_not_know_is_kept(tmp_path: Path) -> None:
    """An output was off until now: a file of its name belongs to another program."""
    publish_once(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(b"by hand")
    publish_once(tmp_path, b"newer", manifest(1, NAMES[0]))
    assert (tmp_path / (NAMES[1] + BACKUP_SUFFIX)).read_bytes() == b"by hand"
    assert not (tmp_path / (NAMES[0] + BACKUP_SUFFIX)).exists()


def test_a_manifest_that_is_none_of_ours_is_kept(tmp_path: Path) -> None:
    """Other programs write a manifest.json too."""
    (tmp_path / MANIFEST_NAME).write_bytes(b'{"name": "my web app"}')
    assert target(tmp_path).read_manifest() is None
    publish_once(tmp_path)
    assert (tmp_path / (MANIFEST_NAME + BACKUP_SUFFIX)).read_bytes() == b'{"name": "my web app"}'


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_files_are_kept_where_there_are_no_hard_links(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT and some network file systems have none: a copy is kept."""

    def link(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", link)
    (tmp_path / NAMES[0]).write_bytes(b"earlier")
    publish_once(tmp_path)
    assert (tmp_path / (NAMES[0] + BACKUP_SUFFIX)).read_bytes() == b"earlier"
    assert (tmp_path / NAMES[0]).read_bytes() == b"new"


# --- links ---------------------------------------------------------------------------------------


def test_links_are_replaced_and_not_followed(tmp_path: Path, umask: None) -> None:
    """The target of a symbolic link in the export directory is neither written nor given another mode."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    outside.chmod(0o600)
    directory = tmp_path / "exports"
    directory.mkdir()
    for name in (*NAMES, MANIFEST_NAME):
        (directory / name).symlink_to(outside)
    publish_once(directory)
    assert (outside.read_bytes(), mode(outside)) == (b"precious", 0o600)
    for name in (*NAMES, MANIFEST_NAME):
        assert not (directory / name).is_symlink()
        assert (directory / name).read_bytes() != b"precious"
        assert mode(directory / name) == 0o644


def test_a_link_to_equal_bytes_is_not_published(tmp_path: Path) -> None:
    """The published file must be a file: the target of a link may belong to another program."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"new")
    (tmp_path / NAMES[0]).symlink_to(outside)
    assert not find_identical(layout(NAMES[0], b"new"), None, tmp_path)


def test_a_pipe_in_the_way_does_not_hang(tmp_path: Path) -> None:
    """It is no published file, and is replaced."""
    os.mkfifo(tmp_path / NAMES[0])
    assert not find_identical(layout(NAMES[0], b""), None, tmp_path)
    publish_once(tmp_path)
    assert (tmp_path / NAMES[0]).read_bytes() == b"new"


# --- what goes wrong -----------------------------------------------------------------------------


def test_a_directory_in_the_way(tmp_path: Path) -> None:
    """It stays; the error names it; no temp file and no manifest are left."""
    (tmp_path / NAMES[1]).mkdir()
    assert not find_identical(layout(NAMES[1], b"new"), None, tmp_path)
    with pytest.raises(PublishError, match=r"images\.csv") as raised:
        publish_once(tmp_path)
    assert raised.value.hint
    assert (tmp_path / NAMES[1]).is_dir()
    assert not [name for name in names(tmp_path) if name.endswith(TEMP_SUFFIX)]
    assert not (tmp_path / MANIFEST_NAME).exists()


@pytest.mark.parametrize("failing", ["first rename", "second rename", "manifest"])
def test_a_rename_that_fails(tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were not renamed by then are the old ones, whole; no temp file is left."""
    publish_once(tmp_path, b"old")
    before = (tmp_path / MANIFEST_NAME).read_bytes()
    refused = {"first rename": NAMES[0], "second rename": NAMES[1], "manifest": MANIFEST_NAME}[failing]
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == refused:
            raise OSError(errno.EBUSY, "busy")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PublishError, match=refused.replace(".", r"\.")) as raised:
        publish_once(tmp_path, b"new", manifest())
    assert raised.value.hint
    assert names(tmp_path) == {*NAMES, MANIFEST_NAME}
    assert (tmp_path / MANIFEST_NAME).read_bytes() == before
    expected = {"first rename": (b"old", b"old"), "second rename": (b"new", b"old"), "manifest": (b"new", b"new")}
    assert tuple((tmp_path / name).read_bytes() for name in NAMES) == expected[failing]


def test_no_room(tmp_path: Path) -> None:
    """An export that cannot fit is refused before anything is written; one that fits is not."""
    with pytest.raises(PublishError, match="No room") as raised:
        check_room(tmp_path, 2**60)
    assert "Free some space" in raised.value.hint
    check_room(tmp_path, 0)


def job_with(directory: Path, published: Manifest | None) -> ExportJob:
    """The job of the database app.db, whose directory holds this manifest."""
    directory.mkdir()
    if published is not None:
        (directory / MANIFEST_NAME).write_bytes(published.to_json())
    settings = Settings(database_url="sqlite:///app.db", export_directory=directory)
    return ExportJob.of(open_source(settings), settings)


async def test_an_export_of_another_database(tmp_path: Path) -> None:
    """A configuration error that names it; no manifest, or one of the same database, is fine. So is one of another
    name, if the ledger is of this database. But if this database is not there, its name is the error."""
    foreign = job_with(tmp_path / "of another", manifest(database="other.db"))
    with pytest.raises(SourceError, match="no database file"):
        await claim(foreign)
    with closing(sqlite3.connect("app.db")) as connection, connection:
        connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY)")
    foreign.state.mkdir()
    with pytest.raises(ConfigurationError, match=r"other\.db") as raised:
        await claim(foreign)
    assert raised.value.exit_code == 2
    assert (await claim(job_with(tmp_path / "ours", manifest()))).previous == manifest()
    assert (await claim(job_with(tmp_path / "none", None))).previous is None
    for identity in ("1", "2"):
        ledger = Ledger(identity, "", "", 1, "", {})
        assert is_foreign(manifest(database="other.db"), ledger, "app.db", "1") == (identity != "1")


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b'{"format_version": 1}', b'{"format_version": 99}', b'{"files": 3}', b"\xff"]
)
def test_what_is_no_manifest(tmp_path: Path, text: bytes) -> None:
    """A file of another program is not read as a manifest, and is no error."""
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    assert target(tmp_path).read_manifest() is None


# --- leftovers -----------------------------------------------------------------------------------


def test_leftovers_are_swept(tmp_path: Path) -> None:
    """The leftovers of a killed exporter and a killed `check`, and nothing else."""
    state = tmp_path / ".autoexport"
    state.mkdir()
    gone = [
        stage(layout(NAMES[0], b"half"), None, tmp_path, None).temp,
        temp_beside(tmp_path / MANIFEST_NAME),
        temp_beside(state / "ledger.json"),
        state / "copy-0123456789abcdef.sqlite3",
        state / "copy-0123456789abcdef.sqlite3-journal",
        state / "spool-0123456789abcdef",
        state / "pages-0123456789abcdef",
    ]
    kept = [
        tmp_path / NAMES[0], tmp_path / "notes.txt", tmp_path / ".hidden", tmp_path / ("mine" + TEMP_SUFFIX),
        tmp_path / (NAMES[0] + BACKUP_SUFFIX), tmp_path / "copy-of-my-thesis", tmp_path / "spool-a",
        state / "ledger.json", state / "position", state / "publish.lock", state / "copy-of-my-thesis",
        state / "copy-0123456789abcdef.sqlite3.bak", state / "spool-of-thread", state / "pages-read",
    ]  # fmt: skip
    for path in gone + kept:
        path.touch()
    (tmp_path / f".directory{TEMP_SUFFIX}").mkdir()
    for folder in (state, tmp_path, tmp_path.parent):
        scratch = folder / ".autoexport-check-abcd_123"
        scratch.mkdir()
        (scratch / "copy-0123456789abcdef.sqlite3").touch()
        gone.append(scratch)
    assert sweep(tmp_path, state) == len(gone)
    assert not [path for path in gone if path.exists()]
    assert not [path for path in kept if not path.exists()]
    assert (tmp_path / f".directory{TEMP_SUFFIX}").is_dir()
    assert sweep(tmp_path, state) == 0


def test_a_swept_link_is_not_followed(tmp_path: Path) -> None:
    """A link among the leftovers goes; what it points to stays."""
    precious = tmp_path / "precious"
    precious.touch()
    state = tmp_path / ".autoexport"
    state.mkdir()
    (state / f"spool-{'0' * 16}").symlink_to(precious)
    (tmp_path / f".x{TEMP_SUFFIX}").symlink_to(precious)
    assert sweep(tmp_path, state) == 2
    assert precious.exists()


def test_discard_is_harmless_twice(tmp_path: Path) -> None:
    """Staged files that were published, or discarded before, are no trouble."""
    staged = publish_once(tmp_path)
    discard(staged)
    assert names(tmp_path) == {*NAMES, MANIFEST_NAME}


def test_small_files_are_replaced_whole(tmp_path: Path) -> None:
    """An error half way through leaves the old file and no temp file."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(errno.ENOSPC, "full")

    target = tmp_path / "ledger.json"
    replace_durably(target, [b"a", b"b"], mode=0o600)
    assert (target.read_bytes(), mode(target)) == (b"ab", 0o600)
    with pytest.raises(PublishError, match="no room"):
        replace_durably(target, pieces())
    assert target.read_bytes() == b"ab"
    assert names(tmp_path) == {"ledger.json"}
