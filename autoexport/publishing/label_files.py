"""Keeps the small files of a data set: writes those that changed, and removes those that no list names any more.

A reader takes a list and then opens the label file of each image in it. So the label files are written before the
lists are renamed, and those that the new lists do not name stay for a while, for readers of the old lists.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import xxhash

from autoexport.formats.training.paths import label_path
from autoexport.runtime.duplicates import Numbers
from autoexport.runtime.files import create_new, explain_os_error, replace_durably, temp_beside, write_all
from autoexport.runtime.steps import stepped

GRACE_S = 600.0
"""For so long a label file stays that no list names any more."""

UNLISTED = "unlisted"
"""The name of a file in the state directory: the label files that no list names, and when that was noticed."""

_LINE = b"./images/"
_LISTS = ("train", "val", "test", "unassigned")


def differing(directory: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """The names of those files that are missing or have other bytes."""
    return (name for name, text in files if _content(directory / name) != text)


def differs(directory: Path, files: Iterable[tuple[str, bytes]]) -> bool:
    """Whether one of these files is missing or has other bytes."""
    return any(True for _ in differing(directory, files))


def write_changed(directory: Path, files: Iterable[tuple[str, bytes]], begin: Callable[[], None]) -> int:
    """Write those files that are missing or have other bytes; how many. Raises `PublishError`.

    Each is replaced whole. A new one is named by no list yet, so no reader sees it grow. `begin` is called before
    the first one is written.
    """
    written = 0
    for name, text in files:
        stepped()
        path = directory / name
        present = _content(path)
        if present == text:
            continue
        if not written:
            begin()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if present is None and not os.path.lexists(path):
                _write(path, text)
            else:
                temp = _temp_of(directory, name)
                try:
                    _write(temp, text)
                    os.replace(temp, path)
                finally:
                    temp.unlink(missing_ok=True)
        except OSError as error:
            raise explain_os_error(error, path) from error
        written += 1
    return written


def _temp_of(directory: Path, name: str) -> Path:
    """A temp file in the folder of the data set, where few files are to be swept."""
    return temp_beside(directory.joinpath(*Path(name).parts[:2], "label"))


def _write(path: Path, text: bytes) -> None:
    descriptor = create_new(path)
    try:
        write_all(descriptor, text)
    finally:
        os.close(descriptor)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def sync(directory: Path) -> None:
    """Make all files of the file system durable at once. Raises `PublishError`.

    One `fsync` for each of thousands of small files would take minutes.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _syncfs is None:
                os.sync()
            elif _syncfs(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise explain_os_error(error, directory) from error


# --- files that no list names ---------------------------------------------------------------------


def retire(directory: Path, state: Path, data_sets: Iterable[str] | None) -> int:
    """Note the label files that no list names, and remove those that were noted long ago; how many are removed.

    `data_sets` are the folders whose lists changed; None if all have to be looked at. Raises `PublishError`.
    """
    noted = _noted(state)
    if data_sets is None:
        data_sets = {path.parent.relative_to(directory).as_posix() for path in directory.glob("yolo/*/labels")}
    now, removed = time.time(), 0
    due = {_data_set(name) for name, since in noted.items() if now - since >= GRACE_S}
    folders = {*data_sets} | due
    unlisted = {name: since for name, since in noted.items() if _data_set(name) not in folders}
    try:
        for folder in sorted(folders):
            for name in _unlisted(directory, state, folder):
                since = min(noted.get(name, now), now)
                if now - since < GRACE_S:
                    unlisted[name] = since
                else:
                    (directory / name).unlink(missing_ok=True)
                    removed += 1
            _remove_empty(directory / folder)
    except OSError as error:
        raise explain_os_error(error, error.filename or directory) from error
    if unlisted != noted:
        _note(state, unlisted)
    return removed


def _data_set(name: str) -> str:
    return "/".join(name.split("/")[:2])


def _unlisted(directory: Path, state: Path, folder: str) -> list[str]:
    """The label files of a data set that none of its lists names."""
    listed, present = Numbers(state, 64), Numbers(state, 64)
    try:
        listed.add(map(_hash, _listed(directory / folder)))
        present.add(map(_hash, _label_files(directory / folder / "labels")))
        missing = present.missing_in(listed)
        if not missing:
            return []
        names = _label_files(directory / folder / "labels")
        return [f"{folder}/labels/{name}" for name in names if _hash(name) in missing]
    finally:
        listed.close()
        present.close()


def _listed(folder: Path) -> Iterator[str]:
    """The label files that the lists of a data set name."""
    for name in _LISTS:
        with suppress(FileNotFoundError), (folder / f"{name}.txt").open("rb") as lines:
            for line in lines:
                pair = label_path(line.removeprefix(_LINE).rstrip(b"\n").decode(), rooted=True)
                if pair is not None:
                    yield pair[1]


def _label_files(labels: Path) -> Iterator[str]:
    """The label files that are there, below `labels/`. Files of others, such as caches, do not count."""
    for above, _, names in os.walk(labels):
        inside = os.path.relpath(above, labels)
        for name in names:
            if name.endswith(".txt") and "\n" not in name:
                yield name if inside == "." else f"{inside}/{name}"


def _hash(name: str) -> int:
    return xxhash.xxh3_64_intdigest(os.fsencode(name))


def _remove_empty(folder: Path) -> None:
    """Remove the empty folders of a data set. If none but the link to the images is left, that goes as well."""
    if not (folder / "labels").is_dir():
        return
    for above, _, _ in os.walk(folder / "labels", topdown=False):
        with suppress(OSError):
            os.rmdir(above)
    if not (folder / "labels").exists() and [path.name for path in folder.iterdir()] in ([], ["images"]):
        link = folder / "images"
        if link.is_symlink():
            link.unlink()
        with suppress(OSError):
            folder.rmdir()


def _noted(state: Path) -> dict[str, float]:
    noted: dict[str, float] = {}
    with suppress(OSError, ValueError):
        for line in (state / UNLISTED).read_bytes().split(b"\n")[:-1]:
            since, _, name = line.partition(b" ")
            noted[os.fsdecode(name)] = float(since)
    return noted


def _note(state: Path, unlisted: dict[str, float]) -> None:
    if unlisted:
        lines = (b"%.3f %b\n" % (since, os.fsencode(name)) for name, since in unlisted.items())
        replace_durably(state / UNLISTED, lines, mode=0o600)
    else:
        (state / UNLISTED).unlink(missing_ok=True)


def link_images(folder: Path, root: str) -> None:
    """Let `images` in the folder of a data set lead to the images, unless something else is there.

    Raises `PublishError`.
    """
    link, target = folder / "images", os.path.abspath(root)
    try:
        if link.is_symlink() and os.readlink(link) == target:
            return
        if link.exists() and not link.is_symlink():
            return
        temp = temp_beside(link)
        os.symlink(target, temp)
        os.replace(temp, link)
    except OSError as error:
        raise explain_os_error(error, link) from error
