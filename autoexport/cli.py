"""Turns command-line arguments into settings and one command, and errors into exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from autoexport.commands.interruption import Interrupted, until_interrupted
from autoexport.config.settings import Settings, debugging_was_asked_for
from autoexport.errors import AutoexportError
from autoexport.runtime.redaction import redact
from autoexport.runtime.tuning import collect_seldom, return_memory
from autoexport.version import __version__

INTERRUPTED = 130
_told = threading.Event()
"""Set when the interruption was reported: two threads may try to."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

EXAMPLES = """\b
Examples:
  autoexport demo                     try it on a small sample database
  autoexport --database-url app.db    export once to database_exports/
  autoexport --full                   export once, from scratch
  autoexport --monitor --interval 5   export, then keep the files current
  autoexport check                    show what would block an export
  autoexport verify                   compare the files with the database

\b
Settings are also read from DB_EXPORT_… variables, .env and autoexport.toml.
Exit codes: 0 success, 1 failure, 2 wrong flags or settings,
3 verify found differences.
"""


@dataclass(slots=True)
class Invocation:
    """The options of one command line; those after a subcommand override those before it."""

    overrides: dict[str, object] = field(default_factory=dict)
    config_file: Path | None = None
    progress: bool = True
    debug: bool = False

    def take(self, flags: dict[str, Any]) -> None:
        """Add the common options as click delivers them, and remove `config` and `no_progress` from `flags`."""
        self.config_file = flags.pop("config") or self.config_file
        self.progress = self.progress and not flags.pop("no_progress")
        self.overrides |= {name: value for name, value in flags.items() if value is not None}
        self.debug = debugging_was_asked_for(str(self.overrides.get("log_level", "")))

    def settings(self, **more: object) -> Settings:
        """Load the settings, configure the logs and log the warnings. Raises `ConfigurationError`."""
        settings = Settings.load(self.config_file, **self.overrides, **more)
        from autoexport.runtime import logs

        self.debug = settings.log_level == "debug"
        logs.configure(settings.effective_log_format, settings.effective_log_level)
        for warning in settings.warnings:
            logs.get_logger().warning("settings.unknown", detail=warning)
        return settings


