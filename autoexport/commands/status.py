"""Reports how fresh the files are and whether a running exporter keeps them so."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from autoexport.commands.terminal import print_table, say
from autoexport.config.settings import Settings
from autoexport.daemon.report import Report, read_report
from autoexport.daemon.status_socket import ask
from autoexport.errors import SourceError
from autoexport.pipeline.job import target_of
from autoexport.publishing.locks import LEADER_LOCK, Lock
from autoexport.publishing.manifest import Manifest


@dataclass(frozen=True, slots=True)
class StatusFindings:
    """The state of an exporter, seen from another process.

    `running`: the leader lock is held; the system releases it when its holder dies. `answering`: the exporter
    answered on its socket. `report` is that answer, else the last report in the state directory. `now` is in
    seconds since the epoch. `max_age_s` is the greatest age of a fresh check; None for the exporter's own limit.
    `private`: this user may not look into the state directory, so only the manifest is known.
    """

    now: float
    running: bool
    answering: bool
    report: Report | None
    manifest: Manifest | None
    max_age_s: float | None = None
    private: bool = False

    @property
    def oldest_change_at(self) -> float | None:
        """When the oldest unexported change was seen, in seconds since the epoch; None if there is none.

        The last report of a stopped exporter may name a change that another exporter has published since.
        """
        change_at = self.report.oldest_change_at if self.report else None
        if change_at is None or self.running or self.manifest is None:
            return change_at
        read_at = self.manifest.read_at
        return None if read_at is not None and read_at.timestamp() > change_at else change_at

    @property
    def failing(self) -> bool:
        """Whether the last attempt of the exporter failed."""
        return self.report is not None and self.report.error is not None

    @property
    def stale(self) -> bool:
        """Whether the last completed check is too old, or unknown. Without a report, the last publish counts."""
        if self.report is not None:
            return self.report.is_stale(self.now, self.max_age_s)
        read_at = self.manifest.read_at if self.manifest is not None else None
        if read_at is None:
            return True
        if self.max_age_s is not None:
            return self.now - read_at.timestamp() > self.max_age_s
        return not self.private


def status(settings: Settings, *, as_json: bool, max_age_s: float | None = None) -> int:
    """Print the state of the exporter. Return 0 if it is healthy, 1 if it is failing or stale.

    A degraded exporter keeps the files fresh, but they lack annotations that it cannot map: that returns 0.
    `max_age_s` is the greatest age of the last check that is not stale, in seconds. Raises `SourceError` if this
    user can look neither into the state directory nor at the manifest.
    """
    findings = _inspect(settings, max_age_s)
    if as_json:
        say(orjson.dumps(_record(findings), option=orjson.OPT_INDENT_2).decode())
    else:
        _print(settings, findings)
    return 1 if findings.failing or findings.stale else 0


def _inspect(settings: Settings, max_age_s: float | None) -> StatusFindings:
    state = settings.state_dir.absolute()
    manifest = target_of(settings).read_manifest()
    try:
        running = Lock(state, LEADER_LOCK).is_held()
    except OSError as exc:
        if isinstance(exc, PermissionError) and manifest is not None:
            return StatusFindings(time.time(), False, False, None, manifest, max_age_s, private=True)
        raise SourceError(
            f"{state} cannot be read: {exc.strerror}.",
            hint="Run this command as the user of the exporter, or as root.",
        ) from exc
    answer = ask(state) if running else None
    live = Report.from_json(answer) if answer is not None else None
    return StatusFindings(
        now=time.time(),
        running=running,
        answering=live is not None,
        report=live or read_report(state),
        manifest=manifest,
        max_age_s=max_age_s,
    )


def _record(findings: StatusFindings) -> dict[str, Any]:
    report, manifest = findings.report, findings.manifest
    return {
        "healthy": not (findings.failing or findings.stale),
        "running": None if findings.private else findings.running,
        "answering": None if findings.private else findings.answering,
        "failing": findings.failing,
        "stale": findings.stale,
        "degraded": report.degraded is not None if report else False,
        "state": _state(findings),
        "pid": report.pid if report and findings.running else None,
        "interval_seconds": report.interval_s if report else None,
        "generation": manifest.generation if manifest else None,
        "last_publish": manifest.timestamp if manifest else None,
        "last_check": _iso(report.last_check_at if report else None),
        "last_export_seconds": report.last_export_s if report else None,
        "oldest_unexported_change_seconds": _age_s(findings.oldest_change_at, findings.now),
        "failures": report.failures if report else 0,
        "last_error": report.error if report else None,
        "left_out": report.degraded if report else None,
        "after_publish_error": report.after_publish if report else None,
        "hint": (report.hint or report.degraded_hint) if report else None,
        "next_try": _iso(report.next_try_at if report and findings.running else None),
        "next_export": _iso(report.next_export_at if report and findings.running else None),
        "waits_for": report.waits_for if report and findings.running else None,
    }


def _state(findings: StatusFindings) -> str | None:
    if findings.report is None:
        return None
    return findings.report.state if findings.running or findings.report.state == "finished" else "stopped"


def _iso(time_s: float | None) -> str | None:
    if time_s is None:
        return None
    return datetime.fromtimestamp(round(time_s), UTC).isoformat().replace("+00:00", "Z")


def _age_s(time_s: float | None, now: float) -> float | None:
    return None if time_s is None else round(max(0.0, now - time_s), 1)


# --- on the screen -------------------------------------------------------------------------------


def _print(settings: Settings, findings: StatusFindings) -> None:
    record = _record(findings)
    unknown = "unknown" if findings.private else None
    rows = [
        ["running", _running(record)],
        ["generation", str(record["generation"] or "none yet")],
        ["last publish", str(record["last_publish"] or "none yet")],
        ["last check", str(record["last_check"] or unknown or "none yet")],
        ["oldest unexported change", _seconds(record["oldest_unexported_change_seconds"]) or unknown or "none"],
        ["last error", str(record["last_error"] or unknown or "none")],
    ]
    if record["next_export"]:
        rows.append(["next export", f"{record['next_export']}: {record['waits_for']}"])
    elif record["waits_for"]:
        rows.append(["waiting for", str(record["waits_for"])])
    if record["after_publish_error"]:
        rows.append(["after the last publish", str(record["after_publish_error"])])
    if record["degraded"]:
        rows.append(["degraded", str(record["left_out"])])
    if record["last_error"] or record["degraded"]:
        rows.append(["what to do", str(record["hint"] or "")])
    if record["last_error"]:
        rows.append(["failures in a row", str(record["failures"])])
        rows.append(["next try", str(record["next_try"] or "none")])
    print_table(f"Export in {settings.destination}", None, rows)
    say(_verdict(record, findings))


def _running(record: dict[str, Any]) -> str:
    if record["running"] is None:
        return "unknown: the state directory is private"
    if not record["running"]:
        return "no; exported once" if record["state"] == "finished" else "no"
    if not record["answering"]:
        return "yes, but it does not answer"
    return f"yes, process {record['pid']}: {record['state']}"


def _seconds(age_s: float | None) -> str | None:
    return None if age_s is None else f"{age_s:,.1f} s ago"


def _verdict(record: dict[str, Any], findings: StatusFindings) -> str:
    if record["failing"]:
        return "failing"
    if record["stale"]:
        return f"stale: {_why_stale(record, findings)}"
    if record["degraded"]:
        return "degraded: the files are fresh, but not all annotations are exported"
    if findings.private:
        return "published: ask as the user of the exporter whether the files are kept fresh"
    if record["running"]:
        return "healthy"
    if record["state"] == "finished":
        return f"fresh: exported once, {_ago(findings)}; no exporter is running"
    return "healthy: no exporter is running, but the last check is recent"


def _why_stale(record: dict[str, Any], findings: StatusFindings) -> str:
    if findings.report is None and findings.manifest is None:
        return "nothing was exported here"
    if findings.max_age_s is not None:
        kind = "publish" if findings.report is None else "check"
        return f"the last {kind} was {_ago(findings)}, --max-age is {findings.max_age_s:g} s"
    return "the last check is too old" if record["running"] else "no exporter is running"


def _ago(findings: StatusFindings) -> str:
    """How long ago the last check was, or the last publish if no check is known."""
    if findings.report is not None:
        age_s = findings.now - findings.report.checked_at
    else:
        read_at = findings.manifest.read_at if findings.manifest is not None else None
        age_s = findings.now - (read_at.timestamp() if read_at is not None else 0.0)
    for unit_s, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if age_s >= 2 * unit_s:
            return f"{age_s / unit_s:.0f} {unit} ago"
    return f"{max(0.0, age_s):.0f} s ago"
