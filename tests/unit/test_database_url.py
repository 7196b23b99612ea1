"""Database URLs and paths are parsed, and bad ones refused without showing a password."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from autoexport.config.database_url import parse_database_url
from autoexport.errors import ConfigurationError
from autoexport.runtime.redaction import redact
from autoexport.sources.postgres.engine import connect_args, engine_url

SECRET = "hunter2-geheim"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///app.db", "app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite+pysqlite:///a/b.db", "a/b.db"),
        ("SQLite+AioSqlite:///app.db", "app.db"),
        ("sqlite:///my%20data%3F.db", "my data?.db"),
        ("sqlite:///app.db?timeout=5&check_same_thread=false", "app.db"),
        ("app.db", "app.db"),
        ("../odd names/a b?c#d%20.db", "../odd names/a b?c#d%20.db"),
        ("/srv/with@at:colon.db", "/srv/with@at:colon.db"),
    ],
)
def test_sqlite_forms_name_the_file(text: str, path: str) -> None:
    """A SQLAlchemy URL is percent-decoded as SQLAlchemy does it; a bare path is taken as it is."""
    found = parse_database_url(text)
    assert (found.dialect, found.path, found.display) == ("sqlite", Path(path), path)


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration files and units are not read by a shell, so `~/` is expanded here."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse_database_url("~/app.db").path == Path("/home/someone/app.db")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "No database"),
        ("  ", "No database"),
        (":memory:", "in-memory"),
        ("sqlite://", "in-memory"),
        ("sqlite:///", "in-memory"),
        ("sqlite:///:memory:", "in-memory"),
        ("sqlite:///shared?mode=memory", "in-memory"),
        ("sqlite://app.db", "two slashes"),
        ("sqlite:app.db", "slashes"),
        ("postgresql:host/db", "slashes"),
        ("file:app.db", "file: URI"),
        ("file:///app.db", "file: URI"),
        ("sqlite:///file:app.db?mode=ro&uri=true", "file: URI"),
        ("a\0b", "NUL"),
        (f"mysql+pymysql://u:{SECRET}@h/db", "'mysql' is not supported"),
        (f"postgre://u:{SECRET}@h/db", "'postgre' is not supported"),
        (f"postgresql//u:{SECRET}@h/db", "without its scheme"),
        (f"postgresql:/u:{SECRET}@h/db", "slashes"),
        (f"postgresql://u:{SECRET}@h:port/db", "port"),
        (f"postgresql://u:{SECRET}@[::1/db", "host"),
        (f"postgresql://u:{SECRET}@h:0/db", "port"),
        (f"postgresql://u:{SECRET}@h:65536/db", "port"),
        (f"postgresql://u:{SECRET}@::1/db", "port"),
        (f"postgresql://u:5/{SECRET}@h/db", "an @"),
        (f"postgresql://u:5?{SECRET}@h/db", "plain name"),
        (f"postgresql://u:{SECRET}@h/db?sslmode=on", "sslmode"),
        (f"postgresql://u:{SECRET}@h/db?sslmod=require", "security option 'sslmod'"),
        (f"postgresql://u:{SECRET}@h/db?sslcompressionn=1", "security option"),
        (f"postgresql://u:{SECRET}@h/db?connect_timeout=soon", "connect_timeout"),
        (f"postgresql://u:{SECRET}@h/db?options=search_path", "'options'"),
    ],
)
def test_bad_urls_are_refused_without_showing_the_password(text: str, part: str) -> None:
    """Exit code 2, a hint, the reason, and nothing secret in any of it."""
    with pytest.raises(ConfigurationError) as caught:
        parse_database_url(text)
    assert part in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert SECRET not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "POSTGRES", "postgresql+psycopg2", "postgresql+asyncpg"]
)
def test_every_postgresql_driver_is_replaced_by_ours(scheme: str) -> None:
    """`postgres://` and foreign driver names are what applications have in DATABASE_URL."""
    found = parse_database_url(f"{scheme}://ann@db.example:5433/labels")
    assert engine_url(found).render_as_string() == "postgresql+asyncpg://ann@db.example:5433/labels"
    assert found.display == "postgresql://ann@db.example:5433/labels"


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("p%40ss%3Aword%2F%25", "p@ss:word/%"),
        ("p@ss", "p@ss"),
        ("p:ss", "p:ss"),
        ("p/ss", "p/ss"),
        ("p?s#s", "p?s#s"),
        ("100%", "100%"),
        ("a+b c", "a+b c"),
        ("", ""),
    ],
)
def test_passwords_arrive_as_meant(written: str, password: str) -> None:
    """Percent-encoded as they should be, or raw if only one reading is possible."""
    found = parse_database_url(f"postgresql://ann:{written}@h:5432/db")
    assert (found.user, found.password, found.hosts, found.database) == (
        "ann",
        password,
        (("h", 5432),),
        "db",
    )
    assert engine_url(found).password == password
    assert found.display == ("postgresql://ann:***@h:5432/db" if password else "postgresql://ann@h:5432/db")
    if password:
        assert repr(password)[1:-1] not in repr(found)


def test_an_at_sign_in_the_options_belongs_to_the_options() -> None:
    """`host:port/db?application_name=a@b` has no password."""
    found = parse_database_url("postgresql://h:5432/db?application_name=a@b")
    assert (found.user, found.password, found.hosts) == (None, None, (("h", 5432),))
    assert connect_args(found)["server_settings"] == {"application_name": "a@b"}


@pytest.mark.parametrize(
    ("text", "hosts", "display"),
    [
        ("postgresql:///db", (), "postgresql:///db"),
        ("postgresql://[::1]:5433/db", (("::1", 5433),), "postgresql://[::1]:5433/db"),
        ("postgresql://u@[fe80::1%25eth0]/db", (("fe80::1%eth0", None),), "postgresql://u@[fe80::1%eth0]/db"),
        ("postgresql:///db?host=/var/run/postgresql", (("/var/run/postgresql", None),), None),
        ("postgresql://%2Fvar%2Frun%2Fpostgresql/db", (("/var/run/postgresql", None),), None),
        ("postgresql:///db?host=/run/pg&port=5433", (("/run/pg", 5433),), None),
        ("postgresql://a:1,b:2/db", (("a", 1), ("b", 2)), "postgresql://a:1,b:2/db"),
        ("postgresql:///db?host=a&host=b&port=7", (("a", 7), ("b", 7)), "postgresql://a:7,b:7/db"),
        ("postgresql://:5433/db", (("localhost", 5433),), None),
    ],
)
def test_hosts(text: str, hosts: tuple[tuple[str, int | None], ...], display: str | None) -> None:
    """IPv6, Unix sockets in both spellings, several hosts."""
    found = parse_database_url(text)
    assert found.hosts == hosts
    if display:
        assert found.display == display
    if len(hosts) > 1:
        assert connect_args(found)["host"] == [host for host, _ in hosts]
        assert connect_args(found)["port"] == [port for _, port in hosts]
        assert engine_url(found).host is None
    elif hosts:
        assert (engine_url(found).host, engine_url(found).port) == hosts[0]


def test_login_may_stand_in_the_options() -> None:
    """libpq allows user, password and dbname there; the password is not shown for it."""
    found = parse_database_url(f"postgresql://h/?user=ann&password={SECRET}&dbname=labels")
    assert (found.user, found.password, found.database) == ("ann", SECRET, "labels")
    assert found.display == "postgresql://ann:***@h/labels"
    assert SECRET not in repr(found)


def test_options_of_libpq_are_translated() -> None:
    """`options`, `application_name`, `connect_timeout` and what asyncpg knows itself."""
    found = parse_database_url(
        "postgresql://h/db?options=-csearch_path%3Dmine%2Cpublic%20-c%20work_mem%3D4MB%20--a.b%3Dx%5C%20y"
        "&application_name=nightly&connect_timeout=7&target_session_attrs=read-only&channel_binding=prefer&client_encoding=latin1&pool_size=5"
    )
    assert connect_args(found) == {
        "timeout": 7.0,
        "target_session_attrs": "read-only",
        "server_settings": {
            "application_name": "nightly",
            "search_path": "mine,public",
            "work_mem": "4MB",
            "a.b": "x y",
        },
    }
    assert found.ignored == ("pool_size", "client_encoding")


def test_the_application_name_is_ours_unless_said_otherwise() -> None:
    """A database administrator can see which program it is."""
    assert connect_args(parse_database_url("postgresql://h/db")) == {
        "server_settings": {"application_name": "autoexport"}
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sslmode=disable", "disable"),
        ("sslmode=allow", "allow"),
        ("sslmode=prefer", "prefer"),
        ("sslmode=require", "require"),
        ("sslmode=verify-ca", "verify-ca"),
        ("sslmode=verify-full", "verify-full"),
        ("ssl=require", "require"),
        ("ssl=true", "require"),
        ("ssl=false", "disable"),
        ("sslmode=prefer&sslrootcert=/nowhere.pem", "prefer"),
        ("", None),
    ],
)
def test_sslmode_is_translated(query: str, expected: str | None) -> None:
    """Modes without files of their own are handed to asyncpg in libpq's words."""
    assert connect_args(parse_database_url(f"postgresql://h/db?{query}")).get("ssl") == expected


