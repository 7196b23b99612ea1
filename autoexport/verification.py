"""Whether the published files are what the database says: derived anew, compared to the byte, said in words."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from autoexport.contracts import Format, Source
from autoexport.edition import Edition, lay_out_all, make_manifest, spool_of
from autoexport.encoders import changed, fingerprints
from autoexport.exporter import LOCK_WAIT_S, derived
from autoexport.ledger import Part, load_ledger
from autoexport.line import Progress
from autoexport.manifest import MANIFEST_NAME, Manifest
from autoexport.model import Tree
from autoexport.offloop import in_thread
from autoexport.publish import is_intact, read_manifest, refuse_foreign, sweep
from autoexport.settings import Settings
from autoexport.splice import Layout, contents
from autoexport.workspace import directories, publishing

_SHOWN = 60
"""Characters of a difference that are shown on either side."""


async def differences(
    source: Source, settings: Settings, formats: Sequence[Format], progress: Progress | None = None
) -> list[str]:
    """What differs between the files and a fresh snapshot of the database, a line each; nothing is published.

    Raises `AutoexportError` if the database or the files cannot be read.
    """
    directory, state = settings.export_directory.absolute(), settings.state_dir.absolute()
    if not directory.exists():
        return [f"{directory} is not there: nothing was exported"]
    with directories(directory, state):
        async with publishing(state, LOCK_WAIT_S):
            await in_thread(sweep, directory, state)
            manifest = read_manifest(directory)
            if manifest is None:
                return [f"{MANIFEST_NAME} is not there or cannot be read"]
            ledger = await in_thread(load_ledger, state)
            if not is_intact(manifest, ledger, directory):
                return [f"{MANIFEST_NAME} was changed by someone else"]
            refuse_foreign(manifest, ledger, source.database, source.identity, directory)
            timestamp = manifest.read_at
            if timestamp is None:
                return [f"{MANIFEST_NAME}: the time stamp {manifest.timestamp!r} is none"]
            async with derived(source, settings, formats, state, None, full=True, progress=progress) as edition:
                tree = replace(edition.tree(), timestamp=timestamp)
                return await in_thread(_compare, edition, tree, manifest, directory)


def changed_encoders(settings: Settings) -> list[str]:
    """The names of the encoders that changed since the files were written: then a difference may be theirs."""
    ledger = load_ledger(settings.state_dir.absolute())
    return changed(ledger.encoders, fingerprints()) if ledger is not None else []


def _compare(edition: Edition, tree: Tree, manifest: Manifest, directory: Path) -> list[str]:
    layouts = lay_out_all(edition, tree)
    found = list(_manifest_differences(edition, tree, layouts, manifest))
    for layout, output in zip(layouts, edition.formats, strict=True):
        found += _file_differences(edition, tree, layout, output, directory)
    return found


def _manifest_differences(
    edition: Edition, tree: Tree, layouts: Sequence[Layout], manifest: Manifest
) -> Iterator[str]:
    expected = make_manifest(edition, tree, layouts, None, 0.0)
    if (directory_files := set(manifest.files)) != set(expected.files):
        names = ", ".join(sorted(directory_files ^ set(expected.files)))
        yield f"{MANIFEST_NAME}: the outputs are not those of the settings: {names}"
    for name in expected.files.keys() & directory_files:
        if manifest.files[name] != expected.files[name]:
            recorded, derived_ = manifest.files[name], expected.files[name]
            yield (
                f"{MANIFEST_NAME}: {name} is recorded with {recorded.bytes:,} bytes, {recorded.rows:,} rows and "
                f"{recorded.digest}; the database gives {derived_.bytes:,} bytes, {derived_.rows:,} rows and "
                f"{derived_.digest}"
            )
    # What else it counts (orphans, soft-deleted rows, repaired and guarded values) can change while no byte of the
    # files does: then nothing is published.
    if manifest.counts != expected.counts:
        yield f"{MANIFEST_NAME}: counts is {manifest.counts}, the database gives {expected.counts}"


def _file_differences(edition: Edition, tree: Tree, layout: Layout, output: Format, directory: Path) -> list[str]:
    """The first difference of a file, and its size if that differs."""
    try:
        descriptor = os.open(directory / layout.file_name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return [f"{layout.file_name}: {(error.strerror or str(error)).lower()}"]
    try:
        found = []
        size = os.fstat(descriptor).st_size
        if size != layout.length:
            found.append(f"{layout.file_name}: {size:,} bytes, the database gives {layout.length:,}")
        spool = spool_of(edition, layout)
        at = 0
        for piece in layout.pieces:
            for expected in contents(piece, spool, descriptor, layout.file_name):
                there = os.pread(descriptor, len(expected), at)
                if there != expected:
                    offset = at + _common(there, expected)
                    return [*found, _in_words(edition, tree, layout, output, descriptor, offset)]
                at += len(expected)
        return found
    finally:
        os.close(descriptor)


def _in_words(edition: Edition, tree: Tree, layout: Layout, output: Format, descriptor: int, offset: int) -> str:
    """Where a difference is: project, dataset and image, or the part of the file above the images."""
    place = f"{layout.file_name}, byte {offset:,}"
    there = os.pread(descriptor, _SHOWN, offset)
    owner = next((item for item in _parts(tree, layout) if item[1] <= offset < item[1] + item[2].length), None)
    shown = f"the file has {_quoted(there)}"
    if owner is None:
        return f"{place}, outside the images: {shown}"
    number, start, part = owner
    record = edition.records[number]
    project, dataset = edition.builder.places[record.dataset]
    spool = spool_of(edition, layout)
    body = os.pread(spool, part.length, part.offset) if spool is not None else b""
    image = output.image_at(body, offset - start)
    expected = body[offset - start : offset - start + _SHOWN]
    above = [str(node.values[name]) for node in (project, dataset) for name in ("id", "name")]
    return (
        "{}: project {} ({}), dataset {} ({}), ".format(place, *above)
        + f"image {image}: {shown}, the database gives {_quoted(expected)}"
    )


def _parts(tree: Tree, layout: Layout) -> Iterator[tuple[int, int, Part]]:
    """Number, offset in the file and part of each block, in the order of the file."""
    numbers = (number for project in tree.projects for dataset in project.datasets for number in dataset.blocks)
    for number, (start, part) in zip(numbers, layout.offsets, strict=False):
        yield number, start, part


def _common(left: bytes, right: bytes) -> int:
    """How many bytes two strings begin with alike."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle - 1)
    return low


def _quoted(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))
