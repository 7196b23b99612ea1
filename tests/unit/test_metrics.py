"""The metrics, read by the client's own parsers, and the server that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from autoexport.config.operations import Address
from autoexport.daemon import http_server, metrics
from autoexport.daemon.health import HUNG_S, SILENT_S, Health
from autoexport.daemon.http_server import Answer, HttpServer
from autoexport.daemon.metrics import Observed, require_packages, scrape
from autoexport.daemon.report import Report, State
from autoexport.errors import ConfigurationError, SourceError
from autoexport.publishing.manifest import FileRecord, Manifest
from autoexport.version import __version__
from tests.deadlines import deadline_s
from tests.http_servers import fetch, quickest

OPENMETRICS = "application/openmetrics-text; version=1.0.0, text/plain;version=0.0.4;q=0.5"
OURS = {
    "autoexport_build_info": {"version"},
    "autoexport_state": {"autoexport_state"},
    "autoexport_last_check_timestamp_seconds": set(),
    "autoexport_last_publish_timestamp_seconds": set(),
    "autoexport_oldest_unpublished_change_timestamp_seconds": set(),
    "autoexport_consecutive_failures": set(),
    "autoexport_generation": set(),
    "autoexport_exports_total": {"mode", "result"},
    "autoexport_last_export_duration_seconds": set(),
    "autoexport_file_size_bytes": {"file"},
    "autoexport_rows": {"kind"},
}
"""The names and the labels of all metrics that are not those of the process."""

HOSTILE = 'a"b\\c\nd{}, 花🐦\u202e</script>'
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def manifest(files: dict[str, int] | None = None, generation: int = 7) -> Manifest:
    """A manifest with files of these sizes."""
    sizes = {"images.csv": 120} if files is None else files
    records = {name: FileRecord(size, "crc32:00000000", 1) for name, size in sizes.items()}
    return Manifest(
        generation, "2024-01-20T10:30:00Z", "app.db", records, counts={"images": 46, "annotations": 88}
    )  # fmt: skip


def observed(report: Report | None = None, published: Manifest | None = None) -> Observed:
    """The facts of an exporter with this report, after an export that published this manifest."""
    told = report or Report(
        1, "watching", 10.0, 1000.0, last_check_at=1700000000.25, last_export_s=0.5, failures=2
    )
    facts = Observed(lambda: told)
    facts.exported(published or manifest(), full=True, published=True)
    return facts


def parsed(text: str, *, openmetrics: bool) -> Samples:
    """The samples of a text, by name and labels; each once."""
    families = list((openmetrics_families if openmetrics else text_families)(text))
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def read(facts: Observed, accept: str = OPENMETRICS) -> Samples:
    """The samples of one scrape."""
    text, media_type = scrape(facts.registry(), accept)
    return parsed(text.decode(), openmetrics=media_type.startswith("application/openmetrics-text"))


def value(samples: Samples, name: str, **labels: str) -> float:
    """The value of one sample."""
    return samples[name, frozenset(labels.items())]


# --- what they say -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept", [OPENMETRICS, "", "text/plain", "application/openmetrics-text;version=x.y", "ü"]
)
def test_the_names_are_those_that_are_promised(accept: str) -> None:
    """In every format, with their labels; the others are those of the process."""
    names: dict[str, set[str]] = {}
    for name, labels in read(observed(), accept):
        names.setdefault(name, set()).update(label for label, _ in labels)
    own = {name: labels for name, labels in names.items() if not name.startswith("process_")}
    assert own == OURS
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"} <= names.keys()


def test_the_types_are_those_that_are_promised() -> None:
    """OpenMetrics tells an info, a state set, a counter and gauges apart."""
    text, _ = scrape(observed().registry(), OPENMETRICS)
    types = {family.name: family.type for family in openmetrics_families(text.decode())}
    assert types["autoexport_build"] == "info"
    assert types["autoexport_state"] == "stateset"
    assert types["autoexport_exports"] == "counter"
    others = {name for name in types if name.startswith("autoexport_")} - {
        "autoexport_build", "autoexport_state", "autoexport_exports",
    }  # fmt: skip
    assert {types[name] for name in others} == {"gauge"}


def test_the_values_are_those_of_the_report_and_the_manifest() -> None:
    """After a publish: each metric has its value."""
    samples = read(observed())
    assert value(samples, "autoexport_build_info", version=__version__) == 1
    assert value(samples, "autoexport_last_check_timestamp_seconds") == 1700000000.25
    assert value(samples, "autoexport_last_publish_timestamp_seconds") == 1705746600
    assert value(samples, "autoexport_oldest_unpublished_change_timestamp_seconds") == 0
    assert value(samples, "autoexport_consecutive_failures") == 2
    assert value(samples, "autoexport_generation") == 7
    assert value(samples, "autoexport_exports_total", mode="full", result="published") == 1
    assert value(samples, "autoexport_exports_total", mode="incremental", result="published") == 0
    assert value(samples, "autoexport_last_export_duration_seconds") == 0.5
    assert value(samples, "autoexport_file_size_bytes", file="images.csv") == 120
    assert value(samples, "autoexport_rows", kind="annotations") == 88


@pytest.mark.parametrize("state", get_args(State))
def test_one_state_is_true(state: State) -> None:
    """All states are there, and the present one is 1."""
    samples = read(observed(Report(1, state, 10.0, 1000.0)))
    states = {dict(labels)["autoexport_state"]: number for (name, labels), number in samples.items()
              if name == "autoexport_state"}  # fmt: skip
    assert states == {other: float(other == state) for other in get_args(State)}


def test_exports_are_counted_by_mode_and_result() -> None:
    """Each kind, and those that failed."""
    facts = observed()
    facts.exported(manifest(generation=8), full=False, published=True)
    facts.exported(manifest(generation=8), full=False, published=False)
    facts.exported(manifest(generation=8), full=True, published=False)
    facts.failed()
    facts.failed()
    samples = read(facts)
    counts = {
        tuple(sorted(dict(labels).values())): number
        for (name, labels), number in samples.items()
        if name == "autoexport_exports_total"
    }
    assert counts == {
        ("full", "published"): 1, ("full", "unchanged"): 1, ("incremental", "published"): 1,
        ("incremental", "unchanged"): 1, ("failed", "unknown"): 2,
    }  # fmt: skip
    assert value(samples, "autoexport_generation") == 8


def test_before_the_first_export_there_are_zeros() -> None:
    """An exporter that just started has all metrics but those of files and rows."""
    samples = read(Observed(lambda: Report(1, "starting", 10.0, 1000.0)))
    assert value(samples, "autoexport_last_check_timestamp_seconds") == 0
    assert value(samples, "autoexport_generation") == 0
    assert not any(name in ("autoexport_file_size_bytes", "autoexport_rows") for name, _ in samples)


def test_an_exporter_that_stands_by_knows_nothing_of_the_files() -> None:
    """The other one publishes meanwhile."""
    samples = read(observed(Report(1, "standing by", 10.0, 1000.0)))
    assert value(samples, "autoexport_generation") == 0


def test_a_folder_counts_as_one_file() -> None:
    """The number of series does not grow with the projects, and hostile names do not break the text."""
    sizes = {f"coco/p{number}/annotations/instances_train.json": 10 for number in range(3_000)}
    samples = read(observed(published=manifest({**sizes, HOSTILE.replace("/", ""): 5})))
    assert value(samples, "autoexport_file_size_bytes", file="coco") == 30_000
    assert value(samples, "autoexport_file_size_bytes", file=HOSTILE.replace("/", "")) == 5


@given(names=st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(0, 2**60), max_size=5))
def test_any_name_is_parsed_as_it_is(names: dict[str, int]) -> None:
    """Both parsers read back every file name."""
    facts = observed(published=manifest(names))
    for accept in (OPENMETRICS, "text/plain"):
        found = {dict(labels)["file"] for name, labels in read(facts, accept) if name.endswith("file_size_bytes")}
        assert found == {name.partition("/")[0] for name in names}


# --- the textfile ------------------------------------------------------------------------------------


def test_the_textfile_counts_on(tmp_path: Path) -> None:
    """Each run of a timer adds to the counters of the file; the process has no metrics there."""
    path = tmp_path / "autoexport.prom"
    for runs in range(1, 4):
        facts = observed()
        if runs == 2:
            facts = Observed(facts.report)
            facts.failed()
        facts.write_textfile(path)
    samples = parsed(path.read_text(), openmetrics=False)
    assert value(samples, "autoexport_exports_total", mode="full", result="published") == 2
    assert value(samples, "autoexport_exports_total", mode="unknown", result="failed") == 1
    assert {name for name, _ in samples} == OURS.keys()
    assert path.stat().st_mode & 0o777 == 0o644
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no temporary file is left"


FULL = b'autoexport_exports_total{mode="full",result="published"}'
DAMAGED = (
    b"", b"\xff\xfe", b"autoexport_exports_total{", FULL + b" x", FULL + b" -5\n", FULL + b" NaN\n", b"{" * 5_000,
    b"autoexport_exports_total 7\n", b"# TYPE\n# HELP\n", FULL + b" +Inf\n",
)  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
def test_a_textfile_that_is_damaged_counts_from_the_beginning(text: bytes, tmp_path: Path) -> None:
    """Nothing in it makes the export fail."""
    path = tmp_path / "autoexport.prom"
    path.write_bytes(text)
    observed().write_textfile(path)
    samples = parsed(path.read_text(), openmetrics=False)
    assert value(samples, "autoexport_exports_total", mode="full", result="published") == 1


def test_a_link_in_place_of_the_textfile_is_replaced(tmp_path: Path) -> None:
    """The file that it leads to is not written."""
    victim = tmp_path / "victim"
    victim.write_text("keep")
    path = tmp_path / "autoexport.prom"
    path.symlink_to(victim)
    observed().write_textfile(path)
    assert victim.read_text() == "keep"
    assert not path.is_symlink()


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the package, and the hint installs it with this Python."""
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError) as caught:
        require_packages("listen", "prometheus_client", "h11")
    assert str(caught.value) == "listen needs prometheus-client and h11, which this Python does not have."
    assert caught.value.hint == f"Run: {sys.executable} -m pip install prometheus-client h11"
    monkeypatch.undo()
    require_packages("listen", "prometheus_client", "h11")