@pytest.mark.parametrize(
    ("query", "verifies", "checks_name"),
    [
        ("sslmode=verify-full&sslrootcert=system", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-full&sslrootcert={root}", ssl.CERT_REQUIRED, True),
        ("sslmode=verify-ca&sslrootcert={root}", ssl.CERT_REQUIRED, False),
        ("sslmode=require&sslrootcert={root}", ssl.CERT_REQUIRED, False),
        ("sslrootcert={root}", ssl.CERT_REQUIRED, False),
    ],
)
def test_a_root_certificate_is_verified_against(
    query: str, verifies: ssl.VerifyMode, checks_name: bool, tmp_path: Path
) -> None:
    """With a root file even `require` verifies the chain; only verify-full checks the name."""
    root = tmp_path / "root.pem"
    bundle = ssl.create_default_context().get_ca_certs(binary_form=True)
    if not bundle:
        pytest.fail("this machine has no certificates to test with; install ca-certificates")
    root.write_text(ssl.DER_cert_to_PEM_cert(bundle[0]))
    context = connect_args(parse_database_url(f"postgresql://h/db?{query.format(root=root)}"))["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (verifies, checks_name)


def test_a_missing_certificate_file_is_a_configuration_error() -> None:
    """It is noticed when a connection is prepared, and names what to check."""
    found = parse_database_url("postgresql://h/db?sslmode=verify-full&sslrootcert=/nowhere/root.pem")
    with pytest.raises(ConfigurationError, match="certificate file") as caught:
        connect_args(found)
    assert "sslrootcert" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to postgresql://ann:{SECRET}@h/db now",
        f"postgres://ann:x@{SECRET}@h/db",
        f"postgres://ann:x/{SECRET}?y#@h/db",
        f"postgres://ann:two words {SECRET}@h/db",
        f"https://ann:{SECRET}@h/db",
        f"postgresql://h/db?user=ann&password={SECRET}&x=1",
        f"{{'password': '{SECRET}'}}",
        f"PGPASSWORD={SECRET} psql",
        f"a://u:{SECRET}@h b://u:{SECRET}@h",
    ],
)
def test_redact_hides_every_password(text: str) -> None:
    """Whatever text a driver or a person made around it."""
    assert SECRET not in redact(text)
    assert "***" in redact(text)


@pytest.mark.parametrize(
    "text", ["12:30 ann@example.org", "sqlite:////srv/app.db", "postgresql://ann@h:5432/db", "a=b"]
)
def test_redact_leaves_the_rest_alone(text: str) -> None:
    """Text without a password is not changed."""
    assert redact(text) == text
