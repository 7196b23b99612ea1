"""Arrays, composites and geometric types of PostgreSQL become JSON, and the value rules count what JSON lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contracts.postgres_snapshots import snapshot_of
from tests.postgres import SUPERUSER, PostgresServer
from tests.postgres_connection import PostgresConnection
from tests.trials import Trial

_TABLES = """
CREATE TABLE images (id int PRIMARY KEY, filename text);
INSERT INTO images VALUES (1, 'a.jpg');
CREATE TYPE mood AS ENUM ('NaN', 'sad');
CREATE TYPE spot AS (x double precision, y double precision);
CREATE TYPE rect AS (x real, y real, width numeric, height int);
CREATE TYPE tagged AS (label text, score float4, "at" point, hull box);
CREATE TYPE outline AS (label text, ring polygon);
CREATE TYPE plain AS (label text, "NaN" text);
CREATE DOMAIN fraction AS float8 CHECK (VALUE > -1);
CREATE DOMAIN fractions AS float8[];
CREATE DOMAIN ring AS polygon;
CREATE DOMAIN place AS spot;
CREATE TABLE annotations (id int PRIMARY KEY, image_id int REFERENCES images (id), label text, {columns});
"""

Exported = tuple[dict[str, Any], int, list[str]]
Exports = Callable[..., Exported]


@pytest.fixture
def exports(empty_url: str, tmp_path: Path) -> Exports:
    """Exports one annotation with a column of some type.

    Returns its record, the count of repaired values and the logged warnings.
    """

    def export(name: str, declared: str, value: str) -> Exported:
        with closing(PostgresConnection(empty_url)) as connection:
            connection.script(_TABLES.format(columns=f"{name} {declared}"))
            connection.script(f"INSERT INTO annotations VALUES (1, 1, 'car', {value})")
        trial = Trial(empty_url, tmp_path / "exports")
        with capture_logs() as logs:
            manifest = trial.export().manifest
        tree = json.loads((trial.directory / "database_export.json").read_bytes())
        (annotation,) = tree["projects"][0]["datasets"][0]["images"][0]["annotations"]
        warnings = [entry["warning"] for entry in logs if entry["event"] == "mapping.warning"]
        assert trial.differences() == []
        return annotation, manifest.repaired, warnings

    return export


@pytest.mark.parametrize(
    ("declared", "value", "polygon", "repaired"),
    [
        ("float8[]", "'{{1,2.5},{Infinity,NaN},{-Infinity,NULL}}'", [[1, 2.5], [None, None], [None, None]], 3),
        ("real[]", "'{0.1,NaN}'", [0.1, None], 1),
        ("numeric[]", "'{1.5,NaN}'", [1.5, None], 1),
        ("int[]", "'{1,NULL}'", [1, None], 0),
        ("fractions", "'{1,Infinity}'", [1, None], 1),
        ("fraction[]", "'{1,NaN}'", [1, None], 1),
        ("text[]", '\'{NaN,"1,2","(1,2)"}\'', ["NaN", "1,2", "(1,2)"], 0),
        ("mood[]", "'{NaN,sad}'", ["NaN", "sad"], 0),
        ("timestamp[]", "'{2024-01-15 09:00:00,-infinity}'", ["2024-01-15T09:00:00", None], 1),
        ("jsonb[]", "array['[1, \"NaN\"]'::jsonb]", [[1, "NaN"]], 0),
        ("point", "'(1,2.5)'", [1, 2.5], 0),
        ("point[]", "array['(1,2)'::point,'(Infinity,1e30)',NULL]", [[1, 2], [None, 1e30], None], 1),
        ("point[]", '\'{{"(1,2)"},{"(3,4)"}}\'', [[[1, 2]], [[3, 4]]], 0),
        ("polygon", "'((1,2),(3,NaN))'", [[1, 2], [3, None]], 1),
        ("ring", "'((1,2),(3,4))'", [[1, 2], [3, 4]], 0),
        ("polygon[]", "array['((1,2),(3,4))'::polygon]", [[[1, 2], [3, 4]]], 0),
        ("path", "'[(1,2),(3,4)]'", [[1, 2], [3, 4]], 0),
        ("path", "'((1,2),(3,4))'", [[1, 2], [3, 4]], 0),
        ("lseg", "'[(1,2),(3,4)]'", [[1, 2], [3, 4]], 0),
        ("box", "'(3,4),(1,2)'", {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4}, 0),
        ("box[]", "'{(3,4),(1,2)}'", [{"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4}], 0),
        ("spot", "(1, 'NaN')", {"x": 1, "y": None}, 1),
        ("place", "(1, 'Infinity')", {"x": 1, "y": None}, 1),
        ("spot[]", "array[(1, 2), ('-Infinity', 4)]::spot[]", [{"x": 1, "y": 2}, {"x": None, "y": 4}], 1),
        (
            "tagged",
            "('a \"NaN\":\"NaN\",(1,2)', 'NaN', '(1,-2e-07)', '(3,4),(1,NaN)')",
            {
                "label": 'a "NaN":"NaN",(1,2)',
                "score": None,
                "at": [1, -2e-07],
                "hull": {"x_min": 1, "y_min": 4, "x_max": 3, "y_max": None},
            },
            2,
        ),
        ("plain", "('NaN', 'Infinity')", {"label": "NaN", "NaN": "Infinity"}, 0),
    ],
)
def test_polygons(exports: Exports, declared: str, value: str, polygon: Any, repaired: int) -> None:
    """Numbers are numbers, points are pairs, and infinite ones are null and counted, at any depth."""
    annotation, count, warnings = exports("segmentation", declared, value)
    assert (annotation["polygon"], count, warnings) == (polygon, repaired, [])
    assert annotation["type"] == "polygon"


@pytest.mark.parametrize(
    ("declared", "value", "box", "repaired"),
    [
        ("box", "'(3.5,4),(1,2)'", [1, 2, 3.5, 4], 0),
        ("box", "'(Infinity,4),(1,2)'", None, 1),
        ("rect", "(1, 2, 3.5, 4)", [1, 2, 4.5, 6], 0),
        ("rect", "(1, 2, 'NaN', 4)", None, 1),
        ("spot", "(1, 2)", None, 1),
    ],
)
def test_boxes(exports: Exports, declared: str, value: str, box: list[float] | None, repaired: int) -> None:
    """PostgreSQL's own box is corners; a composite is read by the names of its attributes."""
    annotation, count, warnings = exports("bbox", declared, value)
    corners = ("x_min", "y_min", "x_max", "y_max")
    expected = None if box is None else dict(zip(corners, box, strict=True))
    assert (annotation["bbox"], count, warnings) == (expected, repaired, [])


