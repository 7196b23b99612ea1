"""What a person may write to name a database, and what the drivers are told."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote

from autoexport.config.libpq import connect_timeout_s, server_settings, ssl_mode
from autoexport.errors import ConfigurationError

Dialect = Literal["sqlite", "postgresql"]

_FORMS = "Give sqlite:///app.db, postgresql://user@host/name, or the path of a SQLite file."
_SSL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslpassword")
DRIVER_OPTIONS = ("passfile", "service", "servicefile", "target_session_attrs")
"""Options of a PostgreSQL URL that asyncpg itself understands."""

_UNDERSTOOD = (
    "application_name", "connect_timeout", "currentSchema", "database", "dbname", "fallback_application_name",
    "host", "options", "password", "port", "schema", "ssl", "sslmode", "user", *_SSL_FILES, *DRIVER_OPTIONS,
)  # fmt: skip

_SCHEME = re.compile(r"(?P<dialect>[A-Za-z][A-Za-z0-9-]*)(?:\+(?P<driver>\w+))?://(?P<rest>.*)", re.DOTALL)
_FEW_SLASHES = re.compile(r"(sqlite|postgres|postgresql)(\+\w+)?:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DatabaseURL:
    """A database that can be opened: what it is, where it is, and how to be let in.

    `path` is the file of a SQLite database as it was written, relative to the working directory or
    absolute. `display` is fit for a screen or a log: it never holds the password. `ignored` names
    the options that mean something to another driver and nothing here.
    """

    dialect: Dialect
    display: str
    path: Path | None = None
    hosts: tuple[tuple[str, int | None], ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    ignored: tuple[str, ...] = ()


def parse_database_url(text: str) -> DatabaseURL:
    """Understand a SQLAlchemy URL of SQLite or PostgreSQL, or a bare path to a SQLite file.

    No file is looked at and no host is contacted. Raises `ConfigurationError`, whose text never
    holds any part of the URL behind the scheme.
    """
    if not text.strip():
        raise ConfigurationError("No database is given.", hint=f"{_FORMS} {_WAYS}")
    matched = _SCHEME.fullmatch(text.strip())
    if matched is None:
        return _bare_path(text)
    dialect = matched["dialect"].lower()
    if dialect == "sqlite":
        return _sqlite(matched["rest"])
    if dialect in ("postgresql", "postgres"):
        return _postgresql(matched["rest"])
    if dialect == "file":
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    raise ConfigurationError(f"The database URL scheme '{dialect}' is not supported.", hint=_FORMS)


_WAYS = "Use --database-url, DB_EXPORT_DATABASE_URL or DATABASE_URL, or start where there is a file database.db."
_PLAIN_PATH = "Give the path itself, such as /srv/app/app.db or sqlite:////srv/app/app.db."


_ENCODE = "In user, password and name, write : / ? # @ % as %3A %2F %3F %23 %40 %25."


# --- SQLite --------------------------------------------------------------------------------------


def _bare_path(text: str) -> DatabaseURL:
    if text.strip() == ":memory:":
        raise _in_memory()
    if text.lower().startswith("file:"):
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    if _FEW_SLASHES.match(text):
        scheme = text.partition(":")[0].lower()
        raise ConfigurationError(f"The database URL needs slashes behind '{scheme}:'.", hint=_FORMS)
    if re.search(r"//?[^/]*:.*@", text):
        raise ConfigurationError("The database looks like a URL without its scheme.", hint=_FORMS)
    return _sqlite_file(text)


def file_uri(path: Path) -> str:
    """A file as SQLite takes it, any bytes in its name; `?` and parameters may follow
    (https://www.sqlite.org/uri.html)."""
    return f"file:{quote(os.fsencode(path))}"


def _sqlite(rest: str) -> DatabaseURL:
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if location and not location.startswith("/"):
        raise ConfigurationError(
            "A SQLite URL has no host: two slashes are too few.",
            hint="Write sqlite:///app.db for a relative path and sqlite:////srv/app.db for an absolute one.",
        )
    path = unquote(location[1:], errors="surrogateescape")
    if path in ("", ":memory:") or options.get("mode") == "memory":
        raise _in_memory()
    if path.lower().startswith("file:"):
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    return _sqlite_file(path, ignored=tuple(options))


def _sqlite_file(text: str, ignored: tuple[str, ...] = ()) -> DatabaseURL:
    if "\0" in text:
        raise ConfigurationError("The database path holds a NUL character.", hint=_PLAIN_PATH)
    path = Path(text).expanduser() if text.startswith("~/") else Path(text)
    return DatabaseURL("sqlite", display=str(path), path=path, ignored=ignored)


def _in_memory() -> ConfigurationError:
    return ConfigurationError(
        "An in-memory SQLite database exists only inside the connection that made it.",
        hint="Give the path of a database file.",
    )


# --- PostgreSQL ----------------------------------------------------------------------------------


def _postgresql(rest: str) -> DatabaseURL:
    userinfo, rest = _split_userinfo(rest)
    location, _, query = rest.partition("?")
    if "@" in location:
        raise ConfigurationError("The database URL has an @ where none can be.", hint=_ENCODE)
    netloc, _, database = location.partition("/")
    options = _query_options(query)
    user, colon, password = userinfo.partition(":")
    user = options.pop("user", "") or unquote(user)
    secret = options.pop("password", None) or (unquote(password) if colon else None)
    name = unquote(database) or options.pop("dbname", "") or options.pop("database", "") or None
    hosts = _hosts(options.pop("host", "") or netloc, options.pop("port", ""))
    ignored = _ignored_options(options)
    _check_options(options)
    return DatabaseURL(
        "postgresql",
        display=_display(user, secret, hosts, name),
        hosts=hosts,
        user=user or None,
        password=secret,
        database=name,
        options=options,
        ignored=ignored,
    )


def _split_userinfo(rest: str) -> tuple[str, str]:
    """User and password, and what follows them; an `@` or `/` in a password that should have been
    percent-encoded is understood where only one reading is possible."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        userinfo, _, host = authority.rpartition("@")
        return userinfo, host + rest[len(authority) :]
    raw = re.match(r"([^:/?#@\[]*:(?!\d*[/?])[^@]*)@", rest)
    return (raw[1], rest[raw.end() :]) if raw else ("", rest)


def _query_options(query: str) -> dict[str, str]:
    """The options; of one that is repeated the last counts, except hosts, which add up."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not re.fullmatch(r"\w+", name):
            raise ConfigurationError("The database URL has an option without a plain name.", hint=_ENCODE)
        options[name] = f"{options[name]},{value}" if name == "host" and "host" in options else value
    return options


def _hosts(netloc: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    """Hosts with their ports (a directory: that of a Unix socket). Empty: the driver's default."""
    given = [part for part in netloc.split(",") if part]
    spare = [part for part in ports.split(",") if part]
    if not given:
        return ((("localhost", _port(spare[0])),)) if spare else ()
    found = []
    for index, part in enumerate(given):
        matched = re.fullmatch(r"\[(?P<six>[^\]]+)\](?::(?P<p6>.*))?|(?P<name>[^:\[\]]*)(?::(?P<p4>.*))?", part)
        if matched is None:
            raise ConfigurationError(
                "The host of the database URL is not understood.",
                hint=f"Write an IPv6 address in brackets. {_ENCODE}",
            )
        host = unquote(matched["six"] or matched["name"] or "localhost")
        port = matched["p6"] or matched["p4"] or (spare[min(index, len(spare) - 1)] if spare else "")
        found.append((host, _port(port) if port else None))
    return tuple(found)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ConfigurationError(
            "The port of the database URL is not a number from 1 to 65535.",
            hint=f"{_ENCODE} An IPv6 address stands in brackets.",
        )
    return int(text)


def _display(user: str, secret: str | None, hosts: tuple[tuple[str, int | None], ...], name: str | None) -> str:
    places = []
    for host, port in hosts:
        shown = f"[{host}]" if ":" in host else host
        places.append(f"{shown}:{port}" if port else shown)
    login = f"{user}{':***' if secret else ''}@" if user or secret else ""
    return f"postgresql://{login}{','.join(places)}/{name or ''}"


def _ignored_options(options: dict[str, str]) -> tuple[str, ...]:
    """Options of other drivers. An unknown one about TLS is refused: a slip must not turn TLS off."""
    unknown = tuple(name for name in options if name not in _UNDERSTOOD)
    for name in unknown:
        nearest = difflib.get_close_matches(name, _UNDERSTOOD, n=1, cutoff=0.75)
        if name.startswith("ssl") or nearest[:1] == ["sslmode"]:
            known = ", ".join(item for item in _UNDERSTOOD if item.startswith("ssl"))
            raise ConfigurationError(
                f"The database URL has an unknown security option '{name}'.", hint=f"Known are {known}."
            )
    return unknown


def _check_options(options: dict[str, str]) -> None:
    """Raise for a bad value now, not when the database is first opened."""
    connect_timeout_s(options)
    ssl_mode(options)
    server_settings(options)
