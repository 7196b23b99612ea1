"""The registry of output formats. A new format is one line here and one file beside this one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from autoexport.config.options import Option
from autoexport.errors import ConfigurationError
from autoexport.formats.contract import Format, FormatOptions, Output

FORMATS = {
    "json": "autoexport.formats.json_document:OUTPUT",
    "csv": "autoexport.formats.csv_table:OUTPUT",
    "annotations_csv": "autoexport.formats.annotations_csv:OUTPUT",
    "jsonl": "autoexport.formats.json_lines:OUTPUT",
    "parquet": "autoexport.formats.parquet:OUTPUT",
    "coco": "autoexport.formats.coco:OUTPUT",
    "yolo": "autoexport.formats.yolo:OUTPUT",
}
"""The `Output` of each format, as `module:name`, in the order of publication."""


def outputs() -> Iterator[Output]:
    """Every registered output, on or off, in the order of publication."""
    for declared in FORMATS.values():
        module, _, name = declared.partition(":")
        yield getattr(import_module(module), name)


def declared_options() -> list[Option]:
    """The options of all outputs, those that several share once. The settings have a field for each."""
    options = {option.name: option for output in outputs() for option in (output.switch, *output.options)}
    return list(options.values())


def chosen_formats(options: FormatOptions) -> list[Format]:
    """The formats of the outputs that are on, in the order of publication.

    Raises `ConfigurationError` if all are off.
    """
    chosen = [made for output in outputs() if options[output.switch.name] for made in output.make(options)]
    if not chosen:
        switches = ", ".join(f"DB_EXPORT_{output.switch.name.upper()}" for output in outputs())
        raise ConfigurationError(
            "No output is switched on, so there is nothing to write.",
            hint=f"Set one of these to true: {switches}.",
        )
    return chosen


def format_of(module: str, file_name: str, options: FormatOptions) -> Format:
    """The format of one file, made by the module that declares it. No other format is imported."""
    output: Output = import_module(module).OUTPUT
    (made,) = [made for made in output.make(options) if made.file_name == file_name]
    return made


def file_names() -> tuple[str, ...]:
    """The names of all files that an output may write, in the order of publication."""
    return tuple(name for output in outputs() for name in output.file_names)


def file_patterns() -> tuple[str, ...]:
    """The patterns of all files in folders that an output may write."""
    return tuple(pattern for output in outputs() for pattern in output.patterns)
