"""The options that all commands share, the database as an argument, and command lines that work when pasted."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from autoexport.commands.samples import ON_A_SERVER
from autoexport.config.layers import FLAGS
from autoexport.config.postgres_url import is_conninfo
from autoexport.config.settings import Settings, debugging_was_asked_for
from autoexport.errors import AutoexportError, ConfigurationError, NoDatabaseNamed
from autoexport.runtime.redaction import redact

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_LISTED = 5
_SQLITE = b"SQLite format 3\0"
"""The first bytes of every SQLite file (https://www.sqlite.org/fileformat2.html)."""

_PASTED = ("database_url", "export_directory")
_COMMAND = re.compile(r"`python -m autoexport((?: [^`]*)?)`")
_NAMED_TWICE = "The database is named twice: as an argument and by --database-url."

EXAMPLES = """\b
Examples:
  autoexport demo                     try it on a small sample database
  autoexport app.db                   export once to database_exports/
  autoexport app.db --full            export once, from scratch
  autoexport app.db --monitor         export, then keep the files current
  autoexport check app.db             show what would block an export
  autoexport verify app.db            compare the files with the database

\b
Settings are also read from DB_EXPORT_… variables, .env and autoexport.toml.
Exit codes: 0 success, 1 failure, 2 wrong flags or settings,
3 verify found differences.
"""


@dataclass(slots=True)
class Invocation:
    """The options of one command line; those after a subcommand override those before it.

    `begun`: a command was chosen. Before that, only `--help` and `--version` print anything. `log_level` is the
    level of the logs.
    """

    overrides: dict[str, object] = field(default_factory=dict)
    config_file: Path | None = None
    progress: bool = True
    debug: bool = False
    begun: bool = False
    log_level: str = "info"

    def take(self, flags: dict[str, Any]) -> None:
        """Add the common options as click delivers them, and remove those that are no settings from `flags`."""
        self.begun = True
        if (database := flags.pop("database", None)) is not None:
            if flags.get("database_url") is not None:
                raise click.UsageError(_NAMED_TWICE)
            flags["database_url"] = database
        self.config_file = flags.pop("config") or self.config_file
        self.progress = self.progress and not flags.pop("no_progress")
        self.overrides |= {name: value for name, value in flags.items() if value is not None}
        self.debug = debugging_was_asked_for(str(self.overrides.get("log_level", "")))

    def settings(self, *, daemon: bool = False, **more: object) -> Settings:
        """Load the settings, configure the logs and log the warnings. Raises `ConfigurationError`.

        As lines for people, a command that is no `daemon` logs only warnings unless a log level is set.
        """
        settings = Settings.load(self.config_file, **self.overrides, **more)
        self.debug = settings.log_level == "debug"
        self.log_level = _configure_logs(settings, daemon=daemon)
        from autoexport.runtime.logs import get_logger

        for warning in settings.warnings:
            get_logger().warning("settings.unknown", detail=warning)
        return settings

    def command(self, *arguments: str) -> str:
        """A command line with these arguments and the flags of this one that name database, directory and file.

        It works when pasted. A password must not be shown: then it is in words how to repeat the command.
        """
        flags = [f"{FLAGS[name]}={self.overrides[name]}" for name in _PASTED if name in self.overrides]
        if self.config_file is not None:
            flags.append(f"--config={self.config_file}")
        pasted = shlex.join([*arguments, *_split(flags)])
        if redact(pasted) != pasted:
            return f"{program_name()} {shlex.join(arguments)}".strip() + ", with the flags of this command"
        return f"{program_name()} {pasted}".strip()

    def hint(self, error: AutoexportError) -> str:
        """The hint of an error. Commands in backquotes become those that the user can paste.

        If no database is named, the hint names the SQLite files in the working directory.
        """
        text = error.hint
        if isinstance(error, NoDatabaseNamed) and (names := sqlite_files(Path())):
            listed = ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
            return f"Name a database. Here: {listed}. For example: {program_name()} {shlex.quote(names[0])}"
        return _COMMAND.sub(lambda found: f"`{self.command(*shlex.split(found[1]))}`", text)


def sqlite_files(folder: Path) -> list[str]:
    """The names of the SQLite files in a folder.

    For the command line alone: a plain `open` would drop the locks of an application in the same process.
    """
    return sorted(path.name for path in folder.iterdir() if _is_sqlite(path))


def _is_sqlite(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _split(flags: list[str]) -> list[str]:
    """Flags and values as separate words, unless a value starts with a dash."""
    words = []
    for flag in flags:
        name, _, value = flag.partition("=")
        words += [flag] if value.startswith("-") else [name, value]
    return words


def _configure_logs(settings: Settings, *, daemon: bool) -> str:
    """Configure the logs as `Invocation.settings` says; returns their level."""
    from autoexport.commands.log_lines import ConsoleLines
    from autoexport.runtime import logs

    console = settings.effective_log_format == "console"
    level = settings.effective_log_level
    if console and not daemon and settings.log_level is None:
        level = "warning"
    renderer = ConsoleLines(every_step=settings.log_level == "debug") if console else logs.json_lines()
    logs.configure(renderer, level, database=settings.database_name)
    return level


def common_options(command: Decorated) -> Decorated:
    """Add the options that all commands share."""
    options = [
        click.option("--database-url", metavar="URL", help="SQLAlchemy URL, or path of a SQLite file."),
        click.option(
            "--export-dir",
            "export_directory",
            metavar="DIR",
            help="Where to export: a directory, or s3://BUCKET/PREFIX.",
        ),
        click.option(
            "--lake", metavar="DIR|URL", help="Keep Delta tables there as well, such as s3://bucket/lake."
        ),
        click.option("--interval", "check_interval", metavar="SECONDS", help="Seconds between checks."),
        click.option("--workers", metavar="N", help="Most processes that read and render."),
        click.option("--config", type=click.Path(path_type=Path), help="Read this file, not ./autoexport.toml."),
        click.option("--log-format", metavar="json|console", help="Format of the log on standard error."),
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical."),
        click.option("--no-progress", is_flag=True, help="Show no progress bar."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


database_argument = click.argument(
    "database", required=False, default=None, metavar="[DATABASE]", type=click.Path()
)
"""The database as the argument of a command, in place of `--database-url`."""


def duration(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """A time such as 90, 90s, 30m, 2h or 1d in seconds: the callback of an option."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.strip().lower())
    if found is None:
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 30m, 2h or 1d.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]


class SampleName(click.Choice):  # type: ignore[type-arg]  # not generic before click 8.2
    """The name of an application with a sample. Raises `ConfigurationError` for one that needs a server."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name, or an error that says why there is no sample."""
        if value in ON_A_SERVER:
            raise ConfigurationError(
                f"{ON_A_SERVER[value]} keeps its data in PostgreSQL, and a sample is a SQLite file.",
                hint="Another sample: `python -m autoexport demo --application label_studio`",
            )
        return super().convert(value, param, ctx)


class DatabaseFirst(click.Group):
    """A group of commands whose first argument may also be a database: `autoexport app.db`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn an argument that is no command into `--database-url`."""
        named, given = args, list(args)
        _, rest, _ = self.make_parser(ctx).parse_args(list(args))
        if rest and rest[0] not in self.commands:
            if not _is_database(rest[0]):
                self._refuse(ctx, rest[0])
            flags = given[: len(given) - len(rest)]
            if any(flag.partition("=")[0] == "--database-url" for flag in given):
                ctx.fail(_NAMED_TWICE)
            named = [*flags, "--database-url", rest[0], *rest[1:]]
            _, behind, _ = self.make_parser(ctx).parse_args(list(named))
            if behind and behind[0] not in self.commands:
                self._refuse(ctx, behind[0])
        return super().parse_args(ctx, named)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The completions of a shell: commands and options, else files, because a database may stand there."""
        found = super().shell_complete(ctx, incomplete)
        # The file comes first: click's script for bash forgets all words that come before it.
        return found if incomplete.startswith("-") else [CompletionItem(incomplete, type="file"), *found]

    def _refuse(self, ctx: click.Context, name: str) -> None:
        nearest = difflib.get_close_matches(name, self.commands, n=1)
        meant = f" Did you mean '{nearest[0]}'?" if nearest else ""
        ctx.fail(f"'{name}' is no command and no database file.{meant}")


def _is_database(text: str) -> bool:
    """Whether an argument is the URL or the path of a database; a lone word is one if there is such a file."""
    return "/" in text or "." in text or "://" in text or is_conninfo(text) or os.path.isfile(text)


def program_name() -> str:
    """The program as the user can call it in this shell, now."""
    started_as = Path(sys.argv[0])
    if started_as.name == "__main__.py":
        python = next(
            (name for name in ("python", "python3", Path(sys.executable).name) if _found_as(name, sys.executable)),
            None,
        )
        return f"{python or shlex.quote(_near(sys.executable))} -m autoexport"
    if started_as.name != "autoexport" or _found_as("autoexport", sys.argv[0]):
        return "autoexport"
    return shlex.quote(_near(os.path.abspath(sys.argv[0])))


def _found_as(name: str, path: str) -> bool:
    found = shutil.which(name)
    return found is not None and os.path.abspath(found) == os.path.abspath(path)


def _near(path: str) -> str:
    """A path inside the working directory without that directory."""
    return path.removeprefix(os.getcwd().rstrip("/") + "/")
