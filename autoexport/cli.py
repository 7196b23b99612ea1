"""The command line: arguments become settings and one command, errors become exit codes."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from autoexport.config.settings import Settings, debugging_was_asked_for
from autoexport.errors import AutoexportError
from autoexport.runtime.redaction import redact
from autoexport.runtime.tuning import collect_seldom, return_memory
from autoexport.version import __version__

INTERRUPTED = 130
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

EXAMPLES = """\b
Examples:
  autoexport demo                                    see it work on a small sample database
  autoexport --database-url app.db                   export once into database_exports/
  autoexport --full                                  export once, from scratch
  autoexport --monitor --interval 5 --export-dir my_exports
  autoexport check                                   what would be exported, what is in the way
  autoexport verify                                  compare the files with the database

\b
Settings also come from DB_EXPORT_… variables, .env and autoexport.toml.
Exit codes: 0 done, 1 something failed, 2 wrong flags or settings, 3 verify found drift.
"""


@dataclass(slots=True)
class Invocation:
    """What was asked for on one command line; flags of a subcommand count before those ahead of it."""

    overrides: dict[str, object] = field(default_factory=dict)
    config_file: Path | None = None
    progress: bool = True
    debug: bool = False

    def take(self, flags: dict[str, Any]) -> None:
        """Add the common options as click delivers them."""
        self.config_file = flags.pop("config") or self.config_file
        self.progress = self.progress and not flags.pop("no_progress")
        self.overrides |= {name: value for name, value in flags.items() if value is not None}
        self.debug = debugging_was_asked_for(str(self.overrides.get("log_level", "")))

    def settings(self, **more: object) -> Settings:
        """The settings; also sets up the logs, so that everything after this can be logged."""
        settings = Settings.load(self.config_file, **self.overrides, **more)
        from autoexport.runtime import logs

        self.debug = settings.log_level == "debug"
        logs.configure(settings.effective_log_format, settings.effective_log_level)
        for warning in settings.warnings:
            logs.get_logger().warning("settings.unknown", detail=warning)
        return settings


def common_options(command: Decorated) -> Decorated:
    """The options that every command has."""
    options = [
        click.option("--database-url", metavar="URL", help="A SQLAlchemy URL, or the path of a SQLite file."),
        click.option("--export-dir", "export_directory", metavar="DIR", help="Where the files go."),
        click.option("--interval", "check_interval", metavar="SECONDS", help="Seconds between checks."),
        click.option("--config", type=click.Path(path_type=Path), help="Instead of ./autoexport.toml."),
        click.option("--log-format", metavar="json|console", help="How logs look on standard error."),
        click.option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical."),
        click.option("--no-progress", is_flag=True, help="No progress bar."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(
    invoke_without_command=True,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--full", is_flag=True, help="Export from scratch.")
@click.option("--monitor", is_flag=True, help="Export, then keep the files current.")
@click.option("--disable-hooks", is_flag=True, help="Poll only: no file events, no notifications.")
@common_options
@click.version_option(__version__, prog_name="autoexport", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, /, full: bool, monitor: bool, disable_hooks: bool, **flags: Any) -> int | None:
    """Keep readable JSON and CSV copies of an image-annotation database current.

    Without a command: one export, then exit.
    """
    invocation: Invocation = context.ensure_object(Invocation)
    if disable_hooks:
        flags["enable_hooks"] = False
    invocation.take(flags)
    if context.invoked_subcommand is not None:
        if full or monitor:
            flag = "--full" if full else "--monitor"
            raise click.UsageError(f"{flag} does not go in front of '{context.invoked_subcommand}'.")
        return None
    if full and monitor:
        raise click.UsageError("--full and --monitor do not go together: run --full once, then --monitor.")
    return _export(invocation, full=full, monitor=monitor)


def _export(invocation: Invocation, *, full: bool, monitor: bool) -> int:
    settings = invocation.settings()
    _say_which_won(settings, monitor)
    if not settings.enable_auto_export:
        _say("Exporting is switched off: DB_EXPORT_ENABLE_AUTO_EXPORT is false.")
    if monitor:
        return _run_monitor(settings)
    if not settings.enable_auto_export:
        return 0
    from autoexport.commands.export import export

    return _run(export(settings, full=full, progress=invocation.progress))


def _run_monitor(settings: Settings) -> int:
    """Export and keep current until a signal; switched off, it only tells systemd that all is well."""
    from autoexport.commands.monitor import monitor

    return _run(monitor(settings))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("autoexport_demo"), metavar="[DIR]")
@common_options
@click.pass_obj
def demo(invocation: Invocation, /, directory: Path, **flags: Any) -> int:
    """Make a small sample database and export it.

    In DIR, or in ./autoexport_demo. It may be repeated; other people's files are not touched.
    """
    from autoexport.commands.demo import demo, places

    invocation.take(flags)
    for name, flag in (("database_url", "--database-url"), ("export_directory", "--export-dir")):
        if name in invocation.overrides:
            raise click.UsageError(f"{flag} does not go with demo: everything is made in DIR.")
    return _run(demo(invocation.settings(**places(directory)), directory, progress=invocation.progress))


@cli.command()
@common_options
@click.pass_obj
def check(invocation: Invocation, /, **flags: Any) -> int:
    """Show what would be exported, and what is in the way."""
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.check import check

    return _run(check(settings))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@common_options
@click.pass_obj
def status(invocation: Invocation, /, as_json: bool, **flags: Any) -> int:
    """Show how fresh the files are.

    Also the last error of a running daemon; exit code 1 when stale or failing.
    """
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.status import status

    code: int = status(settings, as_json=as_json)
    return code


@cli.command()
@click.option("--full", is_flag=True, help="Repair: where they differ, export from scratch.")
@common_options
@click.pass_obj
def verify(invocation: Invocation, /, full: bool, **flags: Any) -> int:
    """Compare the files with the database.

    Exit code 3 when they differ.
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
    return asyncio.run(coroutine)


def _say_which_won(settings: Settings, monitor: bool) -> None:
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
        return _interrupted()
    except click.ClickException as exc:
        return _usage_error(exc)
    except AutoexportError as exc:
        return _failed(exc, str(exc), exc.hint, exc.exit_code, invocation.debug)
    except BrokenPipeError:
        return _reader_gone()
    except PermissionError as exc:
        what = f"Permission is denied: {exc.filename}." if exc.filename else "Permission is denied."
        return _failed(exc, what, "Let this user look into the folders above it.", 1, invocation.debug)
    except Exception as exc:  # noqa: BLE001 - the last place where it can be told in one line
        what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
        hint = "This should not happen. Run it again with --log-level debug to see where, and report it."
        return _failed(exc, what, hint, 1, invocation.debug)
    return int(code or 0)


def _failed(exc: Exception, what: str, hint: str, code: int, debug: bool) -> int:
    if debug:
        _complain("".join(traceback.format_exception(exc)).rstrip())
    _complain("error: " + " ".join(what.split("\n")))
    if hint:
        _complain("hint: " + hint)
    return code


def _usage_error(exc: click.ClickException) -> int:
    context = getattr(exc, "ctx", None)
    command = context.command_path if context is not None else "autoexport"
    _complain("error: " + " ".join(exc.format_message().split("\n")))
    _complain(f"hint: See '{command} --help'.")
    return 2


def _interrupted() -> int:
    _complain("interrupted: the files are as they were before, whole")
    return INTERRUPTED


def _reader_gone() -> int:
    # Standard output is closed; without this, the interpreter would complain about it while it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _complain(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    sys.stderr.write(redact(text).encode(encoding, "backslashreplace").decode(encoding) + "\n")
