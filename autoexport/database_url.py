"""What a person may write to name a database, and what the drivers are told."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, unquote

from autoexport.errors import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext

    from sqlalchemy import URL

Dialect = Literal["sqlite", "postgresql"]

_FORMS = "Give sqlite:///app.db, postgresql://user@host/name, or the path of a SQLite file."
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL_FILES = ("sslrootcert", "sslcert", "sslkey", "sslpassword")
_HANDED_ON = ("passfile", "service", "servicefile", "target_session_attrs")
_UNDERSTOOD = (
    "application_name", "connect_timeout", "database", "dbname", "fallback_application_name", "host",
    "options", "password", "port", "ssl", "sslmode", "user", *_SSL_FILES, *_HANDED_ON,
)  # fmt: skip

_SCHEME = re.compile(r"(?P<dialect>[A-Za-z][A-Za-z0-9-]*)(?:\+(?P<driver>\w+))?://(?P<rest>.*)", re.DOTALL)
_FEW_SLASHES = re.compile(r"(sqlite|postgres|postgresql)(\+\w+)?:", re.IGNORECASE)
_SERVER_SETTING = re.compile(r"\s*(?:-c\s*|--)(?P<name>[\w.-]+)=(?P<value>(?:\\.|[^\s\\])*)\s*", re.DOTALL)


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

    @property
    def url(self) -> URL:
        """The URL for SQLAlchemy, with our drivers; everything beyond the basics is in `connect_args`."""
        from sqlalchemy import URL

        if self.path is not None:
            return URL.create("sqlite+aiosqlite", database=str(self.path))
        host, port = self.hosts[0] if len(self.hosts) == 1 else (None, None)
        return URL.create("postgresql+asyncpg", self.user, self.password, host, port, self.database)

    def connect_args(self) -> dict[str, object]:
        """The keyword arguments of `asyncpg.connect` beyond host, port, user, password and database.

        TLS is translated from libpq's words (PostgreSQL manual, section 34.1.2 and 34.19). Raises
        `ConfigurationError` when a certificate file cannot be used.
        """
        if self.dialect == "sqlite":
            return {}
        found: dict[str, object] = {name: self.options[name] for name in _HANDED_ON if name in self.options}
        if len(self.hosts) > 1:
            found["host"] = [host for host, _ in self.hosts]
            found["port"] = [port or 5432 for _, port in self.hosts]
        if timeout_s := _connect_timeout_s(self.options):
            found["timeout"] = timeout_s
        if (security := _security(self.options)) is not None:
            found["ssl"] = security
        found["server_settings"] = _server_settings(self.options)
        return found


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


_WAYS = (
    "Use --database-url, DB_EXPORT_DATABASE_URL or DATABASE_URL, or start where there is a file database.db."
)
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


def _sqlite(rest: str) -> DatabaseURL:
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if location and not location.startswith("/"):
        raise ConfigurationError(
            "A SQLite URL has no host: two slashes are too few.",
            hint="Write sqlite:///app.db for a relative path and sqlite:////srv/app.db for an absolute one.",
        )
    path = unquote(location[1:])
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
        matched = re.fullmatch(
            r"\[(?P<six>[^\]]+)\](?::(?P<p6>.*))?|(?P<name>[^:\[\]]*)(?::(?P<p4>.*))?", part
        )
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


def _display(
    user: str, secret: str | None, hosts: tuple[tuple[str, int | None], ...], name: str | None
) -> str:
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
    _connect_timeout_s(options)
    _ssl_mode(options)
    _server_settings(options)


def _connect_timeout_s(options: Mapping[str, str]) -> float:
    """libpq's `connect_timeout` in seconds; 0 is the driver's own."""
    text = options.get("connect_timeout", "0") or "0"
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ConfigurationError(
            "connect_timeout in the database URL is not a number of seconds.",
            hint="Write connect_timeout=10.",
        )
    return float(max(0, int(text)))


def _ssl_mode(options: Mapping[str, str]) -> str | None:
    mode = options.get("sslmode") or {"true": "require", "false": "disable"}.get(
        options.get("ssl", "").lower(), options.get("ssl")
    )
    if mode and mode not in _SSL_MODES:
        raise ConfigurationError(
            "sslmode in the database URL has an unknown value.", hint=f"Allowed are {', '.join(_SSL_MODES)}."
        )
    return mode or None


def _security(options: Mapping[str, str]) -> str | SSLContext | None:
    """What asyncpg is told about TLS: libpq's word, or a context where files are named."""
    mode = _ssl_mode(options)
    root, certificate = options.get("sslrootcert"), options.get("sslcert")
    if not root and not certificate:
        return mode
    if mode in ("disable", "allow", "prefer"):
        return mode  # the server is not verified in these modes, whatever files are named
    import ssl

    try:
        context = ssl.create_default_context(cafile=None if root in (None, "system") else root)
        if root is None:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif mode != "verify-full" and root != "system":
            context.check_hostname = False  # with a root file, "require" means verify-ca (manual, 34.19.1)
        if certificate:
            context.load_cert_chain(certificate, options.get("sslkey"), options.get("sslpassword"))
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigurationError(
            f"A certificate file of the database URL cannot be used: {exc.strerror or exc}.",
            hint="Check the paths in sslrootcert, sslcert and sslkey, and that this user may read them.",
        ) from exc
    return context


def _server_settings(options: Mapping[str, str]) -> dict[str, str]:
    """Run-time parameters: `application_name`, and those of libpq's `options` (`-c name=value`)."""
    name = options.get("application_name") or options.get("fallback_application_name") or "autoexport"
    found = {"application_name": name}
    text = options.get("options", "")
    position = 0
    while position < len(text):
        matched = _SERVER_SETTING.match(text, position)
        if matched is None:
            raise ConfigurationError(
                "'options' in the database URL is not understood.",
                hint="Write options=-csearch_path%3Dmine, once per parameter, separated by %20.",
            )
        found[matched["name"].replace("-", "_")] = re.sub(r"\\(.)", r"\1", matched["value"])
        position = matched.end()
    return found


# --- secrets -------------------------------------------------------------------------------------

# A password with an unencoded @, / or blank is still hidden: everything up to the last @ that can
# belong to it. Hiding too much of a line is the lesser harm.
_OURS = re.compile(r"(?i)\b((?:postgres(?:ql)?|sqlite)(?:\+\w+)?://[^\s:/@]*):((?:(?!://)[^\n])*)@")
_OTHERS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):(\S*)@")
_NAMED = re.compile(r"(?i)((?:password|passwd|pgpassword)['\"]?\s*[=:]\s*['\"]?)([^\s'\"&,;)}]+)")


def redact(text: str) -> str:
    """The text with `***` in place of every password: in URLs, and in `password=…` of any notation."""
    if ":" not in text and "=" not in text:
        return text
    if "@" in text:
        text = _OTHERS.sub(r"\1:***@", _OURS.sub(r"\1:***@", text))
    return _NAMED.sub(r"\1***", text)