def common_options(command: Decorated) -> Decorated:
    """Add the options that all commands share."""
    options = [
        click.option("--database-url", metavar="URL", help="SQLAlchemy URL, or path of a SQLite file."),
        click.option("--export-dir", "export_directory", metavar="DIR", help="Directory of the exported files."),
        click.option("--interval", "check_interval", metavar="SECONDS", help="Seconds between checks."),
        click.option("--config", type=click.Path(path_type=Path), help="Read this file, not ./autoexport.toml."),
        click.option("--log-format", metavar="json|console", help="Format of the log on standard error."),
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical."),
        click.option("--no-progress", is_flag=True, help="Show no progress bar."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    invoke_without_command=True,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option("--full", is_flag=True, help="Export from scratch.")
@click.option("--monitor", is_flag=True, help="Export, then keep the files current.")
@click.option("--disable-hooks", is_flag=True, help="Only poll: use no file events or notifications.")
@common_options
@click.version_option(__version__, prog_name="autoexport", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, /, full: bool, monitor: bool, disable_hooks: bool, **flags: Any) -> int | None:
    """Export an image-annotation database to JSON and CSV files.

    Without a command, export once and exit.
    """
    invocation: Invocation = context.ensure_object(Invocation)
    if disable_hooks:
        flags["enable_hooks"] = False
    invocation.take(flags)
    if context.invoked_subcommand is not None:
        if full or monitor:
            flag = "--full" if full else "--monitor"
            raise click.UsageError(f"{flag} cannot stand before the command '{context.invoked_subcommand}'.")
        return None
    if full and monitor:
        raise click.UsageError("--full and --monitor cannot be combined: run --full once, then --monitor.")
    return _export(invocation, full=full, monitor=monitor)


def _export(invocation: Invocation, *, full: bool, monitor: bool) -> int:
    settings = invocation.settings()
    _log_overruled(settings, monitor)
    if not settings.enable_auto_export:
        _say("Exports are switched off: DB_EXPORT_ENABLE_AUTO_EXPORT is false.")
    if monitor:
        return _run_monitor(settings)
    if not settings.enable_auto_export:
        return 0
    from autoexport.commands.export import export

    return _run(export(settings, full=full, progress=invocation.progress))


def _run_monitor(settings: Settings) -> int:
    """Export and keep the files current until a signal. If exports are switched off, only answer systemd."""
    from autoexport.commands.monitor import monitor

    return asyncio.run(monitor(settings))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("autoexport_demo"), metavar="[DIR]")
@common_options
@click.pass_obj
def demo(invocation: Invocation, /, directory: Path, **flags: Any) -> int:
    """Create a small sample database and export it.

    Everything is created in DIR (default: ./autoexport_demo). Run it again to
    reset the sample; other databases are never overwritten.
    """
    from autoexport.commands.demo import demo, demo_settings

    invocation.take(flags)
    for name, flag in (("database_url", "--database-url"), ("export_directory", "--export-dir")):
        if name in invocation.overrides:
            raise click.UsageError(f"demo does not accept {flag}: it creates everything in DIR.")
    return _run(demo(invocation.settings(**demo_settings(directory)), directory, progress=invocation.progress))


@cli.command()
@common_options
@click.pass_obj
def check(invocation: Invocation, /, **flags: Any) -> int:
    """Show the mapping, and what would block an export."""
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.check import check

    return _run(check(settings))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@common_options
@click.pass_obj
def status(invocation: Invocation, /, as_json: bool, **flags: Any) -> int:
    """Show how fresh the files are.

    Also shows the last error of the exporter. Exits with 1 if the exporter is
    failing or its last check is too old.
    """
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.status import status

    code: int = status(settings, as_json=as_json)
    return code


@cli.command()
@click.option("--full", is_flag=True, help="If they differ, export from scratch.")
@common_options
@click.pass_obj
def verify(invocation: Invocation, /, full: bool, **flags: Any) -> int:
    """Compare the files with the database.

    Exits with 3 if they differ.
    """
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.verify import verify

    code = _run(verify(settings, progress=invocation.progress))
    if code != 3 or not full:
        return code
    from autoexport.commands.export import export

    return _run(export(settings, full=True, progress=invocation.progress))


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(until_interrupted(coroutine, _leave))


def _log_overruled(settings: Settings, monitor: bool) -> None:
    """Log which settings a flag overrules: as a warning where the log level would hide an info line."""
    from autoexport.runtime.logs import get_logger

    quiet = settings.effective_log_level not in ("debug", "info")
    for line in settings.disagreements(monitor):
        log = get_logger()
        (log.warning if quiet else log.info)("settings.overruled", detail=line)


def _say(line: str) -> None:
    from autoexport.commands.terminal import say

    say(line)


# --- errors become exit codes --------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` if None) and return the exit code."""
    return_memory()
    collect_seldom()
    invocation = Invocation()
    module = Path(sys.argv[0]).name == "__main__.py"
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="python -m autoexport" if module else "autoexport",
            standalone_mode=False,
            obj=invocation,
        )
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(INTERRUPTED)
    except Interrupted as exc:
        return _interrupted(exc.exit_code)
    except click.ClickException as exc:
        return _usage_error(exc)
    except AutoexportError as exc:
        return _failed(exc, str(exc), exc.hint, exc.exit_code, invocation.debug)
    except BrokenPipeError:
        return _reader_gone()
    except PermissionError as exc:
        message = f"Permission denied: {exc.filename}." if exc.filename else "Permission denied."
        return _failed(exc, message, "Grant this user access to the directories above it.", 1, invocation.debug)
    except Exception as exc:  # noqa: BLE001 - the last place that can report it in one line
        message = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        hint = "This is a defect. Run the command again with --log-level debug and report the traceback."
        return _failed(exc, message, hint, 1, invocation.debug)
    return int(code or 0)


def _failed(exc: Exception, message: str, hint: str, code: int, debug: bool) -> int:
    if debug:
        _complain("".join(traceback.format_exception(exc)).rstrip())
    _complain("error: " + " ".join(message.split("\n")))
    if hint:
        _complain("hint: " + hint)
    return code


def _usage_error(exc: click.ClickException) -> int:
    context = getattr(exc, "ctx", None)
    command = context.command_path if context is not None else "autoexport"
    _complain("error: " + " ".join(exc.format_message().split("\n")))
    _complain(f"hint: See '{command} --help'.")
    return 2


def _interrupted(code: int) -> int:
    if not _told.is_set():
        _told.set()
        _complain("interrupted: the published files are complete and unchanged")
    return code


def _leave(code: int) -> None:
    """End the process although threads still work. Their unfinished files are private."""
    _interrupted(code)
    os._exit(code)


def _reader_gone() -> int:
    # Standard output is closed; without this, the interpreter would print an error about it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(redact(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
