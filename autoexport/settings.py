"""Every option of the program: named once, defaulted once, validated once."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from autoexport.database_url import DatabaseURL, parse_database_url
from autoexport.errors import ConfigurationError

PREFIX = "DB_EXPORT_"
CONFIG_FILE = Path("autoexport.toml")
DATABASE_FILE = Path("database.db")

Environment = Literal["development", "production", "testing"]
LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

FLAGS: Mapping[str, str] = {
    "database_url": "--database-url",
    "export_directory": "--export-dir",
    "check_interval": "--interval",
    "enable_hooks": "--disable-hooks",
    "log_format": "--log-format",
    "log_level": "--log-level",
}
_BY_ENVIRONMENT: Mapping[Environment, tuple[LogFormat, LogLevel]] = {
    "development": ("console", "debug"),
    "production": ("json", "info"),
    "testing": ("console", "warning"),
}


def _word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _home(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("empty")
    return os.path.expanduser(value) if isinstance(value, str) else value


Word = BeforeValidator(_word)
Directory = Annotated[Path, BeforeValidator(_home)]


class Settings(BaseSettings):
    """The settings of one exporter; frozen.

    What is passed to the constructor counts first, then `DB_EXPORT_` variables, `.env` and
    `./autoexport.toml` (`config_file` names another one), then the defaults. Raises
    `ConfigurationError`, which names the setting and the allowed values, for anything wrong in any
    of them. `database_url` is empty where no database was named and none was found.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, hide_input_in_errors=True, validate_default=False
    )

    enable_auto_export: bool = True
    enable_monitoring: bool = True
    export_directory: Directory = Path("database_exports")
    check_interval: float = Field(10.0, ge=0.05, le=86_400, allow_inf_nan=False)
    export_json: bool = True
    export_csv: bool = True
    environment: Annotated[Environment, Word] = "development"
    database_url: str = Field("", repr=False)
    enable_hooks: bool = True
    json_style: Annotated[Literal["records", "pretty"], Word] = "records"
    csv_guard: bool = True
    csv_bom: bool = False
    state_directory: Directory | None = None
    pg_prepared_statements: bool = True
    pg_statement_timeout: float = Field(0.0, ge=0, le=2_000_000, allow_inf_nan=False)
    log_format: Annotated[LogFormat | None, Word] = None
    log_level: Annotated[LogLevel | None, Word] = None
    tables: dict[str, Any] = Field(default_factory=dict)

    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _overruled: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def load(cls, config_file: Path | None = None, **overrides: object) -> Self:
        """Settings for the command line: `overrides` are the flags that were given, None is "not given"."""
        given = {name: value for name, value in overrides.items() if value is not None}
        given["origins"] = {name: FLAGS[name] for name in given if name in FLAGS}
        if config_file is not None:
            given["config_file"] = config_file
        return cls(**given)  # type: ignore[arg-type]

    @property
    def database(self) -> DatabaseURL:
        """The database to read. Raises `ConfigurationError` where none is named and none was found."""
        return parse_database_url(self.database_url)

    @property
    def resolved_database_url(self) -> str:
        """`database_url`, password included. Raises as `database` does where there is none."""
        return self.database_url if self.database_url.strip() else self.database.display

    @property
    def state_dir(self) -> Path:
        """The private directory: `state_directory`, or `.autoexport` in the export directory."""
        return self.state_directory or self.export_directory / ".autoexport"

    @property
    def effective_log_format(self) -> LogFormat:
        """The log format that was asked for, or that of the environment."""
        return self.log_format or _BY_ENVIRONMENT[self.environment][0]

    @property
    def effective_log_level(self) -> LogLevel:
        """The log level that was asked for, or that of the environment."""
        return self.log_level or _BY_ENVIRONMENT[self.environment][1]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the settings but no error; whoever starts the exporter logs it."""
        return self._warnings

    def monitoring(self, explicit: bool = False) -> bool:
        """Whether to keep watching; `explicit` is `--monitor`, which wins over everything."""
        return explicit or (self.enable_monitoring and self.environment != "production")

    def disagreements(self, monitor: bool) -> tuple[str, ...]:
        """A line for each place where a flag (`--monitor` or its absence, too) and a setting disagree:
        it says which won."""
        lines = [f"{FLAGS[name]} wins over {place}" for name, place in self._overruled.items()]
        if monitor and self.environment == "production":
            lines.append(f"--monitor wins over {PREFIX}ENVIRONMENT=production: monitoring")
        elif monitor and not self.enable_monitoring:
            lines.append(f"--monitor wins over {PREFIX}ENABLE_MONITORING=false: monitoring")
        elif not monitor and "enable_monitoring" in self.model_fields_set and self.monitoring():
            lines.append(f"no --monitor wins over {PREFIX}ENABLE_MONITORING=true: one export")
        return tuple(lines)

    @field_validator("database_url")
    @classmethod
    def _database_url_parses(cls, value: str) -> str:
        if value.strip():
            parse_database_url(value)
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, values: Any, handler: Callable[[Any], Self]) -> Self:
        values = dict(values)
        origins: dict[str, str] = values.pop("origins", {})
        overruled: dict[str, str] = values.pop("overruled", {})
        warnings: tuple[str, ...] = values.pop("warnings", ())
        values.pop("config_file", None)
        try:
            settings = handler(values)
        except ValidationError as exc:
            raise _explained(exc, origins) from None  # its text is ours now, and its input may be a secret
        settings._warnings, settings._overruled = warnings, overruled
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (
            init_settings,
            _Variables(settings_cls),
            _ConfigurationFile(settings_cls),
            _Fallbacks(settings_cls),
        )


class _Layer(PydanticBaseSettingsSource):
    """One place where settings come from; it gives way, as a whole value, to the places before it.

    Beside the values it hands on where each was found (`origins`), and which settings found here
    give way to a flag that says otherwise (`overruled`).
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # the layer is read as a whole

    def _missing(self, found: Mapping[str, tuple[object, str]]) -> dict[str, Any]:
        fresh = {name: item for name, item in found.items() if name not in self.current_state}
        values: dict[str, Any] = {name: value for name, (value, _) in fresh.items()}
        return values | {"origins": {name: origin for name, (_, origin) in fresh.items()}}

    def _overruled(self, found: Mapping[str, tuple[object, str]]) -> dict[str, Any]:
        flags = [name for name in found if name in FLAGS and name in self.current_state]
        flags = [name for name in flags if self.current_state.get("origins", {}).get(name) == FLAGS[name]]
        differing = [n for n in flags if str(found[n][0]).lower() != str(self.current_state[n]).lower()]
        return {"overruled": {name: found[name][1] for name in differing}}


