"""URLs of object stores: what they name, what is refused, and where the local copies lie."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport import ConfigurationError, Settings
from autoexport.config.object_url import ObjectURL, parse_object_url


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://bucket/some/prefix/", ("s3", "bucket", "some/prefix")),
        ("S3://my.bucket-1", ("s3", "my.bucket-1", "")),
        ("gs://bucket/a b/é", ("gs", "bucket", "a b/é")),
        ("az://container/x", ("az", "container", "x")),
        (Path("s3://bucket/x"), ("s3", "bucket", "x")),
    ],
)
def test_a_url_names_bucket_and_prefix(text: str | Path, parts: tuple[str, str, str]) -> None:
    """As text and as a path, which loses one of its slashes."""
    settings = Settings(database_url="app.db", export_directory=text)
    url = ObjectURL(*parts)
    assert settings.object_store == url
    assert settings.destination == str(url)
    assert settings.export_directory == url.working_directory
    assert settings.state_dir == url.working_directory / ".autoexport"
    assert parse_object_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///prefix", "s3://user:geheim@bucket/x", "s3://bucket/../x", "s3://bucket/a//x", "s3://b/x?geheim=1",
     "gs://bucket/a\nb", "az://bucket/a#b"],
)  # fmt: skip
def test_other_urls_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the place of the setting, and shows nothing of the value."""
    monkeypatch.setenv("DB_EXPORT_EXPORT_DIRECTORY", text)
    with pytest.raises(ConfigurationError) as caught:
        Settings(database_url="app.db")
    assert str(caught.value) == "The setting export_directory (DB_EXPORT_EXPORT_DIRECTORY) names no bucket."
    assert "s3://BUCKET/PREFIX" in caught.value.hint
    assert "geheim" not in caught.value.hint


@pytest.mark.parametrize("text", ["exports", "./s3", "/srv/s3://x", "file:///srv", "s3", "https://bucket/x"])
def test_other_places_are_directories(text: str) -> None:
    """Only the three schemes name a store."""
    settings = Settings(database_url="app.db", export_directory=text)
    assert settings.object_store is None
    assert settings.export_directory == Path(text)


def test_the_configuration_file_may_name_both(tmp_path: Path) -> None:
    """The URL is not taken for a path relative to the file, the working directory is."""
    file = tmp_path / "other.toml"
    file.write_text('export_directory = "s3://bucket/x"\nworking_directory = "work"\ndatabase_url = "app.db"\n')
    settings = Settings(config_file=file)
    assert settings.destination == "s3://bucket/x"
    assert settings.export_directory == tmp_path / "work"


step = st.text(st.sampled_from("ab+-. %é"), min_size=1, max_size=120).filter(lambda it: it not in (".", ".."))
steps = st.lists(step, max_size=4)


@given(steps, steps)
def test_each_url_has_a_working_directory_of_its_own(one: list[str], other: list[str]) -> None:
    """One directory below `autoexport_working`, another one for another prefix."""
    directories = [ObjectURL("s3", "bucket", "/".join(prefix)).working_directory for prefix in (one, other)]
    assert (directories[0] == directories[1]) == (one == other)
    assert all(len(directory.parts) == 2 and len(directory.name) <= 200 for directory in directories)