# --- health ------------------------------------------------------------------------------------------


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_hang_is_told_and_nothing_else() -> None:
    """An export without a step, and an exporter without a sign; not failures, not waiting, not a long export."""
    clock = Clock()
    health = Health(10.0, clock=clock, steady=clock)
    clock.now += SILENT_S - 1
    assert health.hangs() is None
    clock.now += 1
    assert "no sign of life" in str(health.hangs())
    health.checked(changed=True)
    assert health.hangs() is None
    health.failed(SourceError("The database is away."), 60.0)
    for _ in range(100):
        clock.now += SILENT_S / 2
        health.progressed()  # a tick of waiting for the database
        assert health.hangs() is None
    health.export_began()
    for _ in range(100):
        clock.now += SILENT_S / 2
        health.advance(1)
        assert health.hangs() is None
    for _ in range(int(HUNG_S / 100) - 1):
        clock.now += 100
        health.waited()
        assert health.hangs() is None
    clock.now += 100
    assert "completed no step" in str(health.hangs())
    health.export_left()
    health.progressed()
    assert health.hangs() is None


def test_ready_is_what_status_calls_healthy() -> None:
    """Published in this life, not failing, checked recently, and not standing by."""
    clock = Clock()
    health = Health(10.0, clock=clock, steady=clock)
    assert health.unready() == "no export has succeeded yet"
    health.export_began()
    health.checked(changed=False)
    health.export_completed(7, "2024-01-20T10:30:00Z", 0.1)
    assert health.unready() is None
    health.failed(SourceError("no room on geheim"), 1.0)
    assert health.unready() == "failing: 1 in a row"
    health.export_completed(8, "2024-01-20T10:30:00Z", 0.1)
    assert health.unready() is None
    clock.now += 31
    assert health.unready() == "the last check is too old"
    health.standing_by("geheim")
    assert health.unready() == "another exporter keeps the files"


