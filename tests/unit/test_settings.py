"""Each option has places it may come from, allowed values and an error for a bad value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from autoexport.config.settings import Settings, debugging_was_asked_for
from autoexport.errors import ConfigurationError

SECRET = "hunter2-geheim"


@pytest.fixture(autouse=True)
def _bare_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working directory and no variables of ours."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("DB_EXPORT_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_documentation() -> None:
    """The table of settings in the README is this one."""
    assert Settings().model_dump() == {
        "enable_auto_export": True,
        "enable_monitoring": True,
        "export_directory": Path("database_exports"),
        "check_interval": 10.0,
        "export_json": True,
        "export_csv": True,
        "environment": "development",
        "database_url": "",
        "enable_hooks": True,
        "json_style": "records",
        "csv_guard": True,
        "csv_bom": False,
        "export_annotations_csv": False,
        "export_jsonl": False,
        "export_parquet": False,
        "export_coco": False,
        "image_root": "",
        "box_units": "pixels",
        "include_unlabeled": False,
        "classes": "",
        "export_yolo": False,
        "yolo_task": "detect",
        "state_directory": None,
        "workers": None,
        "working_directory": None,
        "object_grace": 3600.0,
        "pg_prepared_statements": True,
        "pace": 0.1,
        "pg_statement_timeout": 0.0,
        "preset": True,
        "predictions": False,
        "export_page": True,
        "export_history": True,
        "log_format": None,
        "log_level": None,
        "listen": "",
        "metrics_textfile": None,
        "on_publish": (),
        "on_publish_timeout": 60.0,
        "heartbeat_url": "",
        "lake": "",
        "lake_file_rows": 1_000_000,
        "lake_keep_hours": 168.0,
        "tables": {},
    }


def test_a_lake_is_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is absolute, and relative to the file that names it; a lake turns the Parquet files on."""
    assert Settings(lake=" s3://bucket/a/lake/ ").lake == "s3://bucket/a/lake"
    assert Settings(lake="abfss://container@account.dfs.core.windows.net/lake").lake.startswith(
        "abfss://container@"
    )
    assert Settings(lake="lake").lake == str(Path("lake").absolute())
    assert Settings(lake="lake").format_options["export_parquet"] is True
    assert Settings(lake=" ").format_options["export_parquet"] is False
    file = tmp_path / "elsewhere" / "autoexport.toml"
    file.parent.mkdir()
    file.write_text('lake = "lake"\n')
    assert Settings(config_file=file).lake == str(file.parent / "lake")
    file.write_text('lake = "gs://bucket/lake"\n')
    assert Settings(config_file=file).lake == "gs://bucket/lake"
    monkeypatch.setenv("DB_EXPORT_LAKE", "another")
    assert Settings(config_file=file).lake == str(Path("another").absolute())


def test_precedence_is_argument_environment_dotenv_file_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first place is removed, the next one counts, and so on."""
    Path("autoexport.toml").write_text("check_interval = 4\n")
    Path(".env").write_text("DB_EXPORT_CHECK_INTERVAL=3\n")
    monkeypatch.setenv("DB_EXPORT_CHECK_INTERVAL", "2")
    assert Settings.load(check_interval="1").check_interval == 1
    assert Settings(check_interval=1).check_interval == 1
    assert Settings().check_interval == 2
    monkeypatch.delenv("DB_EXPORT_CHECK_INTERVAL")
    assert Settings().check_interval == 3
    Path(".env").unlink()
    assert Settings().check_interval == 4
    Path("autoexport.toml").unlink()
    assert Settings().check_interval == 10


def test_a_flag_that_was_not_given_does_not_count() -> None:
    """None is "not given" on the command line."""
    assert Settings.load(check_interval=None, log_level=None).check_interval == 10


@pytest.mark.parametrize("name", ["DB_EXPORT_CSV_BOM", "db_export_csv_bom"])
def test_an_empty_variable_is_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and units pass empty variables on; upper and lower case are the same."""
    Path("autoexport.toml").write_text("csv_bom = true\n")
    monkeypatch.setenv(name, "")
    assert Settings().csv_bom is True
    monkeypatch.setenv(name, "no")
    assert Settings().csv_bom is False