@pytest.mark.parametrize(
    ("name", "declared", "value"),
    [
        ("segmentation", "circle", "'<(1,2),3>'"),
        ("segmentation", "line", "'{1,2,3}'"),
        ("segmentation", "circle[]", "array['<(1,2),3>'::circle]"),
        ("segmentation", "numrange", "'[1,2)'"),
        ("segmentation", "numrange[]", "array['[1,2)'::numrange]"),
        ("segmentation", "outline", "('a', '((1,2))')"),
        ("segmentation", "outline[]", "array[('a', '((1,2))')]::outline[]"),
        ("bbox", "polygon", "'((1,2),(3,4))'"),
        ("bbox", "numrange", "'[1,2)'"),
        ("bbox", "circle", "'<(1,2),3>'"),
    ],
)
def test_unread_types(exports: Exports, name: str, declared: str, value: str) -> None:
    """A type that has no JSON form is left out with a warning that names it."""
    annotation, count, warnings = exports(name, declared, value)
    assert (annotation["polygon"], annotation["bbox"], annotation["type"], count) == (
        None, None, "classification", 0,
    )  # fmt: skip
    (warning,) = warnings
    assert f"public.annotations.{name} is of type {declared} and is not read" in warning


@pytest.mark.parametrize("declared", ["date", "timestamp", "timestamptz"])
def test_infinite_times(empty_url: str, tmp_path: Path, declared: str) -> None:
    """They are null and counted. A year of five digits and one before Christ are as stored."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script(f"CREATE TABLE images (id int PRIMARY KEY, filename text, created_at {declared})")
        connection.script(
            "INSERT INTO images VALUES (1, 'infinity', 'infinity'), (2, 'b', '-infinity'),"
            "(3, 'c', '0044-03-15 BC'), (4, 'd', '15000-01-01'), (5, 'e', NULL)"
        )
    trial = Trial(empty_url, tmp_path / "exports")
    assert trial.export().manifest.repaired == 2
    tree = json.loads((trial.directory / "database_export.json").read_bytes())
    images = tree["projects"][0]["datasets"][0]["images"]
    times = [image["created_at"] for image in images]
    assert (times[:2], times[4]) == ([None, None], None)
    assert (times[2][:10], times[2][-2:], times[3][:11]) == ("0044-03-15", "BC", "15000-01-01")
    assert images[0]["filename"] == "infinity"


def test_text_of_a_range(empty_url: str, tmp_path: Path) -> None:
    """In a field of text, a range is published in the server's words."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script("CREATE TABLE images (id int PRIMARY KEY, filename int4range)")
        connection.script("INSERT INTO images VALUES (1, '[1,3)')")
    trial = Trial(empty_url, tmp_path / "exports")
    trial.export()
    assert '"filename": "[1,3)"' in (trial.directory / "database_export.json").read_text()