# --- the server --------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(text: bytes = b"hello\n") -> AsyncIterator[str]:
    """A server on a free port; its address."""

    def answer(path: str, accept: str) -> Answer:
        if path == "/defect":
            raise ValueError("defect")
        return Answer(text + path.encode() + accept.encode())

    server = HttpServer(Address("127.0.0.1", 0), answer)
    address = await server.open()
    try:
        yield str(address)
    finally:
        await server.close()


async def raw(address: str, data: bytes) -> bytes:
    """The whole answer to these bytes."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(deadline_s(30)):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_requests_are_answered() -> None:
    """GET and HEAD, with and without a query; the connection is closed after each."""
    async with serving() as address:
        assert await asyncio.to_thread(fetch, address, "/a?b=c", accept="x/y") == (
            200, "text/plain; charset=utf-8", "hello\n/ax/y",
        )  # fmt: skip
        assert (await asyncio.to_thread(fetch, address, "/a", method="HEAD"))[2] == ""
        assert (await asyncio.to_thread(fetch, address, "/a", method="POST"))[0] == 405
        assert (await asyncio.to_thread(fetch, address, "/defect"))[0] == 500
        answer = await raw(address, b"GET / HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"geheim\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    ],
)
async def test_garbage_is_refused(data: bytes, status: bytes) -> None:
    """A client that speaks something else gets an error or a closed connection, and the next one an answer."""
    async with serving() as address:
        answer = await raw(address, data)
        assert answer == b"" or answer.split(b" ")[1] == status
        assert (await asyncio.to_thread(fetch, address, "/"))[0] == 200


async def test_clients_that_hang_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some send nothing, some read nothing; others are answered meanwhile, and the server keeps no connection."""
    monkeypatch.setattr(http_server, "REQUEST_S", deadline_s(2))
    async with serving(b"x" * 5_000_000) as address, contextlib.AsyncExitStack() as stack:
        host, _, port = address.rpartition(":")
        silent = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(20)]
        for connection in silent[10:]:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await asyncio.to_thread(fetch, address, "/"))[0] == 200
        for connection in silent:
            connection.settimeout(deadline_s(30))
            await asyncio.to_thread(read_to_the_end, connection)


