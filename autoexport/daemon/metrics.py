"""Words the report of an exporter as metrics, for Prometheus and for the textfile of its node exporter."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from autoexport.daemon.report import Report, State
from autoexport.errors import ConfigurationError
from autoexport.publishing.manifest import Manifest
from autoexport.runtime.files import create_new, temp_beside, write_all
from autoexport.version import __version__

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

EXPORTS = "autoexport_exports"
MODES, RESULTS = ("full", "incremental", "unknown"), ("published", "unchanged", "failed")
KINDS = [*((mode, result) for mode in MODES[:2] for result in RESULTS[:2]), ("unknown", "failed")]
"""The modes and results that there are: of an export that failed, the mode is not known."""

_PACKAGES = {"prometheus_client": "prometheus-client", "h11": "h11"}
_MOST_BYTES = 1 << 20
_HELP = {
    "autoexport_build": "The version of the exporter.",
    "autoexport_state": "The state of the exporter.",
    "autoexport_last_check_timestamp_seconds": "When the database was checked last; 0 before the first check.",
    "autoexport_last_publish_timestamp_seconds": "When the database was read for the published files; 0 for none.",
    "autoexport_oldest_unpublished_change_timestamp_seconds": (
        "When the oldest change was seen that is not published; 0 for none."
    ),
    "autoexport_consecutive_failures": "Failures since the last success.",
    "autoexport_generation": "The generation of the published files; 0 for none.",
    EXPORTS: "Exports by mode and result.",
    "autoexport_last_export_duration_seconds": "How long the last export took.",
    "autoexport_file_size_bytes": "Size of a published file; all files in a folder count together.",
    "autoexport_rows": "Published rows by kind.",
}


def require_packages(setting: str, *modules: str) -> None:
    """Raise `ConfigurationError` if a package is missing that a setting needs."""
    missing = [_PACKAGES[module] for module in modules if find_spec(module) is None]
    if missing:
        raise ConfigurationError(
            f"{setting} needs {' and '.join(missing)}, which this Python does not have.",
            hint=f"Run: {shlex.quote(sys.executable or 'python3')} -m pip install {' '.join(missing)}",
        )


class Observed:
    """The facts of an exporter that become metrics: its report, its last manifest and its exports so far."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self.report = report
        self.manifest: Manifest | None = None
        self.exports: Counter[tuple[str, str]] = Counter()

    def exported(self, manifest: Manifest, *, full: bool, published: bool) -> None:
        """Count an export that succeeded."""
        self.manifest = manifest
        self.exports["full" if full else "incremental", "published" if published else "unchanged"] += 1

    def failed(self) -> None:
        """Count an export that failed."""
        self.exports["unknown", "failed"] += 1

    def collect(self) -> Iterator[Metric]:
        """The metrics; prometheus-client calls it for each scrape. It waits for nothing."""
        from prometheus_client import metrics_core as core

        def gauge(name: str, value: float | None) -> Metric:
            return core.GaugeMetricFamily(name, _HELP[name], value=value or 0.0)

        report = self.report()
        # An exporter that stands by does not know what the other one publishes.
        manifest = self.manifest if report.state != "standing by" else None
        read_at = manifest.read_at if manifest is not None else None
        yield core.InfoMetricFamily("autoexport_build", _HELP["autoexport_build"], {"version": __version__})
        states = {state: state == report.state for state in get_args(State)}
        yield core.StateSetMetricFamily("autoexport_state", _HELP["autoexport_state"], states)
        yield gauge("autoexport_last_check_timestamp_seconds", report.last_check_at)
        yield gauge("autoexport_last_publish_timestamp_seconds", read_at.timestamp() if read_at else None)
        yield gauge("autoexport_oldest_unpublished_change_timestamp_seconds", report.oldest_change_at)
        yield gauge("autoexport_consecutive_failures", report.failures)
        yield gauge("autoexport_generation", manifest.generation if manifest is not None else None)
        exports = core.CounterMetricFamily(EXPORTS, _HELP[EXPORTS], labels=["mode", "result"])
        for kind in KINDS:
            exports.add_metric(kind, self.exports[kind])
        yield exports
        yield gauge("autoexport_last_export_duration_seconds", report.last_export_s)
        sizes, rows = _sizes(manifest), manifest.counts if manifest is not None else {}
        yield _labelled("autoexport_file_size_bytes", "file", sizes)
        yield _labelled("autoexport_rows", "kind", rows)

    # --- scrapes -----------------------------------------------------------------------------------------

    def registry(self) -> CollectorRegistry:
        """A registry with these metrics and those of this process."""
        from prometheus_client import CollectorRegistry, ProcessCollector

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    # --- the textfile ------------------------------------------------------------------------------------

    def write_textfile(self, path: Path) -> None:
        """Write the metrics to a file that readers see whole or not at all. Raises `OSError`; blocking.

        It counts on from the exports that the file counts already. It has no metrics of the process: the node
        exporter has some of its own.
        """
        from prometheus_client import CollectorRegistry, generate_latest

        self.exports += _counted(path)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        temp = temp_beside(path)
        descriptor = create_new(temp, 0o644)
        try:
            try:
                write_all(descriptor, generate_latest(registry))
            finally:
                os.close(descriptor)
            os.replace(temp, path)
        except BaseException:
            with suppress(OSError):
                temp.unlink()
            raise


def scrape(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The text of the metrics and its media type, in the format that the client accepts."""
    from prometheus_client import exposition

    try:
        encoder, media_type = exposition.choose_encoder(accept)
    except (ValueError, TypeError):  # a version that is no number
        encoder, media_type = exposition.choose_encoder("")
    return encoder(registry), media_type


def _labelled(name: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client import metrics_core as core

    family = core.GaugeMetricFamily(name, _HELP[name], labels=[label])
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family


def _sizes(manifest: Manifest | None) -> Counter[str]:
    """Bytes by file. A folder counts as one file: it may have thousands, each of which would be a series."""
    sizes: Counter[str] = Counter()
    for name, record in manifest.files.items() if manifest is not None else ():
        sizes[name.partition("/")[0]] += record.bytes
    return sizes


def _counted(path: Path) -> Counter[tuple[str, str]]:
    """The exports that an earlier textfile counts; none if there is no such file, or if it is another one."""
    from prometheus_client.parser import text_string_to_metric_families

    found: Counter[tuple[str, str]] = Counter()
    with suppress(OSError, ValueError, KeyError, IndexError):
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                kind = sample.labels.get("mode", ""), sample.labels.get("result", "")
                if sample.name == f"{EXPORTS}_total" and kind in KINDS and 0 <= sample.value < 2**53:
                    found[kind] = int(sample.value)
    return found
