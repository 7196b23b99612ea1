"""Brings the tables of a lake up to date with the published Parquet files, after each publish.

The manifest comes first, and the tables are brought up to it. An export that ended in between, or a lake that
could not be reached, leaves tables of an earlier generation. The next export brings them up to date.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from autoexport.pipeline.job import ExportJob
from autoexport.publishing.lake.process import worked
from autoexport.publishing.lake.requests import Action, Answer, Facts, Lake, Request, Source
from autoexport.publishing.manifest import Manifest
from autoexport.runtime.files import replace_durably
from autoexport.runtime.logs import get_logger
from autoexport.runtime.progress import NullProgress, Progress
from autoexport.runtime.threads import in_thread

log = get_logger()

TABLES = ("images", "annotations")
"""The names of the tables, and of the Parquet files with their rows."""

RECORD_NAME = "lake.json"
"""The file in the state directory that says which generation the lake has. Without it, the lake is asked."""

_CLEAN_S = 3_600.0
"""The longest time from one removal of old files to the next, in seconds, and else a tenth of their life."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The work on a lake: the tables that got a commit, and processor time in seconds."""

    tables: Sequence[str] = ()
    cpu_s: float = 0.0


async def sync(job: ExportJob, manifest: Manifest, progress: Progress | None = None) -> Synced:
    """Bring the lake up to the generation of the manifest; nothing if it is there. Raises `AutoexportError`."""
    lake = job.lake
    if lake is None:
        return Synced()
    path = job.state / RECORD_NAME
    if await in_thread(_is_current, path, lake, manifest):
        return Synced()
    cleaned_at = await in_thread(_cleaned_at, path, lake)
    clean = not 0 <= time.time() - cleaned_at < min(_CLEAN_S, lake.keep_s / 10)
    started = time.monotonic()
    request = replace(_request("publish", lake, job.target.directory, manifest), clean=clean)
    answer = await _answer(request, progress)
    for report in answer.reports:
        log.debug("lake.table", **asdict(report))
    seconds = round(time.monotonic() - started, 3)
    if any(report.committed for report in answer.reports):
        log.info(
            "lake.committed",
            lake=lake.location,
            generation=manifest.generation,
            files=sum(report.added for report in answer.reports),
            bytes=sum(report.added_bytes for report in answer.reports),
            seconds=seconds,
        )
    else:
        log.info("lake.current", lake=lake.location, generation=manifest.generation, seconds=seconds)
    record = {
        "lake": asdict(lake),
        "generation": manifest.generation,
        "timestamp": manifest.timestamp,
        "cleaned_at": time.time() if clean else cleaned_at,
    }
    await in_thread(replace_durably, path, [orjson.dumps(record)], mode=0o600)
    return Synced([report.name for report in answer.reports if report.committed], answer.cpu_s)


async def differences(job: ExportJob, manifest: Manifest, progress: Progress | None = None) -> Sequence[str]:
    """The differences between the lake and the published files, one line each. Raises `AutoexportError`."""
    if job.lake is None:
        return ()
    request = _request("compare", job.lake, job.target.directory, manifest)
    return (await _answer(request, progress)).differences


def _request(action: Action, lake: Lake, directory: Path, manifest: Manifest) -> Request:
    facts = Facts(manifest.generation, manifest.timestamp, manifest.database, manifest.counts)
    return Request(action, lake, facts, _sources(directory))


async def _answer(request: Request, progress: Progress | None) -> Answer:
    shown = progress or NullProgress()
    shown.start(None)
    answer = await worked(request, shown.advance)
    shown.finish()
    return answer


async def probe(lake: Lake, directory: Path, database: str) -> None:
    """Write a file to the lake and remove it. Raises `AutoexportError`."""
    await worked(Request("probe", lake, Facts(0, "", database, {}), _sources(directory)), lambda _: None)


def _sources(directory: Path) -> list[Source]:
    return [Source(name, str(directory / f"{name}.parquet")) for name in TABLES]


def _read(path: Path, lake: Lake) -> dict[str, Any]:
    """What the last export recorded about this lake; empty if it recorded nothing."""
    try:
        record = orjson.loads(path.read_bytes())
        return record if record["lake"] == asdict(lake) else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _is_current(path: Path, lake: Lake, manifest: Manifest) -> bool:
    """Whether the lake has this generation, as the record says. If not, the lake itself has to be asked."""
    record = _read(path, lake)
    if (record.get("generation"), record.get("timestamp")) != (manifest.generation, manifest.timestamp):
        return False
    return not lake.is_local or all((Path(lake.table(name)) / "_delta_log").is_dir() for name in TABLES)


def _cleaned_at(path: Path, lake: Lake) -> float:
    found = _read(path, lake).get("cleaned_at")
    return found if isinstance(found, float) else 0.0
