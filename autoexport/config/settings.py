"""Defines and validates every option of the program."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PrivateAttr, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from autoexport.config.address import DatabaseURL
from autoexport.config.bad_values import explained
from autoexport.config.database_url import parse_database_url, published_name
from autoexport.config.lake import checked_lake
from autoexport.config.layers import FLAGS, PREFIX, merge
from autoexport.config.object_url import ObjectURL, take_object_url
from autoexport.config.operations import (
    Address,
    checked_address,
    checked_textfile,
    checked_url,
    parse_address,
    split_command,
)
from autoexport.config.options import Option
from autoexport.config.postgres_url import with_service
from autoexport.errors import ConfigurationError

FORMAT_OPTIONS = "autoexport.formats:declared_options"
"""The function that lists the options of the formats. It is named, not imported: formats import this package."""

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
Number = Annotated[float, BeforeValidator(_no_flag)]
Seconds = Number
Directory = Annotated[Path, BeforeValidator(_home)]


def _format_options() -> list[Option]:
    module, _, name = FORMAT_OPTIONS.partition(":")
    options: list[Option] = getattr(import_module(module), name)()
    return options


def _fields(options: Iterable[Option]) -> dict[str, Any]:
    """The options as fields of a pydantic model."""
    return {option.name: (_type(option), option.default) for option in options}


def _type(option: Option) -> Any:
    if option.free:
        return Annotated[str, BeforeValidator(option.text)]
    return Annotated[Literal[option.choices], Word] if option.choices else bool


_FORMAT_OPTIONS = {option.name: option for option in _format_options()}

if TYPE_CHECKING:

    class _FormatSettings(BaseSettings):
        def __getattr__(self, name: str) -> Any: ...
else:
    _FormatSettings = create_model("_FormatSettings", __base__=BaseSettings, **_fields(_FORMAT_OPTIONS.values()))


class Settings(_FormatSettings):
    """The settings of one exporter; frozen.

    Arguments of the constructor win over `DB_EXPORT_` variables, these over `.env`, `./autoexport.toml` and the
    defaults, in this order. `config_file` names another configuration file. A bad value in any place raises
    `ConfigurationError`, which names the setting and the allowed values. `database_url` is empty if no database is
    named and none was found.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, hide_input_in_errors=True, validate_default=False
    )

    enable_auto_export: bool = True
    enable_monitoring: bool = True
    export_directory: Directory = Path("database_exports")
    working_directory: Directory | None = None
    object_grace: Seconds = Field(default=3600.0, ge=0, le=31_536_000, allow_inf_nan=False)
    check_interval: Seconds = Field(default=10.0, ge=0.05, le=86_400, allow_inf_nan=False)
    environment: Annotated[Environment, Word] = "development"
    database_url: str = Field(default="", repr=False)
    enable_hooks: bool = True
    pace: Number = Field(default=0.1, ge=0.001, le=10, allow_inf_nan=False)
    state_directory: Directory | None = None
    workers: Annotated[int, BeforeValidator(_no_flag)] | None = Field(default=None, ge=1, le=64)
    pg_prepared_statements: bool = True
    pg_statement_timeout: Seconds = Field(default=0.0, ge=0, le=2_000_000, allow_inf_nan=False)
    log_format: Annotated[LogFormat | None, Word] = None
    log_level: Annotated[LogLevel | None, Word] = None
    preset: bool = True
    predictions: bool = False
    export_page: bool = True
    export_history: bool = True
    listen: Annotated[str, BeforeValidator(checked_address)] = ""
    metrics_textfile: Annotated[Path | None, BeforeValidator(checked_textfile)] = None
    on_publish: Annotated[tuple[str, ...], BeforeValidator(split_command)] = ()
    on_publish_timeout: Seconds = Field(default=60.0, ge=0.1, le=3_600, allow_inf_nan=False)
    heartbeat_url: Annotated[str, BeforeValidator(checked_url)] = Field(default="", repr=False)
    lake: Annotated[str, BeforeValidator(checked_lake)] = ""
    lake_file_rows: Annotated[int, BeforeValidator(_no_flag)] = Field(default=1_000_000, ge=1, le=100_000_000)
    lake_keep_hours: Number = Field(default=168.0, ge=0, le=87_600, allow_inf_nan=False)
    tables: dict[str, Any] = Field(default_factory=dict)

    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _overruled: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _object_store: ObjectURL | None = PrivateAttr(default=None)

    def __init__(self, *, config_file: Path | None = None, flags: Collection[str] = (), **arguments: Any) -> None:
        layers = merge(arguments, flags, config_file, _known_names())
        values = layers.values()
        places = {name: given.place for name, given in layers.chosen.items()}
        object_store = take_object_url(values, places.get("export_directory", ""))
        try:
            super().__init__(**values)
            for name, given in layers.hidden:
                # A bad value is an error even if another place overrides it.
                places[name] = given.place
                BaseModel.__init__(type(self).__new__(type(self)), **{**values, name: given.value})
        except ValidationError as exc:
            raise explained(exc, places, _known_names(), _FORMAT_OPTIONS) from None  # its input may be a secret
        self._warnings, self._overruled = layers.warnings, layers.overruled
        self._object_store = object_store

    @classmethod
    def load(cls, config_file: Path | None = None, **flags: object) -> Self:
        """Settings for the command line. `flags` are its flags by setting; None if a flag is not given."""
        given = {name: value for name, value in flags.items() if value is not None}
        return cls(config_file=config_file, flags=[name for name in given if name in FLAGS], **given)

    @property
    def database(self) -> DatabaseURL:
        """The database to read. Raises `ConfigurationError` if none is named and none was found."""
        return parse_database_url(self.database_url)

    @property
    def resolved_database_url(self) -> str:
        """`database_url`, password included. Raises `ConfigurationError` if there is none."""
        return self.database_url if self.database_url.strip() else self.database.display

    @property
    def database_name(self) -> str | None:
        """The name of the database without its path and its login, for logs; None if none is named."""
        try:
            return published_name(with_service(self.database, os.environ), os.environ)
        except ConfigurationError:
            return None

    @property
    def object_store(self) -> ObjectURL | None:
        """The object store that `export_directory` names. That field is then the working directory."""
        return self._object_store

    @property
    def destination(self) -> str:
        """The place of the published files, for messages: the object store, or else the export directory."""
        return str(self._object_store or self.export_directory)

    @property
    def state_dir(self) -> Path:
        """The private directory: `state_directory`, or `.autoexport` in the export directory."""
        return self.state_directory or self.export_directory / ".autoexport"

    @property
    def listen_address(self) -> Address | None:
        """The address to serve metrics and health on; None if there is none."""
        return parse_address(self.listen) if self.listen else None

    @property
    def format_options(self) -> dict[str, Any]:
        """The value of every option that a format declares, by name. A lake turns the Parquet files on."""
        values = {name: getattr(self, name) for name in _FORMAT_OPTIONS}
        return values | {"export_parquet": True} if self.lake else values

    @property
    def tables_config(self) -> dict[str, Any]:
        """`tables`, with `preset` and `predictions` where they are not as usual."""
        options = {"preset": self.preset, "predictions": self.predictions}
        usual = {name: type(self).model_fields[name].default for name in options}
        return {**self.tables, **{name: value for name, value in options.items() if value != usual[name]}}

    @property
    def effective_log_format(self) -> LogFormat:
        """`log_format`, or the log format of the environment."""
        return self.log_format or _BY_ENVIRONMENT[self.environment][0]

    @property
    def effective_log_level(self) -> LogLevel:
        """`log_level`, or the log level of the environment."""
        return self.log_level or _BY_ENVIRONMENT[self.environment][1]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about unknown variables, for the log."""
        return self._warnings

    def monitoring(self, explicit: bool = False) -> bool:
        """Whether to monitor the database. `explicit` is the flag `--monitor`, which wins over every setting."""
        return explicit or (self.enable_monitoring and self.environment != "production")

    def disagreements(self, monitor: bool) -> tuple[str, ...]:
        """A line for each setting that disagrees with a flag; it says which won.

        `monitor` is the flag `--monitor`. Its absence counts as a flag too.
        """
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `merge` has already read all places.


def debugging_was_asked_for(flag: str | None) -> bool:
    """Whether `--log-level` or the variable asks for tracebacks, even if the settings cannot be read."""
    return (flag or os.environ.get(f"{PREFIX}LOG_LEVEL") or "").strip().lower() == "debug"


def _known_names() -> list[str]:
    """The names of all settings, those of the formats last."""
    return sorted(Settings.model_fields, key=_FORMAT_OPTIONS.__contains__)
