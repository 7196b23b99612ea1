"""The lake in a bucket has the rows of the JSON tree at every generation, and errors of the store are one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars
import pytest
from deltalake import DeltaTable

from autoexport.errors import PublishError
from tests.lakes import (
    CHANGES,
    document,
    execute,
    lake_trial,
    small_database,
    sorted_rows,
)
from tests.object_stores import KEY_ID, SECRET, USUAL_SERVERS, Bucket, serving
from tests.parquet_rows import expected_parquet
from tests.trials import Trial

OPTIONS = {"allow_http": "true"}


@pytest.fixture(params=USUAL_SERVERS)
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket, which the usual variables name."""
    with serving(request.param, tmp_path) as found:
        for name, value in found.variables.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some images with annotations."""
    return small_database(tmp_path, monkeypatch)


def rows_of(trial: Trial, name: str) -> list[str]:
    """The rows that the published tree gives a table."""
    return sorted_rows(expected_parquet(document(trial), f"{name}.parquet"))


def by_polars(location: str, version: int | None) -> tuple[int, float]:
    """The number of annotations and the sum of their confidences."""
    frame = polars.read_delta(location, version=version, storage_options=OPTIONS)
    return len(frame), float(frame["confidence"].sum())


@pytest.mark.timeout(300)
def test_every_generation_can_be_read_from_a_bucket(bucket: Bucket, database: Path, tmp_path: Path) -> None:
    """Two exporters in turn, each with its own files: the tables have the rows of the last, and older versions."""
    lake = f"s3://{bucket.name}/a-lake/of.it_"
    trials = [lake_trial(database, tmp_path / name, lake, lake_keep_hours=1) for name in ("one", "two")]
    expected = []
    for number, change in enumerate(("SELECT 1", CHANGES[0], CHANGES[3], CHANGES[6])):
        execute(database, change)
        trial = trials[number // 2]
        trial.export()
        rows = expected_parquet(document(trial), "annotations.parquet")
        expected.append((len(rows), pytest.approx(sum(row["confidence"] or 0 for row in rows))))
        assert by_polars(f"{lake}/annotations", None) == expected[-1]
    table = DeltaTable(f"{lake}/annotations", storage_options=OPTIONS)
    versions = [commit["version"] for commit in reversed(table.history()) if "userMetadata" in commit]
    assert [by_polars(f"{lake}/annotations", version) for version in versions] == expected
    assert not trials[1].differences()


def test_a_store_that_refuses_is_one_line(bucket: Bucket, database: Path, tmp_path: Path) -> None:
    """The files are published, and the error names no secret."""
    trial = lake_trial(database, tmp_path / "exports", "s3://no-such-bucket/lake")
    with pytest.raises(PublishError, match="NoSuchBucket") as raised:
        trial.export()
    shown = f"{raised.value} {raised.value.hint}"
    assert "\n" not in shown
    assert not any(word in shown for word in (KEY_ID, SECRET, "<", "\x1b", "http"))
    assert (trial.directory / "manifest.json").exists()
