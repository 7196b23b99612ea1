"""Words the events of the log for people: one line per event, with a time, in 80 columns on a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from structlog.typing import EventDict, WrappedLogger

from autoexport.commands.terminal import DUMB, visible
from autoexport.runtime.wording import counted, counted_name

_WORDED: dict[str, Callable[[EventDict], str]] = {
    "after_publish.done": lambda e: f"ran the command for generation {e['generation']}, {_s(e['seconds'])}",
    "after_publish.failed": lambda e: f"after generation {e['generation']}: {e['error']}",
    "changes.recounted": lambda e: f"counted the rows of the other blocks: {_blocks(e['lossy'])} lost some",
    "check.reconnecting": lambda e: f"connecting again: {e['error']}",
    "copy.not_started": lambda e: f"copying in this process: {e['error']}",
    "copy.process_failed": lambda e: f"copying again in this process: {e['reason']}",
    "cycle.failed": lambda e: f"{e['error']}",
    "cycle.recovered": lambda e: f"recovered after {counted(e['failures'], 'failure')}",
    "event.failed": lambda e: f"on_event failed for '{e['kind']}': {e['error']}",
    "export.asked": lambda e: f"{e['signal']}: exporting now",
    "export.boxes": lambda e: f"{counted(e['repaired'], 'value')} cannot be read",
    "export.classes": lambda _: "a classes.json cannot be read",
    "export.degraded": lambda e: f"{e['warning']}",
    "export.failed": lambda e: f"the export failed: {e['error']}",
    "export.given_up": lambda e: f"gave up the running export after {e['after_s']:g} s",
    "export.left_alone": lambda e: f"{e['file']} is not kept up to date",
    "export.left_out": lambda e: f"not in {e['format']}: {_listed(e, 'format')}",
    "export.orphans": lambda e: f"not exported: {_listed(e)}",
    "export.paced": lambda e: f"next export in {e['due_in_s']:,.0f} s: {e['reason']}",
    "export.published": lambda e: f"published generation {e['generation']}: {_changed(e)}, {_s(e['seconds'])}",
    "export.unchanged": lambda e: f"nothing new to publish, {_s(e['seconds'])}",
    "export.waiting": lambda e: f"waiting behind {e['behind']}",
    "exporter.disabled": lambda _: "exports are switched off by enable_auto_export",
    "exporter.ended": lambda e: f"the exporter ended: {e['error']}",
    "exporter.stopped": lambda _: "stopped",
    "heartbeat.failed": lambda e: f"the heartbeat to {e['url']} failed: {e['error']}",
    "heartbeat.recovered": lambda e: f"the heartbeat to {e['url']} works again",
    "hooks.unavailable": lambda e: f"no file events: {e['reason']}",
    "lake.committed": lambda e: f"lake at generation {e['generation']}: {_data_files(e)}, {_s(e['seconds'])}",
    "lake.current": lambda e: f"lake is at generation {e['generation']} already, {_s(e['seconds'])}",
    "leader.taken": lambda e: f"keeping {_short(e['directory'])} up to date",
    "leader.waiting": lambda e: f"standing by: {e['behind']} keeps {_short(e['directory'])} up to date",
    "listen.error": lambda e: f"no answer for {e['path']}: {e['error']}",
    "listen.failed": lambda e: f"cannot listen on {e['address']}: {e['error']}",
    "listen.started": lambda e: f"metrics and health: http://{e['address']}/metrics",
    "mapping.warning": lambda e: f"{e['warning']}",
    "monitor.started": lambda e: _started(e),
    "plan.made": lambda e: f"{e['mode']} export: {e['reason']}, {_s(e['seconds'])}",
    "publish.behind": lambda e: f"another exporter published to {e['store']}",
    "render.done": lambda e: f"rendered {_blocks(e['blocks'])}, kept {e['kept']:,}, {_s(e['seconds'])}",
    "render.no_process": lambda e: f"rendering in this process: {e['error']}",
    "render.other_encoder": lambda _: "the rendering process has another encoder",
    "settings.overruled": lambda e: f"{e['detail']}",
    "settings.unknown": lambda e: f"{e['detail']}",
    "snapshot.alone": lambda e: f"reading without a second connection: {e['error']}",
    "snapshot.no_room": lambda e: f"the server has room for one connection only: {e['error']}",
    "snapshot.opened": lambda e: f"reading {e['database']}",
    "snapshot.reread": lambda e: f"reading again: {e['reason']}",
    "splice.staged": lambda e: f"wrote {counted(e['files'], 'file')}, {counted(e['bytes'], 'byte')}",
    "stop.asked": lambda e: f"{e['signal']}: stopping; a second one stops at once",
    "stop.at_once": lambda e: f"{e['signal']}: stopping at once",
    "sweep.failed": lambda e: f"old objects stay in the store: {e['error']}",
    "tasks.lake_unreachable": lambda e: f"the lake cannot be reached: {e['error']}",
    "textfile.failed": lambda e: f"cannot write {e['path']}: {e['error']}",
}
"""The sentence for each event. An event without one is shown with its values."""

STEPS = frozenset({"snapshot.opened", "plan.made", "render.done", "splice.staged", "changes.recounted"})
"""The steps of an export that found nothing to publish say nothing that a person wants to know."""

_LEVELS = {"warning": "1;35", "error": "1;31", "critical": "1;31"}
_FRAME = frozenset({"event", "level", "timestamp", "exception", "hint", "database"})
_NARROWEST = 40


class ConsoleLines:
    """A renderer of structlog. `every_step`: also show the steps of an export that publishes nothing.

    On a terminal, lines are wrapped and short; NO_COLOR and TERM=dumb turn colours off. Elsewhere an event is one
    line with date and level, so that programs can search it.
    """

    def __init__(self, *, every_step: bool) -> None:
        self._every_step = every_step
        self._held: list[str] = []
        self._stood_by = False

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        """The text for one event, without the last line break; empty if there is nothing to show yet."""
        name = str(event.get("event", ""))
        if not self._every_step and name in STEPS:
            self._held.append(_lines(event))
            # All rows are read now, which may take minutes: say so at once.
            return self._released() if event.get("mode") == "full" else ""
        if not self._every_step and name == "export.unchanged":
            self._held.clear()
            return ""
        self._stood_by |= name == "leader.waiting"
        if name == "leader.taken" and not (self._every_step or self._stood_by):
            return ""
        return "\n".join(filter(None, (self._released(), _lines(event))))

    def _released(self) -> str:
        held, self._held = self._held, []
        return "\n".join(held)


def has_colours() -> bool:
    """Whether standard error is a terminal with colours, and the user has not refused them (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in DUMB


def _lines(event: EventDict) -> str:
    level, text = str(event.get("level", "info")), visible(_sentence(event))
    hint = visible(" ".join(str(event.get("hint") or "").split()))
    moment = _moment(event.get("timestamp"))
    word = f"{level}: " if level in _LEVELS else ""
    traceback = f"\n{event['exception']}" if event.get("exception") else ""
    if not sys.stderr.isatty():
        date = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{date} {word}{text}{f' (hint: {hint})' if hint else ''}{traceback}"
    time = moment.astimezone().strftime("%H:%M:%S ")
    indent = " " * len(time)
    if event.get("event") == "monitor.started":
        time = ""  # The line has no room for it, and it is the first.
    lines = _wrapped(f"{time}{word}{text}", indent)
    lines += _wrapped(f"{indent}hint: {hint}", indent + "  ") if hint else []
    shown = "\n".join(lines)
    if has_colours() and word:
        shown = shown.replace(word, f"\x1b[{_LEVELS[level]}m{word}\x1b[0m", 1)
    if has_colours() and level == "debug":
        shown = f"\x1b[2m{shown}\x1b[0m"
    return shown + traceback


def _wrapped(text: str, indent: str) -> list[str]:
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
    return textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _moment(timestamp: object) -> datetime:
    try:
        return datetime.fromisoformat(str(timestamp))
    except ValueError:
        return datetime.now(UTC)


def _sentence(event: EventDict) -> str:
    name = str(event.get("event", ""))
    try:
        if (words := _WORDED.get(name)) is not None:
            return words(event)
    except (KeyError, TypeError, ValueError):
        pass  # The event has other values than usual: show them.
    rest = ", ".join(f"{key} {value}" for key, value in _rest(event).items())
    plain = name.replace(".", " ").replace("_", " ") if name.replace(".", "").replace("_", "").isalpha() else name
    return f"{plain}: {rest}" if rest else plain


def _rest(event: EventDict) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in _FRAME and value is not None}


