"""Merges the settings from arguments, environment variables, `.env` and the configuration file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, DotEnvSettingsSource

from autoexport.config.database_url import parse_database_url
from autoexport.config.object_url import is_object_url
from autoexport.errors import ConfigurationError

PREFIX = "DB_EXPORT_"
CONFIG_FILE = Path("autoexport.toml")
DATABASE_FILE = Path("database.db")
FLAGS: Mapping[str, str] = {
    "database_url": "--database-url",
    "export_directory": "--export-dir",
    "check_interval": "--interval",
    "enable_hooks": "--disable-hooks",
    "lake": "--lake",
    "workers": "--workers",
    "listen": "--listen",
    "log_format": "--log-format",
    "log_level": "--log-level",
}


@dataclass(frozen=True, slots=True)
class Given:
    """A value of one setting. `place` names its place in error messages; it is empty for arguments."""

    value: object
    place: str


@dataclass(slots=True)
class Layers:
    """The merged settings of all places. The first place that has a setting wins.

    `chosen` is the winning value by setting. `hidden` are the values that lost; they must be valid as well.
    `overruled` is the place, by setting, whose value a different flag overrules.
    """

    chosen: dict[str, Given] = field(default_factory=dict)
    hidden: list[tuple[str, Given]] = field(default_factory=list)
    overruled: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def add(self, found: Mapping[str, Given]) -> None:
        """Add the next place: its values count for settings that no earlier place has."""
        for name, given in found.items():
            winner = self.chosen.setdefault(name, given)
            if winner is given:
                continue
            self.hidden.append((name, given))
            differs = str(given.value).lower() != str(winner.value).lower()
            if winner.place == FLAGS.get(name) and differs:
                self.overruled.setdefault(name, given.place)

    def values(self) -> dict[str, Any]:
        """The winning values by setting."""
        return {name: given.value for name, given in self.chosen.items()}


def merge(
    arguments: Mapping[str, object], flags: Collection[str], config_file: Path | None, known: list[str]
) -> Layers:
    """Merge arguments, variables, `.env`, the configuration file and the fallback for the database.

    `flags` are the arguments that came from the command line; `known` are the names of all settings. Raises
    `ConfigurationError` for an unknown name in the file, and for a file that cannot be read.
    """
    layers = Layers()
    layers.add({name: Given(value, FLAGS[name] if name in flags else "") for name, value in arguments.items()})
    dotenv = _dotenv()
    names = [name for name in known if name != "tables"]
    layers.add(_variables(os.environ, "", names))
    layers.add(_variables(dotenv, " in .env", names))
    layers.warnings = tuple(
        dict.fromkeys(
            warning
            for place, variables in ((" in .env", dotenv), ("", os.environ))
            for warning in _unknown_variables(variables, place, names)
        )
    )
    layers.add(_configuration_file(config_file, known))
    if "database_url" not in layers.chosen:
        layers.add(_fallback_database(dotenv))
    return layers


def _variables(variables: Mapping[str, str | None], place: str, known: list[str]) -> dict[str, Given]:
    """The `DB_EXPORT_` variables of one place; an empty one counts as unset."""
    found: dict[str, Given] = {}
    for variable, value in variables.items():
        name = _setting_of(variable)
        if value and name in known:
            found[name] = Given(value, f"{PREFIX}{name.upper()}{place}")
    return found


def _setting_of(variable: str) -> str:
    """The setting that a variable names; empty for a variable of another program."""
    return variable[len(PREFIX) :].lower() if variable.upper().startswith(PREFIX) else ""


def _unknown_variables(variables: Mapping[str, str | None], place: str, known: list[str]) -> list[str]:
    return [
        _unknown_variable(variable + place, name, known)
        for variable in variables
        if (name := _setting_of(variable)) not in known and variable.upper().startswith(PREFIX)
    ]


def _configuration_file(named: Path | None, known: list[str]) -> dict[str, Given]:
    """The settings of `./autoexport.toml` or the named file. Relative paths in it are relative to the file."""
    path = named if named is not None else CONFIG_FILE
    if named is None and not path.exists():
        return {}
    values = _read_toml(path)
    for name in values:
        if name not in known and isinstance(values[name], dict) and set(values[name]) & set(known):
            raise ConfigurationError(
                f"[{name}] in {path} is a table, and the settings stand outside of tables.",
                hint=f"Remove the line [{name}]: the settings below it then count. Only [tables.…] are tables.",
            )
        if name not in known:
            nearest = nearest_name(name.lower().removeprefix(PREFIX.lower()), known)
            meant = f"Did you mean '{nearest}'? " if nearest else ""
            raise ConfigurationError(
                f"Unknown setting '{name}' in {path}.", hint=f"{meant}Allowed are {', '.join(known)}."
            )
    for name in ("export_directory", "state_directory", "working_directory", "metrics_textfile"):
        if isinstance(values.get(name), str) and not is_object_url(values[name]):
            values[name] = str(path.parent / os.path.expanduser(values[name]))
    if isinstance(lake := values.get("lake"), str) and lake.strip() and "://" not in lake:
        values["lake"] = str(path.parent / os.path.expanduser(lake.strip()))
    if isinstance(url := values.get("database_url"), str) and url.strip():
        database = parse_database_url(url)
        if database.path is not None:
            values["database_url"] = str((path.parent / database.path).absolute())
    return {name: Given(value, f"'{name}' in {path}") for name, value in values.items()}


def _fallback_database(dotenv: Mapping[str, str | None]) -> dict[str, Given]:
    """The database if no setting names one: DATABASE_URL, else `database.db` in the working directory."""
    if url := os.environ.get("DATABASE_URL") or dotenv.get("DATABASE_URL"):
        return {"database_url": Given(url, "DATABASE_URL")}
    if DATABASE_FILE.is_file():
        return {"database_url": Given(str(DATABASE_FILE), str(DATABASE_FILE))}
    return {}


def _dotenv() -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(BaseSettings, env_file=".env", case_sensitive=True).env_vars
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(
            "The file .env cannot be read.", hint="Make it readable UTF-8 text, or remove it."
        ) from exc


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read: {exc.strerror}.",
            hint="Check the path and that this user may read it.",
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigurationError(
            f"The configuration file {path} is not UTF-8 text.", hint="Save it as UTF-8."
        ) from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigurationError(
            f"The configuration file {path} is not valid TOML: {exc}.",
            hint='Text values need quotes: export_directory = "exports".',
        ) from exc


def nearest_name(name: str, known: list[str]) -> str | None:
    """The known name that is most similar, and so was probably meant; None if none is similar."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def _unknown_variable(variable: str, name: str, known: list[str]) -> str:
    nearest = nearest_name(name, known)
    meant = f"; the nearest known name is {PREFIX}{nearest.upper()}" if nearest else ""
    return f"{variable} is not a setting and is ignored{meant}"
