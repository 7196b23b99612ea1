"""Presets of applications: how they are found, completed, overruled and switched off."""

from __future__ import annotations

import pytest

from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError
from autoexport.mapping.mapper import map_catalog
from autoexport.mapping.overrides import read_overrides
from autoexport.mapping.schemas import presets, read_preset, recognise, schemas, with_schema
from autoexport.mapping.synonyms import SETTINGS
from autoexport.model.catalog import Catalog, Column, Table

PRESET = read_preset(
    "tool",
    """
name = "A Tool"
databases = ["postgresql"]
[when]
picture = ["src", "album"]
mark = ["of"]
[tables.datasets]
table = false
[tables.images]
table = "picture"
columns = { id = "id", file_path = "src", project_id = "album" }
[tables.annotations]
table = "mark"
columns = { id = "id", image_id = "of", label = "what" }
[predictions.annotations]
table = "guess"
columns = { id = "id", image_id = "of" }
""",
)


def table(name: str, schema: str | None, *columns: str) -> Table:
    """A table with these columns and a key."""
    return Table(name, schema, "table", tuple(Column(each, "text") for each in ("id", *columns)), ("id",))


def tool(*schemas_: str | None) -> Catalog:
    """The tables of the tool, in each of these schemas."""
    tables = [
        item
        for schema in schemas_
        for item in (table("picture", schema, "src", "album"), table("mark", schema, "of", "what", "type"))
    ]
    return Catalog(tuple(tables))


def test_every_shipped_preset_is_valid() -> None:
    """Its tables are settings that the configuration file could have, and each has a name of its own."""
    assert len(dict(presets())) == len(schemas())
    for schema in schemas():
        read_overrides(with_schema(schema, None))
        read_overrides(with_schema(schema, {"predictions": True}))
        assert schema.signature
        assert set(schema.databases) <= {"sqlite", "postgresql"}


def test_the_signature_has_to_fit_in_one_schema() -> None:
    """All tables with all columns, in the right kind of database."""
    assert PRESET.fits(tool("public"))
    assert not PRESET.fits(tool(None))  # SQLite has no schemas, and the preset is for PostgreSQL
    assert PRESET.found_in(tool("a", "b")) == ["a", "b"]
    assert not PRESET.fits(Catalog((table("picture", "a", "src", "album"), table("mark", "b", "of"))))
    assert not PRESET.fits(Catalog((table("picture", "a", "src"), table("mark", "a", "of"))))


def test_no_column_of_a_preset_is_searched_by_name() -> None:
    """Only those that it names are read: the type of a mark is not, although it is called so."""
    configured = read_overrides(with_schema(PRESET, None, tool("public")))
    annotations = configured["annotations"]
    assert annotations.columns == {"id": "id", "image_id": "of", "label": "what"}
    assert annotations.left_out_columns == set(SETTINGS["annotations"]) - set(annotations.columns)
    assert configured["datasets"].left_out
    assert annotations.schema is None
    mapped = map_catalog(tool("public"), with_schema(PRESET, None))
    assert mapped.annotations is not None
    assert set(mapped.annotations.fields) == {"id", "label"}


def test_an_older_version_with_fewer_columns() -> None:
    """A column that the table lacks is left out, except for the key."""
    older = Catalog((table("picture", "public", "src", "album"), table("mark", "public", "of")))
    configured = read_overrides(with_schema(PRESET, None, older))
    assert configured["annotations"].columns == {"id": "id", "image_id": "of"}
    assert "label" in configured["annotations"].left_out_columns
    bare = Table("mark", "public", "table", (Column("of", "text"),))
    assert read_overrides(with_schema(PRESET, None, Catalog((bare,))))["annotations"].columns["id"] == "id"


def test_the_configuration_overrules_any_part() -> None:
    """One column alone, or a whole table: then nothing of the preset's settings for it is left."""
    one = read_overrides(with_schema(PRESET, {"annotations": {"columns": {"type": "type", "label": False}}}))
    assert one["annotations"].columns == {"id": "id", "image_id": "of", "type": "type"}
    assert one["images"].columns["file_path"] == "src"
    other = read_overrides(with_schema(PRESET, {"annotations": {"table": "note"}, "datasets": {"table": "album"}}))
    assert (other["annotations"].table, other["annotations"].columns) == ("note", {})
    assert other["annotations"].left_out_columns == frozenset()
    assert other["datasets"].table == "album"
    same = read_overrides(with_schema(PRESET, {"annotations": {"table": "mark", "columns": {"type": "type"}}}))
    assert same["annotations"].columns == {"id": "id", "image_id": "of", "label": "what", "type": "type"}
    none = read_overrides(with_schema(PRESET, {"annotations": {"table": False}}))
    assert none["annotations"].left_out


def test_predictions_are_exported_on_request() -> None:
    """They replace the settings of the tables that they name."""
    told = read_overrides(with_schema(PRESET, {"predictions": True}))
    assert (told["annotations"].table, told["images"].table) == ("guess", "picture")
    assert read_overrides(with_schema(PRESET, {"predictions": False}))["annotations"].table == "mark"


def test_tables_of_the_same_name_elsewhere() -> None:
    """The schema of the application is named if others have a table of the same name."""
    tables = (*tool("app").tables, table("picture", "old", "src"))
    configured = read_overrides(with_schema(PRESET, None, Catalog(tables)))
    assert (configured["images"].schema, configured["annotations"].schema) == ("app", "app")
    told = read_overrides(with_schema(PRESET, {"images": {"schema": "old"}}, Catalog(tables)))
    assert (told["images"].schema, told["annotations"].schema) == ("old", None)
    assert read_overrides(with_schema(PRESET, None, tool("app", "two")))["images"].schema is None


def test_a_preset_is_switched_off_by_a_setting() -> None:
    """`preset = false`, and the tables are found by their names alone."""
    first = (
        table("images", None, "file_path", "split_type", "split_section", "is_auto_labeled"),
        table("annotations", None, "image_id", "class_name", "segmentation", "is_auto_generated"),
    )
    known = recognise(Catalog(first))
    assert known is not None
    assert known.name == "Auto-Labeling-Tool"
    off = Settings(preset=False, tables={"labels": {"table": False}}).tables_config
    assert off == {"labels": {"table": False}, "preset": False}
    assert recognise(Catalog(first), off) is None
    assert (map_catalog(Catalog(first), off).application, map_catalog(Catalog(first)).application) == (
        "",
        known.name,
    )
    assert Settings(predictions=True).tables_config == {"predictions": True}
    assert Settings().tables_config == {}


def test_a_mistake_beside_the_options_is_told() -> None:
    """Only the two options may stand beside the logical tables."""
    with pytest.raises(ConfigurationError, match=r"tables\.prediction is not a setting"):
        map_catalog(tool("public"), {"prediction": True})
