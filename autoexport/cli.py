"""Turns command-line arguments into settings and one command, and errors into exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import click

from autoexport.commands.interruption import Interrupted, until_interrupted
from autoexport.commands.options import (
    EXAMPLES,
    DatabaseFirst,
    Invocation,
    SampleName,
    common_options,
    database_argument,
    duration,
    program_name,
)
from autoexport.commands.samples import SAMPLES
from autoexport.commands.task_commands import add_task_commands
from autoexport.commands.terminal import flush, silence, unwritable
from autoexport.config.settings import Settings
from autoexport.errors import AutoexportError
from autoexport.runtime.journal import stderr_is_journal, with_priority
from autoexport.runtime.redaction import redact
from autoexport.runtime.tuning import collect_seldom, return_memory
from autoexport.version import __version__

INTERRUPTED = 130
_told = threading.Event()
"""Set when the interruption was reported: two threads may try to."""


@click.group(
    cls=DatabaseFirst,
    invoke_without_command=True,
    subcommand_metavar="[DATABASE] [COMMAND] [ARGS]...",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option("--full", is_flag=True, help="Export from scratch.")
@click.option("--monitor", is_flag=True, help="Export, then keep the files current.")
@click.option("--listen", metavar="HOST:PORT", help="With --monitor: serve metrics and health there.")
@click.option("--disable-hooks", is_flag=True, help="Only poll: use no file events or notifications.")
@common_options
@click.version_option(__version__, prog_name="autoexport", message="%(prog)s %(version)s")
@click.pass_context
def cli(
    context: click.Context, /, full: bool, monitor: bool, listen: str | None, disable_hooks: bool, **flags: Any
) -> int | None:
    """Export an image-annotation database to JSON and CSV files.

    Without a command, export once and exit. DATABASE is the path of a SQLite
    file or a URL, as with --database-url.
    """
    invocation: Invocation = context.ensure_object(Invocation)
    if disable_hooks:
        flags["enable_hooks"] = False
    invocation.take({**flags, "listen": listen})
    if context.invoked_subcommand is not None:
        if full or monitor or listen is not None:
            flag = "--full" if full else "--monitor" if monitor else "--listen"
            raise click.UsageError(f"{flag} cannot stand before the command '{context.invoked_subcommand}'.")
        return None
    if full and monitor:
        raise click.UsageError("--full and --monitor cannot be combined: run --full once, then --monitor.")
    if listen is not None and not monitor:
        raise click.UsageError("--listen needs --monitor: one export ends before anything could ask.")
    return _export(invocation, full=full, monitor=monitor)


def _export(invocation: Invocation, *, full: bool, monitor: bool) -> int:
    settings = invocation.settings(daemon=monitor)
    _log_overruled(settings, monitor, invocation.log_level)
    if not settings.enable_auto_export:
        _say("Exports are switched off: DB_EXPORT_ENABLE_AUTO_EXPORT is false.")
    if monitor:
        from autoexport.commands import monitor as monitoring

        return asyncio.run(monitoring.monitor(settings))
    if not settings.enable_auto_export:
        return 0
    from autoexport.commands.export import export

    return _run(export(settings, full=full, progress=invocation.progress))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path), required=False, metavar="[DIR]")
@click.option(
    "--application", type=SampleName(sorted(SAMPLES)), help="A sample in the schema of this application."
)
@common_options
@click.pass_obj
def demo(invocation: Invocation, /, directory: Path | None, application: str | None, **flags: Any) -> int:
    """Create a small sample database and export it.

    Everything is created in DIR (default: ./autoexport_demo, or a directory
    named after the application too). Run it again to reset the sample; other
    databases are never overwritten.
    """
    from autoexport.commands.demo import demo, demo_settings

    invocation.take(flags)
    for name, flag in (("database_url", "--database-url"), ("export_directory", "--export-dir")):
        if name in invocation.overrides:
            raise click.UsageError(f"demo does not accept {flag}: it creates everything in DIR.")
    directory = directory or Path("_".join(filter(None, ("autoexport_demo", application))))
    settings = invocation.settings(**demo_settings(directory))
    program, name = program_name(), application or ""
    return _run(demo(settings, directory, application=name, progress=invocation.progress, program=program))


@cli.command()
@click.option("--verbose", is_flag=True, help="Also show the mapping of tables and columns.")
@database_argument
@common_options
@click.pass_obj
def check(invocation: Invocation, /, verbose: bool, **flags: Any) -> int:
    """Show what would block an export, and what it would read."""
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.check import check

    return _run(check(settings, verbose=verbose, more=invocation.command("check", "--verbose")))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option("--max-age", callback=duration, metavar="TIME", help="Oldest check that is fresh: 90s, 30m, 2h, 1d.")
@database_argument
@common_options
@click.pass_obj
def status(invocation: Invocation, /, as_json: bool, max_age: float | None, **flags: Any) -> int:
    """Show how fresh the files are.

    Also shows the last error of the exporter. Exits with 1 if the exporter is
    failing or its last check is too old. An export without --monitor is never
    too old unless --max-age says so.
    """
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.status import status

    code: int = status(settings, as_json=as_json, max_age_s=max_age)
    return code


@cli.command()
@click.option("--since", type=click.IntRange(min=0), required=True, metavar="N", help="Generation that is known.")
@common_options
@click.pass_obj
def changes(invocation: Invocation, /, since: int, **flags: Any) -> int:
    """Print as JSON what was added, changed or removed since generation N."""
    invocation.take(flags)
    from autoexport.commands.changes import changes

    return changes(invocation.settings(), since)


@cli.command()
@click.option("--full", is_flag=True, help="If they differ, export from scratch.")
@database_argument
@common_options
@click.pass_obj
def verify(invocation: Invocation, /, full: bool, **flags: Any) -> int:
    """Compare the files with the database.

    Exits with 3 if they differ.
    """
    invocation.take(flags)
    settings = invocation.settings()
    from autoexport.commands.verify import verify

    code = _run(verify(settings, progress=invocation.progress, repair=invocation.command("--full")))
    if code != 3 or not full:
        return code
    from autoexport.commands.export import export

    return _run(export(settings, full=True, progress=invocation.progress))


def _run(coroutine: Coroutine[Any, Any, int]) -> int:
    return asyncio.run(until_interrupted(coroutine, _leave))


add_task_commands(cli, _run)


def _log_overruled(settings: Settings, monitor: bool, log_level: str) -> None:
    """Log which settings a flag overrules: as a warning where the log level would hide an info line."""
    from autoexport.runtime.logs import get_logger

    log = get_logger()
    quiet = log_level not in ("debug", "info")
    for line in settings.disagreements(monitor):
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
        flush()
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(INTERRUPTED)
    except Interrupted as exc:
        return _interrupted(exc.exit_code)
    except click.ClickException as exc:
        return _usage_error(exc)
    except AutoexportError as exc:
        return _failed(exc, str(exc), invocation.hint(exc), exc.exit_code, invocation.debug)
    except (BrokenPipeError, SystemExit):  # click exits if the reader of the help has gone
        silence()
        return int(invocation.begun)
    except PermissionError as exc:
        message = f"Permission denied: {exc.filename}." if exc.filename else "Permission denied."
        return _failed(exc, message, "Grant this user access to the directories above it.", 1, invocation.debug)
    except OSError as exc:
        if exc.filename is not None or invocation.begun:
            return _defect(exc, invocation)
        error = unwritable(exc)  # click printed the help
        return _failed(exc, str(error), error.hint, 1, invocation.debug)
    except Exception as exc:  # noqa: BLE001 - the last place that can report it in one line
        return _defect(exc, invocation)
    return int(code or 0)


def _defect(exc: Exception, invocation: Invocation) -> int:
    message = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    hint = "This is a defect. Run the command again with --log-level debug and report the traceback."
    return _failed(exc, message, hint, 1, invocation.debug)


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
        if code == INTERRUPTED and sys.stderr.isatty():
            sys.stderr.write("\n")  # The terminal shows ^C on this line.
        _complain("interrupted: the published files are complete and unchanged")
    return code


def _leave(code: int) -> None:
    """End the process although threads still work. Their unfinished files are private."""
    _interrupted(code)
    os._exit(code)


def _complain(text: str) -> None:
    encoding = sys.stderr.encoding or "utf-8"
    shown = redact(text).encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError):
        sys.stderr.write((with_priority(shown, "error") if stderr_is_journal() else shown) + "\n")
