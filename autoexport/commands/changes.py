"""Prints what changed since a generation of the files, as JSON for programs."""

from __future__ import annotations

import orjson

from autoexport.commands.terminal import say
from autoexport.config.settings import Settings
from autoexport.errors import PublishError
from autoexport.overview.change_log import CHANGES_NAME, since
from autoexport.publishing.manifest import MANIFEST_NAME, Manifest


def changes(settings: Settings, generation: int) -> int:
    """Print the changes after this generation as one line of JSON, from the files alone; returns the exit code.

    Raises `PublishError` if nothing is published.
    """
    directory = settings.export_directory
    try:
        manifest = Manifest.from_json((directory / MANIFEST_NAME).read_bytes())
    except OSError:
        manifest = None
    if manifest is None:
        raise PublishError(
            f"{directory} has no {MANIFEST_NAME} of this program.",
            hint="Run `python -m autoexport` once, or name the directory with --export-dir.",
        )
    try:
        text = (directory / CHANGES_NAME).read_bytes() if CHANGES_NAME in manifest.beside else b""
    except OSError:
        text = b""
    found = since(text, generation, manifest.generation, manifest.timestamp)
    say(orjson.dumps(found).decode())
    return 0