def test_settings_are_frozen() -> None:
    """Nothing changes under a running exporter."""
    with pytest.raises(ValidationError):
        Settings().check_interval = 3


@pytest.mark.parametrize(
    ("values", "name", "allowed"),
    [
        ({"check_interval": -1}, "check_interval", "seconds from 0.05"),
        ({"check_interval": 0}, "check_interval", "seconds from 0.05"),
        ({"check_interval": "nan"}, "check_interval", "seconds from 0.05"),
        ({"check_interval": True}, "check_interval", "seconds from 0.05"),
        ({"check_interval": "inf"}, "check_interval", "seconds from 0.05"),
        ({"environment": "prod"}, "environment", "development, production or testing"),
        ({"json_style": "compact"}, "json_style", "records or pretty"),
        ({"log_format": "xml"}, "log_format", "json or console"),
        ({"log_level": "loud"}, "log_level", "debug, info, warning, error or critical"),
        ({"csv_bom": "perhaps"}, "csv_bom", "true or false"),
        ({"export_directory": " "}, "export_directory", "directory"),
        ({"export_directory": 5}, "export_directory", "directory"),
        ({"workers": 0}, "workers", "from 1 to 64"),
        ({"workers": True}, "workers", "from 1 to 64"),
        ({"workers": "many"}, "workers", "from 1 to 64"),
        ({"pg_statement_timeout": -1}, "pg_statement_timeout", "seconds from 0"),
        ({"tables": "images"}, "tables", "[tables.images]"),
        ({"database_url": 5}, "database_url", "database URL"),
        ({"listen": "host"}, "listen", "HOST:PORT"),
        ({"listen": "::1:9464"}, "listen", "[::1]:9464"),
        ({"listen": "127.0.0.1:65536"}, "listen", "HOST:PORT"),
        ({"listen": "http://127.0.0.1:9464"}, "listen", "HOST:PORT"),
        ({"listen": True}, "listen", "HOST:PORT"),
        ({"lake": "ftp://host/lake"}, "lake", "s3://bucket/prefix"),
        ({"lake": "s3://key:secret@bucket/lake"}, "lake", "without credentials"),
        ({"lake": "s3://key@bucket/lake"}, "lake", "without credentials"),
        ({"lake": "s3://bucket/lake?secret=1"}, "lake", "without credentials"),
        ({"lake": "s3:///lake"}, "lake", "s3://bucket/prefix"),
        ({"lake": "s3://bucket/a lake"}, "lake", "letters, digits"),
        ({"lake": "s3://bucket/a%20lake"}, "lake", "letters, digits"),
        ({"lake": "lakes/100%25"}, "lake", "a folder without %"),
        ({"lake": 1}, "lake", "path of a folder"),
        ({"lake_file_rows": 0}, "lake_file_rows", "from 1 to"),
        ({"lake_file_rows": True}, "lake_file_rows", "from 1 to"),
        ({"lake_keep_hours": -1}, "lake_keep_hours", "hours"),
        ({"metrics_textfile": "metrics.txt"}, "metrics_textfile", ".prom"),
        ({"on_publish": "an 'open quote"}, "on_publish", "no shell"),
        ({"on_publish": ["", "x"]}, "on_publish", "no shell"),
        ({"on_publish": 5}, "on_publish", "no shell"),
        ({"on_publish_timeout": 0}, "on_publish_timeout", "seconds from 0.1"),
        ({"heartbeat_url": "ftp://host/"}, "heartbeat_url", "http or https"),
        ({"heartbeat_url": "https://user:secret@host/"}, "heartbeat_url", "without user and password"),
        ({"heartbeat_url": "https://host/a b"}, "heartbeat_url", "http or https"),
        ({"heartbeat_url": "https://host:x/"}, "heartbeat_url", "http or https"),
    ],
)
def test_a_bad_value_names_the_setting_and_what_is_allowed(
    values: dict[str, Any], name: str, allowed: str
) -> None:
    """Directly constructed or from the command line, it is the same configuration error."""
    for make in (Settings, Settings.load):
        with pytest.raises(ConfigurationError) as caught:
            make(**values)
        assert name in str(caught.value)
        assert allowed in caught.value.hint
        assert caught.value.exit_code == 2


