"""Explains a bad value of a setting: its name, its place and the allowed values."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from autoexport.config import lake, object_url, operations
from autoexport.config.layers import nearest_name
from autoexport.config.options import Option
from autoexport.errors import ConfigurationError

_SECRET = ("database_url", "tables", "heartbeat_url", "on_publish")
"""The settings whose values no message shows."""

_ALLOWED: Mapping[str, str] = {
    **operations.ALLOWED,
    **object_url.ALLOWED,
    **lake.ALLOWED,
    "check_interval": "a number of seconds from 0.05 to 86400",
    "pace": "a number from 0.001 to 10: the share of a core that a daemon's exports may use",
    "workers": "a number of processes from 1 to 64",
    "pg_statement_timeout": "a number of seconds from 0 (keep the server's setting) to 2000000",
    "environment": "development, production or testing",
    "log_format": "json or console",
    "log_level": "debug, info, warning, error or critical",
    "state_directory": "the path of a directory",
    "database_url": "a database URL or the path of a SQLite file, as text",
    "tables": "tables such as [tables.images] with table, schema and columns",
}


def explained(
    exc: ValidationError, places: Mapping[str, str], known: list[str], options: Mapping[str, Option]
) -> ConfigurationError:
    """The first error as a message that names the setting, its place and the allowed values.

    `places` are the places of the values, `known` the names of all settings, `options` those of the formats.
    """
    error = exc.errors(include_url=False, include_context=False)[0]
    name = str(error["loc"][0]) if error["loc"] else ""
    if name not in known:
        nearest = nearest_name(name, known)
        meant = f"Did you mean '{nearest}'? " if nearest else ""
        return ConfigurationError(f"Unknown setting '{name}'.", hint=f"{meant}Allowed are {', '.join(known)}.")
    place = places.get(name)
    where = f" ({place})" if place else ""
    bad = "" if name in _SECRET else f": {str(error['input'])[:60]!r}"
    allowed = options[name].allowed if name in options else _ALLOWED.get(name, "true or false")
    return ConfigurationError(f"The setting {name}{where} has a bad value{bad}.", hint=f"Allowed: {allowed}.")