# --- types of one name ---------------------------------------------------------------------------

# PostGIS itself is not needed: its type is told by its name, in any schema.
_GEOMETRY = """
CREATE SCHEMA extensions;
CREATE TYPE extensions.geometry;
CREATE FUNCTION extensions.read(cstring) RETURNS extensions.geometry
  LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION extensions.write(extensions.geometry) RETURNS cstring
  LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE extensions.geometry (
  INPUT = extensions.read, OUTPUT = extensions.write, INTERNALLENGTH = variable, STORAGE = extended);
CREATE DOMAIN area AS extensions.geometry;
CREATE TYPE located AS (place extensions.geometry, label text);
CREATE TABLE images (id int PRIMARY KEY, filename text);
INSERT INTO images VALUES (1, 'a.jpg');
CREATE TABLE annotations (
  id int PRIMARY KEY, image_id int REFERENCES images (id), label text, {column} {declared});
INSERT INTO annotations VALUES (1, 1, 'car', {value});
"""


@pytest.fixture
def as_superuser(postgres_server: PostgresServer, empty_url: str) -> str:
    """The empty database, for the one role that may create a base type."""
    return postgres_server.url(empty_url.rpartition("/")[2].partition("?")[0], user=SUPERUSER)


@pytest.mark.parametrize("column", ["segmentation", "bbox"])
@pytest.mark.parametrize("search_path", ["public", "public,extensions", "extensions,public"])
@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("extensions.geometry", "'0103'"),
        ("extensions.geometry[]", "ARRAY['0103'::extensions.geometry]"),
        ("area", "'0103'"),
        ("located", "('0103', 'a')"),
    ],
)
def test_geometry_in_any_schema(
    as_superuser: str, tmp_path: Path, search_path: str, column: str, declared: str, value: str
) -> None:
    """PostGIS is left out with a warning, wherever its type lives and whatever is made of it."""
    with closing(PostgresConnection(as_superuser)) as connection:
        connection.script(_GEOMETRY.format(column=column, declared=declared, value=value))
    trial = Trial(f"{as_superuser}?options=-csearch_path%3D{search_path}", tmp_path / "exports")
    assert trial.export().manifest.repaired == 0
    text = (trial.directory / "database_export.json").read_text()
    assert '"type": "classification"' in text
    assert "0103" not in text


def test_a_domain_called_geometry_is_what_it_is_made_of(exports: Exports, empty_url: str) -> None:
    """The name of a type says nothing about a domain."""
    with closing(PostgresConnection(empty_url)) as connection:
        connection.script("CREATE DOMAIN geometry AS jsonb")
    assert exports("segmentation", "geometry", "'[[1, 2]]'")[0]["polygon"] == [[1, 2]]


async def test_an_enum_called_like_a_type_of_the_server(url: str, application: PostgresConnection) -> None:
    """The text of an enum depends on nothing else, so changes can be found."""
    application.script(
        "CREATE TYPE regions AS ENUM ('a'); ALTER TABLE annotations DROP COLUMN segmentation;"
        "ALTER TABLE annotations ADD segmentation regions[]"
    )
    async with snapshot_of(url) as (snapshot, mapping):
        assert await snapshot.position(mapping) is not None
