"""Several exporters of one prefix: one of them wins, readers see whole sets, and one takes over from another."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import obstore
import pytest

from autoexport.commands.demo import make_database
from tests.daemon import Daemon, wait_until
from tests.object_store_writer import Writer
from tests.object_stores import USUAL_SERVERS, Bucket, shared_server

ROUNDS = 12
IMPATIENT = (
    "-c",
    "import autoexport.publishing.object_store.delivery as delivery; delivery.PATIENCE_S = 3.0; "
    "from autoexport.cli import main; raise SystemExit(main())",
)
"""The program, but an exporter that lost a race waits for three seconds instead of thirty."""


@pytest.fixture(scope="module", params=USUAL_SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A running server of each kind."""
    with shared_server(request.param) as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    """A bucket with a prefix for this test alone."""
    server.prefix = f"writers-{os.urandom(4).hex()}"
    return server


def names_of(bucket: Bucket) -> set[str]:
    """The names of the first project in the files of the set that readers find: one, if they belong together."""
    files = bucket.files()
    trees = json.loads(files["database_export.json"])["projects"]
    rows = (next(csv.DictReader(files[name].decode().splitlines())) for name in ("projects.csv", "images.csv"))
    return {trees[0]["name"], *(row["project_name"] for row in rows)}


class Reader:
    """Reads the set again and again, in a thread; `sets` are the names that the files of each set had."""

    def __init__(self, bucket: Bucket) -> None:
        self.sets: list[set[str]] = []
        self.fault: BaseException | None = None
        self._bucket = bucket
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                with suppress(FileNotFoundError):
                    obstore.head(self._bucket.store(), "manifest.json")
                    self.sets.append(names_of(self._bucket))
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.fault = error

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.timeout(300)
def test_of_two_exporters_one_wins_each_race(bucket: Bucket, tmp_path: Path) -> None:
    """Both see the same manifest, then publish at once, many times. Readers never find a torn or mixed set."""
    writers = []
    won: Counter[int] = Counter()
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        make_database(tmp_path / str(number) / "app.db")
        writers.append((tmp_path / f"working {number}", tmp_path / str(number) / "app.db"))
    first, second = (Writer(bucket, *places) for places in writers)
    with first, second, Reader(bucket) as reader:
        for turn in range(ROUNDS):
            for number, writer in enumerate((first, second)):
                writer.send(f"race writer {number} in round {turn}")
            assert [writer.answer() for writer in (first, second)] == ["looked", "looked"]
            for writer in (first, second):
                writer.send("go")
            answers = [writer.answer() for writer in (first, second)]
            assert sorted(answers) == ["lost", "won"]
            winner = answers.index("won")
            won[winner] += 1
            assert names_of(bucket) == {f"writer {winner} in round {turn}"}
            assert bucket.manifest()["generation"] == turn + 1
    assert reader.fault is None
    assert all(len(names) == 1 for names in reader.sets)
    assert len({name for names in reader.sets for name in names}) > ROUNDS // 4


def daemon(bucket: Bucket, app: Path, working: Path) -> Daemon:
    """A daemon with a working directory of its own."""
    variables = {**bucket.variables, "DB_EXPORT_WORKING_DIRECTORY": str(working)}
    return Daemon(
        f"sqlite:///{app}", working, "--export-dir", bucket.url(), interval_s=0.2, env=variables, program=IMPATIENT
    )


def rename(app: Path, name: str) -> None:
    """Change a project and its images."""
    with closing(sqlite3.connect(app, timeout=60)) as connection, connection:
        connection.execute("UPDATE projects SET name = ? WHERE id = (SELECT min(id) FROM projects)", (name,))


def wait_for_name(bucket: Bucket, name: str) -> None:
    """Wait until readers find a set with this name."""

    def found() -> bool:
        with suppress(FileNotFoundError):
            return names_of(bucket) == {name}
        return False

    wait_until(found, f"the bucket has {name}", limit_s=60, every_s=0.2)


def test_a_daemon_publishes_and_repairs(bucket: Bucket, tmp_path: Path) -> None:
    """It publishes changes, writes a manifest again that was removed or changed, and stops when it is asked to."""
    app = tmp_path / "app.db"
    make_database(app)
    with daemon(bucket, app, tmp_path / "working") as one:
        rename(app, "first")
        wait_for_name(bucket, "first")
        one.wait_until_idle()
        idle = bucket.listed()
        rename(app, "second")
        wait_for_name(bucket, "second")
        one.wait_until_idle()
        obstore.delete(bucket.store(), "manifest.json")
        wait_for_name(bucket, "second")
        obstore.put(bucket.store(), "manifest.json", b"garbage")
        wait_until(lambda: obstore.get(bucket.store(), "manifest.json").bytes()[:1] == b"{", "it is repaired")
        assert names_of(bucket) == {"second"}
        assert set(idle) - {"manifest.json"} <= set(bucket.listed())
        assert one.events("cycle.failed") == []
        assert one.stop(signal.SIGTERM) == 0


@pytest.mark.timeout(300)
def test_one_daemon_takes_over_from_another(bucket: Bucket, tmp_path: Path) -> None:
    """Of two daemons, one publishes each change, and the other one says once that it waits. It takes over."""
    app = tmp_path / "app.db"
    make_database(app)
    rename(app, "start")
    with daemon(bucket, app, tmp_path / "one") as one, Reader(bucket) as reader:
        wait_for_name(bucket, "start")
        one.wait_until_idle()
        with daemon(bucket, app, tmp_path / "two") as two:
            two.wait_until_idle()
            assert bucket.manifest()["generation"] == 1, "nothing has changed for the second one"
            for name in ("a", "b", "c"):
                rename(app, name)
                wait_for_name(bucket, name)
                one.wait_until_idle()
                two.wait_until_idle()
            assert len(one.events("publish.behind")) + len(two.events("publish.behind")) >= 1
            assert max(len(it.events("publish.behind")) for it in (one, two)) <= 2
            assert bucket.manifest()["generation"] == 4, "each change was published once"
            writer = bucket.manifest()["object_store"]["writer"]
            own = json.loads((tmp_path / "one" / ".autoexport" / "object_store.json").read_text())["writer"]
            leader, other = (one, two) if writer == own else (two, one)
            leader.process.kill()
            rename(app, "after the kill")
            wait_for_name(bucket, "after the kill")
            assert bucket.manifest()["object_store"]["writer"] != writer
            assert other.events("cycle.failed") == []
    assert reader.fault is None
    assert all(len(names) == 1 for names in reader.sets)