def test_a_bad_value_says_where_it_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag, a variable, a line of .env, a key of the file."""
    with pytest.raises(ConfigurationError, match=r"\(--interval\).*'soon'"):
        Settings.load(check_interval="soon")
    Path("autoexport.toml").write_text('check_interval = "late"\n')
    with pytest.raises(ConfigurationError, match=r"\('check_interval' in autoexport.toml\)"):
        Settings()
    Path(".env").write_text("DB_EXPORT_CHECK_INTERVAL=x\n")
    with pytest.raises(ConfigurationError, match=r"\(DB_EXPORT_CHECK_INTERVAL in .env\)"):
        Settings()
    monkeypatch.setenv("DB_EXPORT_CHECK_INTERVAL", "y")
    with pytest.raises(ConfigurationError, match=r"\(DB_EXPORT_CHECK_INTERVAL\)"):
        Settings()


def test_a_bad_value_that_another_place_overrules(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error all the same, with its place; a good value is simply overruled."""
    Path("autoexport.toml").write_text('check_interval = 7\ncsv_bom = "perhaps"\n')
    monkeypatch.setenv("DB_EXPORT_CSV_BOM", "true")
    with pytest.raises(ConfigurationError, match=r"csv_bom \('csv_bom' in autoexport.toml\)"):
        Settings.load(check_interval=5)
    Path("autoexport.toml").write_text("check_interval = 7\ncsv_bom = false\n")
    assert (Settings.load(check_interval=5).check_interval, Settings().csv_bom) == (5, True)
    Path(".env").write_text("DB_EXPORT_CHECK_INTERVAL=x\n")
    for overruling in ({}, {"check_interval": 5}):
        with pytest.raises(ConfigurationError, match=r"\(DB_EXPORT_CHECK_INTERVAL in .env\)"):
            Settings.load(**overruling)
        monkeypatch.setenv("DB_EXPORT_CHECK_INTERVAL", "3")


def test_words_may_be_in_upper_case() -> None:
    """`ENVIRONMENT=Production` and `LOG_LEVEL=DEBUG` are common."""
    settings = Settings(environment="Production", log_level="DEBUG")  # type: ignore[arg-type]
    assert (settings.environment, settings.log_level) == ("production", "debug")


def test_an_unknown_argument_is_refused() -> None:
    """A misspelt argument of an embedding program must not be silently without effect."""
    with pytest.raises(ConfigurationError, match="'chek_interval'") as caught:
        Settings(chek_interval=3)  # type: ignore[call-arg]
    assert "Did you mean 'check_interval'" in caught.value.hint


# --- the configuration file ----------------------------------------------------------------------


def test_relative_paths_in_the_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only those: a path in a variable is relative to the working directory."""
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "mine.toml"
    file.write_text('export_directory = "out"\nstate_directory = "../state"\ndatabase_url = "sqlite:///app.db"\n')
    settings = Settings.load(file)
    assert settings.export_directory == folder / "out"
    assert settings.state_dir.resolve() == tmp_path / "state"
    assert settings.database.path == folder / "app.db"
    file.write_text('export_directory = "/srv/out"\ndatabase_url = "postgresql://ann@h/db"\n')
    settings = Settings.load(file)
    assert settings.export_directory == Path("/srv/out")
    assert settings.database_url == "postgresql://ann@h/db"
    monkeypatch.setenv("DB_EXPORT_EXPORT_DIRECTORY", "out")
    assert Settings.load(file).export_directory == Path("out")


def test_a_file_path_with_odd_characters_survives(tmp_path: Path) -> None:
    """The file's own folder may hold what a URL would have to encode."""
    folder = tmp_path / "50% of a?b#c"
    folder.mkdir()
    (folder / "autoexport.toml").write_text('database_url = "sqlite:///my%20app.db"\n')
    assert Settings.load(folder / "autoexport.toml").database.path == folder / "my app.db"


