"""Whatever stands in the files that the program reads back, it goes on: they may be damaged, or edited by hand."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from autoexport.daemon.report import Report
from autoexport.formats.training.classes import read_document
from autoexport.overview import change_log
from autoexport.overview.chart import growth
from autoexport.overview.history import HEADER, History, HistoryRow
from autoexport.overview.progress_log import ProgressLog, key_of
from autoexport.publishing.manifest import BesideRecord, FileRecord, Manifest
from autoexport.publishing.object_store.remote_manifest import RemoteManifest

NOW = datetime(2024, 1, 20, 10, 30, tzinfo=UTC)
NUMBERS = st.sampled_from([0, 1, -1, 7, 2**63, 2**70, 1.5, 1e300])
TEXTS = st.sampled_from(["", "7", "2024-01-01T00:00:00", "9999", "/etc", "../x", "a//b", ".", "\0", "²"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values inside a value."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*before, key)
        yield from _places(inner, (*before, key))


@st.composite
def edited(draw: st.DrawFn, record: dict[str, Any]) -> bytes:
    """The JSON of a record in which a value is another one, has another name, or is gone."""
    changed = copy.deepcopy(record)
    *path, last = draw(st.sampled_from(list(_places(record))))
    inner = changed
    for key in path:
        inner = inner[key]
    if draw(st.booleans()):
        inner[last] = draw(ANYTHING)
    else:
        value = inner.pop(last)
        if draw(st.booleans()):
            inner[draw(TEXTS)] = value
    return json.dumps(changed).encode()


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """A text of which parts are replaced, repeated or gone."""
    found = bytearray(text)
    for _ in range(draw(st.integers(1, 3))):
        begin = draw(st.integers(0, len(found)))
        end = begin + draw(st.integers(0, 30))
        part = bytes(found[begin:end])
        found[begin:end] = draw(
            st.sampled_from([b"", part * 2, b'"', b",", b"\n", b"-", b"\0", b"\xff", b"9" * 40])
        )
    return bytes(found)


MANIFEST = Manifest(
    3, "2024-01-20T10:30:00Z", "app.db", {"images.csv": FileRecord(5, "crc32:00000001", 1)},
    {"index.html": BesideRecord(5, "crc32:00000002")}, {"images": 1}, {"images": 0}, {"labels": 1},
    left_out={"coco/": {"images_unlabeled": 2}},
)  # fmt: skip


@given(edited(json.loads(MANIFEST.to_json())))
def test_an_edited_manifest_is_one_of_ours_or_none(text: bytes) -> None:
    found = Manifest.from_json(text)
    if found is None:
        return
    again = Manifest.from_json(found.to_json())
    assert again == found
    assert found.read_at is None or found.read_at.timestamp() < 1e12
    assert found.generation + 1 > 0
    for name in (*found.files, *found.beside):
        assert not {"", ".", ".."} & set(name.removesuffix("/").split("/"))
        assert "\0" not in name


REMOTE = RemoteManifest(
    MANIFEST, {name: f"g/3-0123456789abcdef/{name}" for name in ("images.csv", "index.html")}, "01", "02",
    "g/3-0123456789abcdef/manifest.json", "g/2-0123456789abcdef/manifest.json", "2024-01-20T10:30:00+00:00",
)  # fmt: skip


@given(edited(json.loads(REMOTE.to_json())))
def test_an_edited_manifest_in_a_store_is_one_of_ours_or_none(text: bytes) -> None:
    found = RemoteManifest.from_json(text)
    if found is None:
        return
    assert RemoteManifest.from_json(found.to_json()) == found
    assert found.published.timestamp() < 1e12
    for key in filter(None, (*found.named_keys, found.previous)):
        assert key.startswith("g/")


REPORT = Report(7, "watching", 1.0, 1e9, 1e9, 0.5, 3, "2024-01-20T10:30:00Z", 1e9, error="e", hint="h")


@given(edited(json.loads(REPORT.to_json())))
def test_an_edited_report_is_one_of_ours_or_none(text: bytes) -> None:
    found = Report.from_json(text)
    if found is None:
        return
    assert Report.from_json(found.to_json()) == found
    assert found.is_stale(1e9) in (True, False)
    assert found.failures + 1 is not None


def _history() -> bytes:
    history = History()
    for number in range(1, 4):
        fields: list[Any] = [number, NOW - timedelta(hours=3 - number), *[number] * 10, "full", 0.5]
        history.add(HistoryRow(*fields))
    return history.text()


@given(damaged(_history()))
def test_a_damaged_history_goes_on(text: bytes) -> None:
    history = History(text)
    rows = history.rows(50)
    assert isinstance(growth(rows), str)
    assert history.before(NOW) is None or history.first() is not None
    kept = History(_history()).rows(50)[-1]
    history.add(kept)
    assert History(history.text()).rows(50)[-1] == kept
    assert history.text().startswith(HEADER)


KEY = key_of(1, "d")
PROGRESS = ProgressLog()
PROGRESS.add(NOW - timedelta(days=2), [(KEY, 5, 3)])
PROGRESS.add(NOW, [(KEY, 6, 4)])


@given(damaged(PROGRESS.text()))
def test_a_damaged_progress_log_goes_on(text: bytes) -> None:
    log = ProgressLog(text)
    assert log.covers(NOW) in (True, False)
    log.add(NOW, [(KEY, 7, 5)])
    assert ProgressLog(log.text()).labeled_at(KEY, NOW) == 5


CHANGES = b""
for _number in range(1, 5):
    CHANGES = change_log.with_line(CHANGES, _number, change_log.full_line(_number, "2024-01-20T10:30:00Z"))


@given(damaged(CHANGES), st.integers(0, 5))
def test_a_damaged_change_log_goes_on(text: bytes, generation: int) -> None:
    assert change_log.since(text, generation, 4, "t")["generation"] == 4
    line = change_log.full_line(9, "t")
    assert change_log.with_line(text, 9, line).splitlines()[-1] == line


@given(ANYTHING)
def test_any_list_of_classes_is_read(document: Any) -> None:
    found = read_document(json.dumps(document).encode())
    assert found is None or all(isinstance(name, str) for name in found[1])
