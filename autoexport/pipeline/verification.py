"""Derives the files from the database again and compares every byte with the published ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from autoexport.formats.contract import Format, RowFormat
from autoexport.incremental.ledger import load_ledger
from autoexport.model.tree import Tree
from autoexport.pipeline import lake
from autoexport.pipeline.derive import derive
from autoexport.pipeline.generation import Generation
from autoexport.pipeline.job import ExportJob
from autoexport.pipeline.ownership import claim
from autoexport.publishing.label_files import differing
from autoexport.publishing.layout import Layout
from autoexport.publishing.manifest import MANIFEST_NAME, FileRecord, Manifest
from autoexport.publishing.splice import contents
from autoexport.runtime.progress import Progress
from autoexport.runtime.threads import in_thread
from autoexport.runtime.wording import counted
from autoexport.values.encoders import changed

_SHOWN = 60
"""The number of bytes of a difference that are shown from each side."""


async def differences(job: ExportJob, progress: Progress | None = None, *, hold: bool = True) -> list[str]:
    """The differences between the files and a fresh snapshot of the database, one line each. It publishes nothing.

    `hold`: hold the target, so that no exporter publishes meanwhile. A user who may only read cannot. Raises
    `AutoexportError` if the database or the files cannot be read.
    """
    target = job.target
    if not target.directory.exists() and not target.elsewhere:
        return [f"{target.directory} is missing: nothing was exported"]
    async with target.hold() if hold else contextlib.nullcontext():
        claimed = await claim(job)
        manifest = await in_thread(target.read_manifest)
        if manifest is None:
            return [f"{MANIFEST_NAME} is missing or cannot be read"]
        if not claimed.intact:
            return [f"{MANIFEST_NAME} was changed by another program"]
        timestamp = manifest.read_at
        if timestamp is None:
            return [f"{MANIFEST_NAME}: {manifest.timestamp!r} is no time stamp"]
        async with derive(job, None, full=True, progress=progress, complete=False) as generation:
            tree = replace(generation.tree(), timestamp=timestamp)
            # The copies in the directory do not count if another exporter published since.
            copies = None if target.overtaken() else target.directory
            found = await in_thread(_compare, generation, tree, manifest, copies)
        found += await target.differences(manifest)
        # The lake is compared with the files, if these are those of the database.
        return found if found or copies is None else [*await lake.differences(job, manifest, progress)]


def changed_encoders(job: ExportJob) -> list[str]:
    """The names of the encoders that changed since the files were written. This may explain a difference."""
    ledger = load_ledger(job.state)
    return changed(ledger.encoders, job.encoders()) if ledger is not None else []


def _compare(generation: Generation, tree: Tree, manifest: Manifest, directory: Path | None) -> list[str]:
    layouts = generation.lay_out(tree)
    found = list(_manifest_differences(generation, tree, layouts, manifest))
    if directory is None:
        return found
    # The contents of the page and of the history do not follow from the database alone.
    found += [f"{name}: it is missing" for name in manifest.beside if not (directory / name).is_file()]
    for layout in layouts:
        found += _file_differences(generation, layout, generation.formats[layout.output], directory)
    found += [f"{name}: not as the database gives it" for name in differing(directory, generation.small_files())]
    return found


def _manifest_differences(
    generation: Generation, tree: Tree, layouts: Sequence[Layout], manifest: Manifest
) -> Iterator[str]:
    expected = generation.manifest(tree, layouts, None, 0.0)
    if manifest.files.keys() != expected.files.keys():
        names = ", ".join(sorted(manifest.files.keys() ^ expected.files.keys()))
        yield f"{MANIFEST_NAME}: the outputs are not those of the settings: {names}"
    for name in expected.files.keys() & manifest.files.keys():
        recorded, derived = manifest.files[name], expected.files[name]
        if recorded != derived:
            yield (
                f"{MANIFEST_NAME}: {name} is recorded with {_sizes(recorded)}; "
                f"the database gives {_sizes(derived)}"
            )
    # Orphans, soft-deleted rows, repaired and guarded values are not compared. Their counts can change without a
    # byte of the files, and then nothing is published.
    if manifest.counts != expected.counts:
        yield f"{MANIFEST_NAME}: counts is {manifest.counts}, the database gives {expected.counts}"


def _sizes(record: FileRecord) -> str:
    return f"{counted(record.bytes, 'byte')}, {counted(record.rows, 'row')} and {record.digest}"


def _file_differences(generation: Generation, layout: Layout, output: Format, directory: Path) -> list[str]:
    """The first difference of a file, and its size if that differs."""
    try:
        descriptor = os.open(directory / layout.file_name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return [f"{layout.file_name}: {(error.strerror or str(error)).lower()}"]
    try:
        found = []
        size = os.fstat(descriptor).st_size
        if size != layout.length:
            found.append(f"{layout.file_name}: {counted(size, 'byte')}, the database gives {layout.length:,}")
        spools = generation.spools_of(layout)
        offset = 0
        for piece in layout.pieces:
            for expected in contents(piece, spools, descriptor, layout.file_name):
                published = os.pread(descriptor, len(expected), offset)
                if published != expected:
                    offset += _common(published, expected)
                    return [*found, _describe(generation, layout, output, descriptor, offset)]
                offset += len(expected)
        return found
    finally:
        os.close(descriptor)


def _describe(generation: Generation, layout: Layout, output: Format, descriptor: int, offset: int) -> str:
    """Describe the difference at a byte of the file, with its project, dataset and image if it is in a block."""
    place = f"{layout.file_name}, byte {offset:,}"
    published = os.pread(descriptor, _SHOWN, offset)
    shown = f"the file has {_quoted(published)}"
    if isinstance(output, RowFormat):
        return f"{place}: {shown}"
    owner = generation.sections.block_at(layout, offset)
    if owner is None:
        return f"{place}, outside the images: {shown}"
    record, start, part, index = owner
    ((project, dataset),), _ = generation.builder.owners([record.dataset])
    spools = generation.spools_of(layout)
    body = os.pread(spools[index], part.length, part.offset)
    image = output.image_at(body, offset - start)
    expected = body[offset - start : offset - start + _SHOWN]
    above = [str(node.values[name]) for node in (project, dataset) for name in ("id", "name")]
    return (
        "{}: project {} ({}), dataset {} ({}), ".format(place, *above)
        + f"image {image}: {shown}, the database gives {_quoted(expected)}"
    )


def _common(left: bytes, right: bytes) -> int:
    """The length of the common beginning of two byte strings."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[:middle] == right[:middle] else (low, middle - 1)
    return low


def _quoted(text: bytes) -> str:
    return repr(text.decode("utf-8", "replace"))