def read_to_the_end(connection: socket.socket) -> None:
    """Read until the server has closed the connection."""
    try:
        while connection.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass


async def test_too_many_clients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond the limit are closed at once, and the descriptors last for the exports."""
    monkeypatch.setattr(http_server, "MOST_CLIENTS", 3)
    async with serving() as address:
        host, _, port = address.rpartition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        deadline = time.monotonic() + deadline_s(20)
        while await raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            assert time.monotonic() < deadline
        for _, writer in held:
            writer.close()
        while not await raw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            assert time.monotonic() < deadline


async def test_a_scrape_takes_less_than_5_ms() -> None:
    """Of all metrics, with many files, over HTTP; the quickest of several, because other work adds to it."""
    facts = observed(published=manifest({f"coco/p{number}/a.json": 10 for number in range(1_000)}))
    registry = facts.registry()

    def answer(path: str, accept: str) -> Answer:
        text, media_type = scrape(registry, accept)
        return Answer(text, media_type=media_type)

    server = HttpServer(Address("127.0.0.1", 0), answer)
    address = await server.open()
    seconds = await asyncio.to_thread(quickest, lambda: fetch(str(address), "/metrics", accept=OPENMETRICS), 30)
    await server.close()
    assert seconds < deadline_s(0.005)


def test_the_report_is_read_at_each_scrape() -> None:
    """A scrape shows the report of that moment."""
    reports = [Report(1, "watching", 10.0, 0.0, last_check_at=1.0)]
    facts = Observed(lambda: reports[-1])
    registry = facts.registry()
    before = parsed(scrape(registry, "")[0].decode(), openmetrics=False)
    reports.append(replace(reports[0], last_check_at=2.0))
    after = parsed(scrape(registry, "")[0].decode(), openmetrics=False)
    assert value(before, "autoexport_last_check_timestamp_seconds") == 1
    assert value(after, "autoexport_last_check_timestamp_seconds") == 2
