"""Counts for `check` the rows that formats for training would leave out, and looks at the unit of the boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoexport.formats import chosen_formats
from autoexport.formats.contract import FileSetFormat, FormatOptions
from autoexport.formats.training.units import Extent
from autoexport.model.blocks import BlockRows
from autoexport.model.scratch import MemoryScratch
from autoexport.pipeline.training import learn_all, prepare
from autoexport.publishing.contract import Target
from autoexport.rendering.bodies import each_block
from autoexport.rendering.tree import TreeBuilder
from autoexport.runtime.threads import in_thread
from autoexport.sources.reader import SnapshotReader
from autoexport.values.block import render_together, ruled_parents


@dataclass(slots=True)
class TrainingFindings:
    """The rows that each format leaves out, by reason, and a warning about the unit of the boxes, or nothing."""

    left_out: dict[str, dict[str, int]] = field(default_factory=dict)
    warning: str = ""


async def training_findings(
    reader: SnapshotReader, database: str, options: FormatOptions, target: Target, state: Path
) -> TrainingFindings:
    """Render all blocks without keeping them, if a format for training is on. Raises `SourceError`."""
    if not any(isinstance(output, FileSetFormat) for output in chosen_formats(options)):
        return TrainingFindings()
    parents = await reader.parents()
    builder = TreeBuilder(parents, reader.tables.mapping, database, ruled_parents, MemoryScratch())
    training = await prepare(reader, builder, options, target, state)
    await learn_all(training, reader, builder)
    builder.training = training.of_projects()
    formats = [made for made in chosen_formats(training.options(options)) if isinstance(made, FileSetFormat)]
    counted: Mapping[str, Counter[str]] = {output.file_name: Counter() for output in formats}
    extent = Extent()
    async for rows in reader.blocks():
        await in_thread(_count, rows, reader, builder, formats, counted, extent)
    left_out = {
        name: {reason.partition(".")[2]: count for reason, count in sorted(own.items()) if count}
        for name, own in counted.items()
    }
    for output in formats:
        for name in output.published_tallies:
            left_out[output.file_name].pop(name.partition(".")[2], None)
    return TrainingFindings(left_out, extent.warning(options["box_units"]))


def _count(
    rows: BlockRows,
    reader: SnapshotReader,
    builder: TreeBuilder,
    formats: Sequence[FileSetFormat],
    counted: Mapping[str, Counter[str]],
    extent: Extent,
) -> None:
    block, _ = render_together(rows, reader.tables.mapping)
    extent.add(block)
    members = rows.blocks()
    owners, _ = builder.owners([dataset for dataset, _ in members])
    for own, owner in zip(each_block(block, [length for _, length in members]), owners, strict=True):
        for output in formats:
            counted[output.file_name].update(output.parts(own, *owner)[1])
