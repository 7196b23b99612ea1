"""Chooses the outputs of an export in tests: all of them, or the default ones."""

from __future__ import annotations

from autoexport.formats import outputs

ALL_OUTPUTS: dict[str, bool] = {output.switch.name: True for output in outputs()}
"""The settings that turn every output on."""

ALL_OUTPUT_VARIABLES = {f"DB_EXPORT_{name.upper()}": "true" for name in ALL_OUTPUTS}
"""The environment variables that turn every output on."""

DEFAULT_FILES = tuple(name for output in outputs() if output.switch.default for name in output.file_names)
"""The files that are written without any setting, in the order of publication."""
