"""What an operator asked for, around a real daemon: metrics, health, heartbeat and the command after a publish."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from autoexport import Settings, export_once, exporting, run_exporter
from autoexport.daemon import health, operations
from autoexport.daemon.events import Event, Publication
from autoexport.errors import SourceError
from tests.applications import create_sqlite, fill_sqlite
from tests.conftest import run_autoexport
from tests.daemon import LIMIT_S, Daemon, generation, wait_until
from tests.databases import SqliteDatabase
from tests.deadlines import deadline_s
from tests.http_servers import OK, answering, fetch, sending
from tests.unit.test_metrics import OPENMETRICS, Samples, value

RENAME = "UPDATE projects SET name = ? WHERE id = 1"
SECRET = "geheim"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """All servers of these tests are on this machine."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """The application's database with the sample rows, in a SQLite file."""
    with closing(create_sqlite(tmp_path / "app.db")) as connection:
        fill_sqlite(connection)
    made = SqliteDatabase(tmp_path / "app.db")
    yield made
    made.close()


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """The directory for the files, with a name that a shell would take apart."""
    return tmp_path / "ex ports $(touch pwned) \"';"


def listening(daemon: Daemon) -> str:
    """The address that a daemon listens on."""
    return str(daemon.wait_for("listen.started")[-1]["address"])


def samples(address: str) -> Samples:
    """The metrics, by name and labels."""
    _, _, text = fetch(address, "/metrics", accept=OPENMETRICS)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def status(directory: Path) -> dict[str, object]:
    """What `status --json` says."""
    done = run_autoexport("status", "--json", "--export-dir", str(directory))
    found: dict[str, object] = json.loads(done.stdout)
    return found


# --- metrics and health ------------------------------------------------------------------------------


