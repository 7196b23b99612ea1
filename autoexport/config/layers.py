"""Where settings come from besides the constructor: variables, `.env`, the configuration file."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, DotEnvSettingsSource, PydanticBaseSettingsSource

from autoexport.config.database_url import parse_database_url
from autoexport.errors import ConfigurationError

PREFIX = "DB_EXPORT_"
CONFIG_FILE = Path("autoexport.toml")
DATABASE_FILE = Path("database.db")
FLAGS: Mapping[str, str] = {
    "database_url": "--database-url",
    "export_directory": "--export-dir",
    "check_interval": "--interval",
    "enable_hooks": "--disable-hooks",
    "log_format": "--log-format",
    "log_level": "--log-level",
}


class Layer(PydanticBaseSettingsSource):
    """One place where settings come from; it gives way, as a whole value, to the places before it.

    Beside the values it hands on where each was found (`origins`), which settings found here give way to a flag
    that says otherwise (`overruled`), and the values that give way (`hidden`): they have to be good as well.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # the layer is read as a whole

    def _missing(
        self, found: Mapping[str, tuple[object, str]], replaced: Sequence[tuple[str, object, str]] = ()
    ) -> dict[str, Any]:
        fresh = {name: item for name, item in found.items() if name not in self.current_state}
        values: dict[str, Any] = {name: value for name, (value, _) in fresh.items()}
        hidden = [*replaced] + [(name, *item) for name, item in found.items() if name not in fresh]
        origins = {name: origin for name, (_, origin) in fresh.items()}
        return values | {"origins": origins, "hidden": {origin: (name, value) for name, value, origin in hidden}}

    def _overruled(self, found: Mapping[str, tuple[object, str]]) -> dict[str, Any]:
        flags = [name for name in found if name in FLAGS and name in self.current_state]
        flags = [name for name in flags if self.current_state.get("origins", {}).get(name) == FLAGS[name]]
        differing = [n for n in flags if str(found[n][0]).lower() != str(self.current_state[n]).lower()]
        return {"overruled": {name: found[name][1] for name in differing}}


class Variables(Layer):
    """`DB_EXPORT_` variables of the environment, then of `.env`. An empty one counts as not set."""

    def __call__(self) -> dict[str, Any]:
        known = [name for name in self.settings_cls.model_fields if name != "tables"]
        found: dict[str, tuple[object, str]] = {}
        replaced: list[tuple[str, object, str]] = []
        warnings: dict[str, None] = {}
        for place, variables in ((" in .env", _dotenv()), ("", os.environ)):
            for variable, value in variables.items():
                if not variable.upper().startswith(PREFIX):
                    continue
                name = variable[len(PREFIX) :].lower()
                if name not in known:
                    warnings[_unknown_variable(variable + place, name, known)] = None
                elif value:
                    if name in found:
                        replaced.append((name, *found[name]))
                    found[name] = (value, f"{PREFIX}{name.upper()}{place}")
        return self._missing(found, replaced) | self._overruled(found) | {"warnings": tuple(warnings)}


class ConfigurationFile(Layer):
    """`./autoexport.toml`, or the file that was named; relative paths in it are relative to it."""

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("config_file")
        path = Path(named) if named is not None else CONFIG_FILE
        if named is None and not path.exists():
            return {}
        values = _read_toml(path)
        known = list(self.settings_cls.model_fields)
        for name in values:
            if name not in known:
                nearest = nearest_name(name.lower().removeprefix(PREFIX.lower()), known)
                meant = f"Did you mean '{nearest}'? " if nearest else ""
                raise ConfigurationError(
                    f"Unknown setting '{name}' in {path}.", hint=f"{meant}Allowed are {', '.join(known)}."
                )
        for name in ("export_directory", "state_directory"):
            if isinstance(values.get(name), str):
                values[name] = str(path.parent / os.path.expanduser(values[name]))
        if isinstance(url := values.get("database_url"), str) and url.strip():
            database = parse_database_url(url)
            if database.path is not None:
                values["database_url"] = str((path.parent / database.path).absolute())
        found = {name: (value, f"'{name}' in {path}") for name, value in values.items()}
        return self._missing(found) | self._overruled(found)


class Fallbacks(Layer):
    """Where a database is looked for when no setting names one; else these are none of our business."""

    def __call__(self) -> dict[str, Any]:
        if "database_url" in self.current_state:
            return {}
        found: dict[str, tuple[object, str]] = {}
        if url := os.environ.get("DATABASE_URL") or _dotenv().get("DATABASE_URL"):
            found["database_url"] = (url, "DATABASE_URL")
        elif DATABASE_FILE.is_file():
            found["database_url"] = (str(DATABASE_FILE), str(DATABASE_FILE))
        return self._missing(found)


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
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def _unknown_variable(variable: str, name: str, known: list[str]) -> str:
    nearest = nearest_name(name, known)
    meant = f"; the nearest known name is {PREFIX}{nearest.upper()}" if nearest else ""
    return f"{variable} is not a setting and is ignored{meant}"