class _Variables(_Layer):
    """`DB_EXPORT_` variables of the environment, then of `.env`. An empty one counts as not set."""

    def __call__(self) -> dict[str, Any]:
        known = [name for name in self.settings_cls.model_fields if name != "tables"]
        found: dict[str, tuple[object, str]] = {}
        warnings: dict[str, None] = {}
        for place, variables in ((" in .env", _dotenv()), ("", os.environ)):
            for variable, value in variables.items():
                if not variable.upper().startswith(PREFIX):
                    continue
                name = variable[len(PREFIX) :].lower()
                if name not in known:
                    warnings[_unknown_variable(variable + place, name, known)] = None
                elif value:
                    found[name] = (value, f"{PREFIX}{name.upper()}{place}")
        return self._missing(found) | self._overruled(found) | {"warnings": tuple(warnings)}


class _ConfigurationFile(_Layer):
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
                nearest = _nearest(name.lower().removeprefix(PREFIX.lower()), known)
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


class _Fallbacks(_Layer):
    """Where a database is looked for when no setting names one."""

    def __call__(self) -> dict[str, Any]:
        found: dict[str, tuple[object, str]] = {}
        if url := os.environ.get("DATABASE_URL") or _dotenv().get("DATABASE_URL"):
            found["database_url"] = (url, "DATABASE_URL")
        elif DATABASE_FILE.is_file():
            found["database_url"] = (str(DATABASE_FILE), str(DATABASE_FILE))
        return self._missing(found)


def debugging_was_asked_for(flag: str | None) -> bool:
    """Whether tracebacks are wanted, settings or none: `--log-level` or `LOG_LEVEL` is debug."""
    return (flag or os.environ.get(f"{PREFIX}LOG_LEVEL") or "").strip().lower() == "debug"


def _dotenv() -> Mapping[str, str | None]:
    try:
        return DotEnvSettingsSource(Settings, env_file=".env", case_sensitive=True).env_vars
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


def _nearest(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def _unknown_variable(variable: str, name: str, known: list[str]) -> str:
    nearest = _nearest(name, known)
    meant = f"; the nearest known name is {PREFIX}{nearest.upper()}" if nearest else ""
    return f"{variable} is not a setting and is ignored{meant}"


def _explained(exc: ValidationError, origins: Mapping[str, str]) -> ConfigurationError:
    """The first thing that is wrong, in words that name the setting, its place and the allowed values."""
    error = exc.errors(include_url=False, include_context=False)[0]
    name = str(error["loc"][0]) if error["loc"] else ""
    field = Settings.model_fields.get(name)
    if field is None:
        known = list(Settings.model_fields)
        nearest = _nearest(name, known)
        meant = f"Did you mean '{nearest}'? " if nearest else ""
        return ConfigurationError(
            f"Unknown setting '{name}'.", hint=f"{meant}Allowed are {', '.join(known)}."
        )
    place = origins.get(name)
    where = f" ({place})" if place else ""
    bad = "" if name in ("database_url", "tables") else f": {str(error['input'])[:60]!r}"
    return ConfigurationError(
        f"The setting {name}{where} has a bad value{bad}.", hint=f"Allowed: {_allowed(name)}."
    )


_ALLOWED: Mapping[str, str] = {
    "bool": "true or false",
    "check_interval": "a number of seconds from 0.05 to 86400",
    "pg_statement_timeout": "a number of seconds from 0 (the server's own) to 2000000",
    "environment": "development, production or testing",
    "json_style": "records or pretty",
    "log_format": "json or console",
    "log_level": "debug, info, warning, error or critical",
    "export_directory": "the path of a directory",
    "state_directory": "the path of a directory",
    "database_url": "a database URL or the path of a SQLite file, as text",
    "tables": "tables such as [tables.images] with table, schema and columns",
}


def _allowed(name: str) -> str:
    return _ALLOWED.get(name) or _ALLOWED["bool"]
