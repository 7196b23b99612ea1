"""The files that are written: one line here and one file beside this one for each format."""

from __future__ import annotations

from autoexport.contracts import Format
from autoexport.formats.csv_table import DatasetsTable, ImagesTable, ProjectsTable
from autoexport.formats.json_document import JsonDocument
from autoexport.settings import Settings

FILE_NAMES = ("database_export.json", "projects.csv", "datasets.csv", "images.csv")
"""Every file that a format may write, in the order of publication."""


def chosen_formats(settings: Settings) -> list[Format]:
    """The formats that the settings switch on, in the order of publication."""
    formats: list[Format] = []
    if settings.export_json:
        formats.append(JsonDocument(settings.json_style))
    if settings.export_csv:
        guard, bom = settings.csv_guard, settings.csv_bom
        formats += [ProjectsTable(guard, bom), DatasetsTable(guard, bom), ImagesTable(guard, bom)]
    return formats