def test_tables_come_from_the_file_or_the_constructor_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mapping is nested; a variable cannot hold it, and the constructor replaces the file's."""
    Path("autoexport.toml").write_text('[tables.images]\ntable = "asset"\ncolumns.file_path = "storage_key"\n')
    assert Settings().tables == {"images": {"table": "asset", "columns": {"file_path": "storage_key"}}}
    assert Settings(tables={}).tables == {}
    monkeypatch.setenv("DB_EXPORT_TABLES", '{"labels": {}}')
    settings = Settings()
    assert "labels" not in settings.tables
    assert "DB_EXPORT_TABLES" in settings.warnings[0]


@pytest.mark.parametrize(
    ("text", "part", "hint"),
    [
        ("chek_interval = 3\n", "'chek_interval' in autoexport.toml", "'check_interval'"),
        ("DB_EXPORT_CSV_BOM = true\n", "'DB_EXPORT_CSV_BOM'", "'csv_bom'"),
        ("xyzzy = 3\n", "'xyzzy'", "Allowed are enable_auto_export, "),
        ("origins = {}\n", "'origins'", "Allowed are"),
        ("config_file = 'x'\n", "'config_file'", "Allowed are"),
        ("export_directory = exports\n", "not valid TOML", "quotes"),
        ("database_url = 'mysql://h/db'\n", "'mysql'", "postgresql://"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text: str, part: str, hint: str) -> None:
    """The key, the file, and the names that are known."""
    Path("autoexport.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        Settings()
    assert part in str(caught.value)
    assert hint in caught.value.hint


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """A missing named file, a directory, a file that is not text."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load(Path("not-there.toml"))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Settings.load(tmp_path)
    Path("autoexport.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        Settings()
    Path("autoexport.toml").write_bytes(b"\xef\xbb\xbfcsv_bom = true\n")
    assert Settings().csv_bom is True


def test_a_dotenv_that_is_not_text_is_a_configuration_error() -> None:
    """The error of a file in another encoding names the file."""
    Path(".env").write_bytes(b"DB_EXPORT_ENVIRONMENT=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        Settings()


# --- unknown variables ---------------------------------------------------------------------------


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shared with other programs, so they are no error; what is in .env counts, too."""
    monkeypatch.setenv("DB_EXPORT_CHEK_INTERVAL", "3")
    Path(".env").write_text("DB_EXPORT_EXPORT_DIR=x\nOTHER=1\n")
    warnings = Settings().warnings
    assert len(warnings) == 2
    assert any("DB_EXPORT_CHEK_INTERVAL" in line and "DB_EXPORT_CHECK_INTERVAL" in line for line in warnings)
    assert any(".env" in line and "DB_EXPORT_EXPORT_DIRECTORY" in line for line in warnings)


def test_known_settings_give_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is in the environment."""
    monkeypatch.setenv("DB_EXPORT_CHECK_INTERVAL", "3")
    assert Settings().warnings == ()


# --- the database --------------------------------------------------------------------------------


def test_the_database_is_looked_for_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting, then DATABASE_URL of the environment, of .env, then database.db if it is there."""
    with pytest.raises(ConfigurationError, match="No database") as caught:
        _ = Settings().database
    assert "DB_EXPORT_DATABASE_URL" in caught.value.hint
    with pytest.raises(ConfigurationError, match="No database"):
        _ = Settings().resolved_database_url
    Path("database.db").touch()
    assert Settings().database.path == Path("database.db")
    Path(".env").write_text("DATABASE_URL=sqlite:///dotenv.db\n")
    assert Settings().database.path == Path("dotenv.db")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///environment.db")
    assert Settings().database.path == Path("environment.db")
    Path("autoexport.toml").write_text('database_url = "file.db"\n')
    assert Settings().database.path == Path("file.db").absolute()
    monkeypatch.setenv("DB_EXPORT_DATABASE_URL", "sqlite:///ours.db")
    assert Settings().resolved_database_url == "sqlite:///ours.db"
    assert Settings(database_url="given.db").database.path == Path("given.db")


def test_a_variable_of_the_application_may_say_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`DATABASE_URL` belongs to the application: it is not read if a setting names the database."""
    monkeypatch.setenv("DATABASE_URL", "mysql://host/db")
    assert Settings(database_url="given.db").database.path == Path("given.db")
    with pytest.raises(ConfigurationError, match="mysql"):
        Settings()


def test_a_directory_called_like_the_database_is_not_one() -> None:
    """Without a setting, only a file counts as the database."""
    Path("database.db").mkdir()
    assert Settings().database_url == ""


@pytest.mark.parametrize(
    "url",
    [f"mysql://u:{SECRET}@h/db", f"postgresql://u:{SECRET}@h:x/db"],
)
def test_a_password_is_in_no_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the message, the hint, nor in the chain of errors that a traceback would print."""
    import traceback

    for given in ({"database_url": url}, {"database_url": url, "check_interval": -1}):
        with pytest.raises(ConfigurationError) as caught:
            Settings(**given)
        assert SECRET not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_a_password_is_not_in_the_representation() -> None:
    """Settings end up in logs and in tracebacks."""
    settings = Settings(database_url=f"postgresql://u:{SECRET}@h/db")
    assert SECRET not in f"{settings!r} {settings}"
    assert settings.database.password == SECRET


# --- by environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "enabled", "implicit", "log_format", "log_level"),
    [
        ("development", True, True, "console", "debug"),
        ("development", False, False, "console", "debug"),
        ("production", True, False, "json", "info"),
        ("production", False, False, "json", "info"),
        ("testing", True, True, "console", "warning"),
        ("testing", False, False, "console", "warning"),
    ],
)
def test_the_environment_rules(
    environment: str, enabled: bool, implicit: bool, log_format: str, log_level: str
) -> None:
    """Production never monitors by itself; the explicit request always does."""
    settings = Settings(environment=environment, enable_monitoring=enabled)  # type: ignore[arg-type]
    assert settings.monitoring() is implicit
    assert settings.monitoring(explicit=True) is True
    assert (settings.effective_log_format, settings.effective_log_level) == (log_format, log_level)


def test_explicit_log_settings_win_over_the_environment() -> None:
    """Both may be given in any environment."""
    settings = Settings(environment="production", log_format="console", log_level="error")
    assert (settings.effective_log_format, settings.effective_log_level) == ("console", "error")


def test_one_line_says_which_won(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag and setting, in every combination that disagrees, and none that agrees."""
    assert Settings().disagreements(monitor=False) == ()
    assert Settings().disagreements(monitor=True) == ()
    (line,) = Settings(environment="production").disagreements(monitor=True)
    assert "--monitor wins over DB_EXPORT_ENVIRONMENT=production" in line
    (line,) = Settings(enable_monitoring=False).disagreements(monitor=True)
    assert "--monitor wins over DB_EXPORT_ENABLE_MONITORING=false" in line
    (line,) = Settings(enable_monitoring=True).disagreements(monitor=False)
    assert "no --monitor wins" in line
    monkeypatch.setenv("DB_EXPORT_ENABLE_HOOKS", "true")
    monkeypatch.setenv("DB_EXPORT_CHECK_INTERVAL", "5")
    lines = Settings.load(enable_hooks=False, check_interval="5").disagreements(monitor=False)
    assert lines == ("--disable-hooks wins over DB_EXPORT_ENABLE_HOOKS",)


def test_the_state_directory_is_in_the_export_directory() -> None:
    """Unless it is set."""
    assert Settings(export_directory=Path("out")).state_dir == Path("out/.autoexport")
    assert Settings(state_directory=Path("/var/lib/x")).state_dir == Path("/var/lib/x")


def test_tracebacks_are_asked_for_explicitly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By flag or variable; the flag wins; the level of the environment does not count."""
    assert not debugging_was_asked_for(None)
    assert debugging_was_asked_for("DEBUG")
    monkeypatch.setenv("DB_EXPORT_LOG_LEVEL", "debug")
    assert debugging_was_asked_for(None)
    assert not debugging_was_asked_for("info")


def test_importing_the_settings_loads_no_driver() -> None:
    """`--help` and an embedding program's start do not pay for databases."""
    import subprocess
    import sys

    code = (
        "import sys, autoexport.config.settings; heavy = 'sqlalchemy asyncpg aiosqlite watchfiles rich'.split(); "
        "print(*[name for name in heavy if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_table_around_the_settings_is_told_as_such(tmp_path: Path) -> None:
    """`[autoexport]` is how other tools name their part of a file; the hint says what to remove."""
    (tmp_path / "autoexport.toml").write_text("[autoexport]\ncheck_interval = 3\n")
    with pytest.raises(ConfigurationError, match=r"\[autoexport\] in autoexport\.toml is a table") as caught:
        Settings()
    assert "Remove the line [autoexport]" in caught.value.hint


# --- operations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", "127.0.0.1:9464"),
        (":9464", "127.0.0.1:9464"),
        (" 0.0.0.0:9464 ", "0.0.0.0:9464"),
        ("[::1]:9464", "[::1]:9464"),
        ("metrics.local:0", "metrics.local:0"),
    ],
)
def test_an_address_without_a_host_is_on_this_machine(text: str, address: str) -> None:
    """Nothing is open to the network unless a host says so. A number in the file is a port, too."""
    assert str(Settings(listen=text).listen_address) == address
    assert str(Settings(listen=9464).listen_address) == "127.0.0.1:9464"
    assert Settings().listen_address is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("notify --now 'a b' $HOME; *", ("notify", "--now", "a b", "$HOME;", "*")),
        (["notify", "a b", ""], ("notify", "a b", "")),
        ("  ", ()),
    ],
)
def test_a_command_is_split_as_a_shell_splits_and_nothing_else(value: object, words: tuple[str, ...]) -> None:
    """Quotes count; variables, patterns and operators are words like others."""
    assert Settings(on_publish=value).on_publish == words


def test_a_command_in_the_variable_and_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text in both, and a list in the file; a relative path of a textfile is relative to the file."""
    Path("folder").mkdir()
    Path("folder/a.toml").write_text('on_publish = ["notify", "a b"]\nmetrics_textfile = "x.prom"\n')
    assert Settings(config_file=Path("folder/a.toml")).on_publish == ("notify", "a b")
    assert Settings(config_file=Path("folder/a.toml")).metrics_textfile == Path("folder/x.prom")
    monkeypatch.setenv("DB_EXPORT_ON_PUBLISH", "notify 'c d'")
    assert Settings().on_publish == ("notify", "c d")


@pytest.mark.parametrize("name", ["heartbeat_url", "on_publish"])
def test_a_secret_of_an_operator_is_in_no_message(name: str) -> None:
    """A bad value is not repeated, and the URL is in no representation of the settings."""
    with pytest.raises(ConfigurationError) as caught:
        Settings(**{name: f"ftp://host/{SECRET} '"})
    assert SECRET not in str(caught.value) + caught.value.hint
    assert SECRET not in repr(Settings(heartbeat_url=f"https://host/{SECRET}"))
