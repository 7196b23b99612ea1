"""Every option of the program: named once, defaulted once, validated once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from autoexport.config.database_url import DatabaseURL, parse_database_url
from autoexport.config.layers import FLAGS, PREFIX, ConfigurationFile, Fallbacks, Variables, nearest_name
from autoexport.errors import ConfigurationError

Environment = Literal["development", "production", "testing"]
LogFormat = Literal["json", "console"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

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


def _no_flag(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


Word = BeforeValidator(_word)
Seconds = Annotated[float, BeforeValidator(_no_flag)]
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
    check_interval: Seconds = Field(default=10.0, ge=0.05, le=86_400, allow_inf_nan=False)
    export_json: bool = True
    export_csv: bool = True
    environment: Annotated[Environment, Word] = "development"
    database_url: str = Field(default="", repr=False)
    enable_hooks: bool = True
    json_style: Annotated[Literal["records", "pretty"], Word] = "records"
    csv_guard: bool = True
    csv_bom: bool = False
    state_directory: Directory | None = None
    pg_prepared_statements: bool = True
    pg_statement_timeout: Seconds = Field(default=0.0, ge=0, le=2_000_000, allow_inf_nan=False)
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
        hidden: dict[str, tuple[str, object]] = values.pop("hidden", {})
        warnings: tuple[str, ...] = values.pop("warnings", ())
        values.pop("config_file", None)
        try:
            settings = handler(values)
            for origin, (name, value) in hidden.items():
                origins[name] = origin
                handler({**values, name: value})
            if hidden:
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
            Variables(settings_cls),
            ConfigurationFile(settings_cls),
            Fallbacks(settings_cls),
        )


def debugging_was_asked_for(flag: str | None) -> bool:
    """Whether tracebacks are wanted, settings or none: `--log-level` or `LOG_LEVEL` is debug."""
    return (flag or os.environ.get(f"{PREFIX}LOG_LEVEL") or "").strip().lower() == "debug"


def _explained(exc: ValidationError, origins: Mapping[str, str]) -> ConfigurationError:
    """The first thing that is wrong, in words that name the setting, its place and the allowed values."""
    error = exc.errors(include_url=False, include_context=False)[0]
    name = str(error["loc"][0]) if error["loc"] else ""
    field = Settings.model_fields.get(name)
    if field is None:
        known = list(Settings.model_fields)
        nearest = nearest_name(name, known)
        meant = f"Did you mean '{nearest}'? " if nearest else ""
        return ConfigurationError(f"Unknown setting '{name}'.", hint=f"{meant}Allowed are {', '.join(known)}.")
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
