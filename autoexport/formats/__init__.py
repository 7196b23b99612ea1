"""The files that are written: one line here and one file beside this one for each format."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import xxhash

from autoexport.config.settings import Settings
from autoexport.formats.csv_table import DatasetsTable, ImagesTable, ProjectsTable
from autoexport.formats.json_document import JsonDocument

if TYPE_CHECKING:
    from autoexport.formats.contract import Format
    from autoexport.formats.json_document import JsonStyle

FILE_NAMES = ("database_export.json", "projects.csv", "datasets.csv", "images.csv")
"""Every file that a format may write, in the order of publication."""


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What the settings say about the files."""

    export_json: bool
    export_csv: bool
    json_style: JsonStyle
    csv_guard: bool
    csv_bom: bool

    @classmethod
    def of(cls, settings: Settings) -> FormatOptions:
        """The part of the settings that formats look at."""
        return cls(
            settings.export_json, settings.export_csv, settings.json_style, settings.csv_guard, settings.csv_bom
        )


def chosen_formats(options: FormatOptions | Settings) -> list[Format]:
    """The formats that are switched on, in the order of publication."""
    formats: list[Format] = []
    if options.export_json:
        formats.append(JsonDocument(options.json_style))
    if options.export_csv:
        guard, bom = options.csv_guard, options.csv_bom
        formats += [ProjectsTable(guard, bom), DatasetsTable(guard, bom), ImagesTable(guard, bom)]
    return formats


def settings_digest(settings: Settings) -> str:
    from autoexport.version import __version__

    chosen = (__version__, *astuple(FormatOptions.of(settings)))
    return xxhash.xxh3_64_hexdigest(repr(chosen).encode("utf-8", "surrogateescape"))