def test_metrics_are_right_after_a_publish_and_a_failure(database: SqliteDatabase, exports: Path) -> None:
    """After a publish, another one, and while the database is away: green health, red readiness."""
    away = database.path.with_name("away")
    with Daemon(database.url, exports, "--listen", "0", interval_s=0.3) as daemon:
        address = listening(daemon)
        assert address.startswith("127.0.0.1:")
        daemon.wait_until_idle()
        found, manifest = samples(address), json.loads((exports / "manifest.json").read_bytes())
        assert value(found, "autoexport_generation") == manifest["generation"] == 1
        assert value(found, "autoexport_rows", kind="images") == manifest["counts"]["images"]
        for name, record in manifest["files"].items():
            assert value(found, "autoexport_file_size_bytes", file=name) == record["bytes"]
        assert value(found, "autoexport_exports_total", mode="full", result="published") == 1
        assert value(found, "autoexport_state", autoexport_state="watching") == 1
        assert value(found, "autoexport_oldest_unpublished_change_timestamp_seconds") == 0
        assert abs(value(found, "autoexport_last_check_timestamp_seconds") - time.time()) < deadline_s(60)
        assert fetch(address, "/healthz")[0] == fetch(address, "/readyz")[0] == 200
        assert fetch(address, "/other")[0] == 404

        database.execute(RENAME, "another")
        wait_until(lambda: generation(exports) == 2, "the change is published")
        wait_until(lambda: value(samples(address), "autoexport_generation") == 2, "so do the metrics say")
        assert value(samples(address), "autoexport_exports_total", mode="incremental", result="published") == 1

        database.close()
        database.path.rename(away)
        wait_until(lambda: value(samples(address), "autoexport_consecutive_failures") >= 1, "the failure counts")
        assert value(samples(address), "autoexport_state", autoexport_state="retrying") == 1
        assert value(samples(address), "autoexport_generation") == 2
        assert fetch(address, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
        code, _, text = fetch(address, "/readyz")
        assert (code, text.startswith("failing: ")) == (503, True)
        assert "app.db" not in text, "a message may hold names; this one goes over the network"

        away.rename(database.path)
        wait_until(lambda: value(samples(address), "autoexport_consecutive_failures") == 0, "it is well again")
        wait_until(lambda: fetch(address, "/readyz")[0] == 200, "and ready")
        assert daemon.stop() == 0
    with pytest.raises(OSError, match="refused"):
        fetch(address, "/healthz")


_HELD_DAEMON = """
import asyncio, pathlib, sys
from autoexport.cli import main
from autoexport.daemon import health
from autoexport.pipeline.derivation import Derivation

health.HUNG_S = float(sys.argv[2])
go, render = pathlib.Path(sys.argv[1]), Derivation._render

async def held(*arguments, **named):
    while not go.exists():
        await asyncio.sleep(0.01)
    return await render(*arguments, **named)

Derivation._render = held
sys.exit(main(sys.argv[3:]))
"""


def test_health_is_red_while_an_export_hangs(database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """Scrapes are answered meanwhile, show the change that is not published, and all is green afterwards."""
    go = tmp_path / "go"
    hung_s = deadline_s(1.0)
    program = ("-c", _HELD_DAEMON, str(go), str(hung_s))
    with Daemon(database.url, exports, "--listen", "0", interval_s=0.3, program=program) as daemon:
        address = listening(daemon)
        wait_until(
            lambda: value(samples(address), "autoexport_state", autoexport_state="exporting") == 1, "it exports"
        )
        assert value(samples(address), "autoexport_oldest_unpublished_change_timestamp_seconds") > 0
        wait_until(lambda: fetch(address, "/healthz")[0] == 503, "the hang is seen", limit_s=LIMIT_S + hung_s)
        assert "completed no step" in fetch(address, "/healthz")[2]
        assert fetch(address, "/readyz")[0] == 503
        go.touch()
        wait_until(lambda: fetch(address, "/readyz")[0] == 200, "the export ends")
        assert fetch(address, "/healthz")[0] == 200
        assert value(samples(address), "autoexport_oldest_unpublished_change_timestamp_seconds") == 0


def test_a_process_that_is_stopped_does_not_answer(database: SqliteDatabase, exports: Path) -> None:
    """The probe of a service manager runs into its time limit, and works again when the process does."""
    with Daemon(database.url, exports, "--listen", "0", interval_s=0.3) as daemon:
        address = listening(daemon)
        daemon.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            fetch(address, "/healthz", limit_s=1.0)
        daemon.process.send_signal(signal.SIGCONT)
        assert fetch(address, "/healthz")[0] == 200


def test_a_port_in_use_does_not_keep_it_from_exporting(
    database: SqliteDatabase, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is logged with the address, the files are kept current, and `--listen` wins over the variable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {"DB_EXPORT_LISTEN": "127.0.0.1:1"}
        with Daemon(database.url, exports, "--listen", f":{port}", interval_s=0.3, env=environment) as daemon:
            (event,) = daemon.wait_for("listen.failed")
            assert event["address"] == f"127.0.0.1:{port}"
            assert "in use" in event["error"]
            wait_until(lambda: generation(exports) == 1, "it exports")
            assert daemon.stop() == 0


async def test_the_address_is_taken_when_it_is_free(
    database: SqliteDatabase, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, until the program that has it ends."""
    monkeypatch.setattr(operations, "AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = Settings(database_url=database.url, export_directory=exports, listen=address)
        async with exporting(settings) as exporter:
            await exporter.export_now()
            await asyncio.sleep(0.2)
            taken.close()
            await answers(address)
            assert (await asyncio.to_thread(fetch, address, "/metrics"))[0] == 200


async def answers(address: str) -> None:
    """Wait until a server answers there."""
    deadline = time.monotonic() + deadline_s(LIMIT_S)
    while True:
        try:
            await asyncio.to_thread(fetch, address, "/healthz")
        except OSError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        else:
            return


async def test_of_several_workers_the_one_that_exports_listens(database: SqliteDatabase, exports: Path) -> None:
    """Two exporters of a host program share an address: the second has it when the first has ended."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = Settings(database_url=database.url, export_directory=exports, listen=address, check_interval=0.1)
    with capture_logs() as logs:
        stops = [asyncio.Event(), asyncio.Event()]
        first = asyncio.create_task(run_exporter(settings, stop=stops[0]))
        await answers(address)
        second = asyncio.create_task(run_exporter(settings, stop=stops[1]))
        while not any(line["event"] == "leader.waiting" for line in logs):
            await asyncio.sleep(0.02)
        stops[0].set()
        await first
        await answers(address)
        stops[1].set()
        await second
    assert [line["event"] for line in logs if line["event"].startswith("listen.")] == ["listen.started"] * 2


async def test_a_scrape_waits_for_no_export(database: SqliteDatabase, exports: Path) -> None:
    """While an export is held for as long as the test likes, each scrape is answered."""
    go = asyncio.Event()
    held = asyncio.Event()

    async def hold(_: Publication) -> None:
        held.set()
        await go.wait()

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = Settings(database_url=database.url, export_directory=exports, listen=address, check_interval=0.1)
    async with exporting(settings, on_publish=hold) as exporter:
        await asyncio.wait_for(held.wait(), deadline_s(LIMIT_S))
        waiting = asyncio.create_task(exporter.export_now())
        for _ in range(5):
            assert (await asyncio.to_thread(fetch, address, "/metrics"))[0] == 200
            assert (await asyncio.to_thread(fetch, address, "/healthz"))[0] == 200
        assert not waiting.done()
        go.set()
        await waiting


# --- timer mode --------------------------------------------------------------------------------------


def test_one_time_exports_write_the_textfile(database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """A success, a second one and a failure: each run of the timer adds to the counters."""
    path = tmp_path / "autoexport.prom"
    where = ("--database-url", database.url, "--export-dir", str(exports))
    environment = {"DB_EXPORT_METRICS_TEXTFILE": str(path)}
    for _ in range(2):
        assert run_autoexport(*where, env=environment).exit_code == 0
    text = path.read_text()
    assert "autoexport_generation 1.0\n" in text
    assert 'autoexport_exports_total{mode="full",result="published"} 1.0\n' in text
    assert 'result="unchanged"} 1.0\n' in text
    assert "process_" not in text
    database.close()
    database.path.rename(database.path.with_name("away"))
    assert run_autoexport(*where, env=environment).exit_code == 1
    text = path.read_text()
    assert 'autoexport_exports_total{mode="unknown",result="failed"} 1.0\n' in text
    assert "autoexport_consecutive_failures 1.0\n" in text
    assert "autoexport_generation 1.0\n" in text


def test_a_textfile_that_cannot_be_written_fails_no_export(
    database: SqliteDatabase, exports: Path, tmp_path: Path
) -> None:
    """It is a warning with a hint."""
    environment = {"DB_EXPORT_METRICS_TEXTFILE": str(tmp_path / "no such folder" / "autoexport.prom")}
    done = run_autoexport("--database-url", database.url, "--export-dir", str(exports), env=environment)
    assert done.exit_code == 0
    assert "cannot write" in done.stderr
    assert "Let this user write" in done.stderr


# --- after a publish ---------------------------------------------------------------------------------


def script(folder: Path, body: str) -> Path:
    """A command with a hostile name that runs this code of Python."""
    path = folder / 'on "publish" $(touch pwned).py'
    path.write_text(f"#!{sys.executable} -IS\nimport json, os, sys, time\n{body}\n")
    path.chmod(0o755)
    return path


RECORD = (
    "variables = {name: value for name, value in os.environ.items() if name.startswith('AUTOEXPORT_')}\n"
    "manifest = json.load(open(variables['AUTOEXPORT_MANIFEST']))\n"
    "open(os.path.join(os.path.dirname(sys.argv[0]), 'calls'), 'a').write(\n"
    "    json.dumps([variables, manifest['generation'], sys.argv[1:]]) + '\\n')"
)


def calls(folder: Path) -> list[list[object]]:
    """What the command was told, call by call."""
    path = folder / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_the_command_is_told_of_each_publish(database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """The manifest, the generation and the changed files; nothing where nothing changed."""
    command = shlex.join([str(script(tmp_path, RECORD)), "a b", "$HOME;", "*"])
    with Daemon(database.url, exports, interval_s=0.3, env={"DB_EXPORT_ON_PUBLISH": command}) as daemon:
        wait_until(lambda: len(calls(tmp_path)) == 1, "the first call")
        daemon.wait_until_idle()
        assert not daemon.export_now()
        database.execute("UPDATE images SET width = width + 1 WHERE id = (SELECT min(id) FROM images)")
        wait_until(lambda: len(calls(tmp_path)) == 2, "the second call")
        assert daemon.stop() == 0
    (first, number, arguments), (second, again, _) = calls(tmp_path)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (number, again, arguments) == (1, 2, ["a b", "$HOME;", "*"])
    assert first["AUTOEXPORT_MANIFEST"] == str(exports / "manifest.json")
    assert first["AUTOEXPORT_GENERATION"] == "1"
    manifest = json.loads((exports / "manifest.json").read_bytes())
    beside = sorted(manifest["beside"])
    assert first["AUTOEXPORT_CHANGED_FILES"].split("\n") == sorted([*manifest["files"], *beside])
    changed = sorted(["database_export.json", "images.csv", *beside])
    assert second["AUTOEXPORT_CHANGED_FILES"].split("\n") == changed
    assert not list(tmp_path.rglob("pwned"))


def test_a_failing_command_is_shown_and_fails_nothing(
    database: SqliteDatabase, exports: Path, tmp_path: Path
) -> None:
    """`status` shows it and stays healthy; the next success takes it back. So it is with one-time exports."""
    switch = tmp_path / "fail"
    switch.touch()
    path = script(tmp_path, f"sys.exit('no room for geheim' if os.path.exists({str(switch)!r}) else 0)")
    environment = {"DB_EXPORT_ON_PUBLISH": shlex.join([str(path)])}
    where = ("--database-url", database.url, "--export-dir", str(exports))
    done = run_autoexport(*where, env=environment)
    assert done.exit_code == 0
    assert "failed with exit code 1: no room for geheim" in done.stderr
    found = status(exports)
    assert "failed with exit code 1" in str(found["after_publish_error"])
    assert (found["healthy"], found["last_error"]) == (True, None)
    assert run_autoexport(*where, env=environment).exit_code == 0
    assert status(exports)["after_publish_error"], "nothing was published since"
    with Daemon(database.url, exports, interval_s=0.3, env=environment) as daemon:
        database.execute(RENAME, "one")
        daemon.wait_for_report(lambda report: report.after_publish, "the failure is shown")
        daemon.wait_for("after_publish.failed")
        assert status(exports)["healthy"] is True
        daemon.wait_until_idle()
        switch.unlink()
        database.execute(RENAME, "two")
        daemon.wait_for_report(lambda report: report.after_publish is None, "the success is shown")
        assert daemon.stop() == 0


def test_a_command_that_hangs_holds_up_the_next_export_until_its_limit(
    database: SqliteDatabase, exports: Path, tmp_path: Path
) -> None:
    """The files stay as they are for that long; `status` says why; then the change is published."""
    path = script(tmp_path, f"{RECORD}\ntime.sleep(600)")
    limit_s = deadline_s(2.0)
    environment = {"DB_EXPORT_ON_PUBLISH": shlex.join([str(path)]), "DB_EXPORT_ON_PUBLISH_TIMEOUT": str(limit_s)}
    with Daemon(database.url, exports, interval_s=0.2, env=environment) as daemon:
        wait_until(lambda: len(calls(tmp_path)) == 1, "the command runs")
        database.execute(RENAME, "while it hangs")
        daemon.wait_for_report(
            lambda report: "command of the last publish" in (report.waits_for or ""), "it says why it waits"
        )
        assert generation(exports) == 1
        began = time.monotonic()
        wait_until(lambda: generation(exports) == 2, "it goes on", limit_s=LIMIT_S + limit_s)
        assert time.monotonic() - began < limit_s + deadline_s(10)
        (event,) = daemon.wait_for("after_publish.failed")[:1]
        assert f"was ended after {limit_s:g} s" in event["error"]
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("stop.asked")
        assert daemon.stop() == 128 + signal.SIGTERM
        wait_until(lambda: not _runs(path), "the command of the second publish has ended")


def test_a_stop_kills_the_command(database: SqliteDatabase, exports: Path, tmp_path: Path) -> None:
    """A second signal does not wait for it, and leaves no process; a test that does would fail."""
    path = script(tmp_path, f"{RECORD}\ntime.sleep(600)")
    with Daemon(database.url, exports, env={"DB_EXPORT_ON_PUBLISH": shlex.join([str(path)])}) as daemon:
        wait_until(lambda: len(calls(tmp_path)) == 1, "the command runs")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("stop.asked")
        assert daemon.stop() == 128 + signal.SIGTERM
        wait_until(lambda: not _runs(path), "the command has ended")


def _runs(path: Path) -> bool:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(path) in process.read_bytes():
                return True
        except OSError:
            continue
    return False


# --- in the library ----------------------------------------------------------------------------------


async def test_the_library_tells_of_publishes_and_events(database: SqliteDatabase, exports: Path) -> None:
    """Each publish once, with the changed files; events in their order, rows to the end."""
    published: list[Publication] = []
    events: list[Event] = []
    settings = Settings(database_url=database.url, export_directory=exports, check_interval=0.1)
    async with exporting(settings, on_publish=published.append, on_event=events.append) as exporter:
        manifest = await exporter.export_now()
        await until(lambda: len(published) == 1)
        assert published[0].manifest == manifest
        assert published[0].manifest_path == exports / "manifest.json"
        assert published[0].changed_files == tuple(sorted([*manifest.files, *manifest.beside]))
        database.execute(RENAME, "another")
        await until(lambda: len(published) == 2)
    assert published[1].manifest.generation == 2
    kinds = [event.kind for event in events]
    first = kinds[kinds.index("exporting") : kinds.index("published") + 1]
    assert "reading" in first
    (ended,) = [event for event in events if event.kind == "published"][:1]
    assert ended.publication == published[0]
    last = [event for event in events[: events.index(ended)] if event.kind == "reading"][-1]
    assert last.rows == last.total_rows or last.rows > 0
    assert [event.at for event in events] == sorted(event.at for event in events)


async def test_a_folder_of_label_files_is_told_as_one(database: SqliteDatabase, exports: Path) -> None:
    """A moved box changes a file of labels: its folder is among the changed files, and no other one."""
    published: list[Publication] = []
    settings = Settings(database_url=database.url, export_directory=exports, export_yolo=True)
    await export_once(settings, on_publish=published.append)
    folders = [name for name in published[0].changed_files if name.endswith("/")]
    assert folders
    database.execute("UPDATE annotations SET x_max = x_max - 1, confidence = 0.5 WHERE x_max > x_min + 2")
    await export_once(settings, on_publish=published.append)
    before, after = published[0].manifest.files, published[1].manifest.files
    differing = sorted(name for name in after if before.get(name) != after[name])
    assert any(name in differing for name in folders)
    assert [name for name in published[1].changed_files if name in after] == differing


async def until(condition: object) -> None:
    """Let the event loop run until the condition is true."""
    deadline = time.monotonic() + deadline_s(LIMIT_S)
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_one_export_tells_the_same(database: SqliteDatabase, exports: Path) -> None:
    """`export_once` returns after the function; a failure is told as an event."""
    published: list[Publication] = []
    events: list[Event] = []

    async def keep(publication: Publication) -> None:
        await asyncio.sleep(0.05)
        published.append(publication)

    settings = Settings(database_url=database.url, export_directory=exports)
    manifest = await export_once(settings, on_publish=keep, on_event=events.append)
    assert [publication.manifest for publication in published] == [manifest]
    assert [events[0].kind, events[-1].kind] == ["exporting", "published"]
    await export_once(settings, on_publish=keep, on_event=events.append)
    assert len(published) == 1
    assert events[-1].kind == "unchanged"
    database.close()
    database.path.unlink()
    with pytest.raises(SourceError) as caught:
        await export_once(settings, on_event=events.append)
    assert events[-1].kind == "failed"
    assert events[-1].error is caught.value


async def test_what_a_listener_raises_changes_nothing(database: SqliteDatabase, exports: Path) -> None:
    """Its errors are logged; the export succeeds."""

    def broken(_: object) -> None:
        raise ValueError("broken")

    settings = Settings(database_url=database.url, export_directory=exports, enable_monitoring=False)
    with capture_logs() as logs:
        await run_exporter(settings, on_publish=broken, on_event=broken)
    assert generation(exports) == 1
    assert {"event.failed", "after_publish.failed"} <= {line["event"] for line in logs}
    assert not any(line["event"] == "export.failed" for line in logs)


# --- heartbeat ---------------------------------------------------------------------------------------


def test_the_heartbeat_is_called_while_all_is_well(database: SqliteDatabase, exports: Path) -> None:
    """By a daemon, and by a one-time export; not by an export that failed; its URL is nowhere in the log."""
    where = ("--database-url", database.url, "--export-dir", str(exports))
    with answering(sending(OK)) as server:
        environment = {"DB_EXPORT_HEARTBEAT_URL": server.url()}
        assert run_autoexport(*where, env=environment).exit_code == 0
        assert len(server.requests) == 1
        with Daemon(database.url, exports, interval_s=0.3, env=environment) as daemon:
            wait_until(lambda: len(server.requests) == 2, "the heartbeat")
            daemon.wait_until_idle()
            assert daemon.stop() == 0
            assert SECRET not in daemon.log.read_text()
        database.close()
        database.path.rename(database.path.with_name("away"))
        assert run_autoexport(*where, env=environment).exit_code == 1
        assert len(server.requests) == 2


def test_a_heartbeat_that_hangs_or_fails_holds_up_nothing(
    database: SqliteDatabase, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon exports and stops as usual; the failure is logged without the URL."""
    go = threading.Event()
    with answering(lambda _: go.wait(600)) as server:
        environment = {"DB_EXPORT_HEARTBEAT_URL": server.url()}
        with Daemon(database.url, exports, interval_s=0.2, env=environment) as daemon:
            wait_until(lambda: len(server.requests) == 1, "the heartbeat hangs")
            for turn in range(3):
                published = generation(exports)
                database.execute(RENAME, f"turn {turn}")
                wait_until(lambda before=published: generation(exports) > before, "it exports meanwhile")
            assert daemon.stop() == 0
        go.set()
    with answering(sending(b"HTTP/1.1 500 geheim\r\nContent-Length: 0\r\n\r\n")) as server:
        environment = {"DB_EXPORT_HEARTBEAT_URL": server.url()}
        with Daemon(database.url, exports, interval_s=0.2, env=environment) as daemon:
            (event,) = daemon.wait_for("heartbeat.failed")
            assert event["url"] == f"http://127.0.0.1:{server.port}"
            assert daemon.stop() == 0
            assert SECRET not in daemon.log.read_text()


def test_one_export_waits_for_its_heartbeat_no_longer_than_the_limit(
    database: SqliteDatabase, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are published before the call, and the exit code is that of the export."""
    go = threading.Event()
    with answering(lambda _: go.wait(600)) as server:
        done = run_autoexport(
            "--database-url", database.url, "--export-dir", str(exports),
            env={"DB_EXPORT_HEARTBEAT_URL": server.url()},
        )  # fmt: skip
        go.set()
    assert done.exit_code == 0
    assert "no answer within 10 s" in done.stderr
    assert SECRET not in done.stderr
    assert generation(exports) == 1


def test_the_limits_of_the_units_and_of_health_agree() -> None:
    """systemd restarts a service after the time after which `/healthz` is red."""
    unit = (Path(__file__).resolve().parents[2] / "systemd" / "autoexport.service").read_text()
    assert f"WatchdogSec={health.SILENT_S / 60:g}min\n" in unit