# --- words ---------------------------------------------------------------------------------------


def _listed(event: EventDict, *others: str) -> str:
    """The counts of an event with their names, without `others`."""
    counts = {name: number for name, number in _rest(event).items() if name not in others}
    return ", ".join(counted_name(number, name) for name, number in counts.items())


def _blocks(number: int | None) -> str:
    return "unknown blocks" if number is None else counted(number, "block")


def _data_files(event: EventDict) -> str:
    return (
        f"{counted(event['files'], 'data file')} of {event['bytes']:,} bytes" if event["files"] else "no new rows"
    )


def _s(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 0.1 else f"{seconds:.2f} s"


def _short(directory: object) -> str:
    """The path as the user would write it: relative to the working directory if it is inside."""
    path = str(directory)
    here = os.getcwd().rstrip("/") + "/"
    return path.removeprefix(here) or path


def _changed(event: EventDict) -> str:
    if event["mode"] == "full":
        images = event["rendered_images"]
        return f"all {images:,} images" if images > 1 else "1 image" if images else "no images"
    suspects = event["changed_images"]
    if suspects == 1:
        return "1 image changed"
    if suspects:
        return f"up to {suspects:,} images changed"
    # Deleted rows leave no trace but their number, so their images are rendered without being known as changed.
    return "rows were deleted" if event["rendered_images"] else "projects, datasets or labels changed"


def _started(event: EventDict) -> str:
    stops = ", Ctrl-C stops" if sys.stdin is not None and sys.stdin.isatty() else ""
    return (
        f"watching {event['database_url']} {arrow()} {_short(event['directory'])} "
        f"every {event['interval_seconds']:g} s{stops} ({event['version']}, pid {event['pid']})"
    )


def arrow() -> str:
    """An arrow that standard error can show."""
    try:
        "→".encode(sys.stderr.encoding or "utf-8")
    except UnicodeEncodeError:
        return "->"
    return "→"
