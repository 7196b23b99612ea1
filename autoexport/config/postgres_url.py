"""Understands the URL of a PostgreSQL database, and the `name=value` strings of libpq."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from autoexport.config.address import DatabaseURL
from autoexport.config.libpq import connect_timeout_s, server_settings, ssl_mode
from autoexport.config.libpq_files import service_options
from autoexport.config.libpq_parameters import KNOWN, VARIABLES, WITHOUT_EFFECT, refuse_unsupported
from autoexport.errors import ConfigurationError

ENCODE = "In user, password and name, write : / ? # @ % as %3A %2F %3F %23 %40 %25."
_OTHER_DRIVERS = {"database": "dbname", "currentSchema": "search_path", "schema": "search_path"}
"""How JDBC, Prisma and others call what is done here as well."""

_OUR_OWN = ("ssl", "search_path")
_NEVER_EMPTY = ("service", "servicefile", "sslmode", "target_session_attrs", "search_path", *_OTHER_DRIVERS)
"""Without their value, another database or schema would be read, or TLS left to the default."""

_READ_BY_THE_DRIVER = frozenset({"host", "port", "dbname", "user", "password", "passfile"})
_PAIR = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:\\.|[^'\\])*)'|((?:\\.|[^\s'\\])*))(?=\s|$)", re.DOTALL)
_CONNINFO = re.compile(r"\s*(?:host|hostaddr|port|dbname|user|service)\s*=")


def parse_postgres_url(rest: str) -> DatabaseURL:
    """Understand a URL from behind its scheme. Raises `ConfigurationError`, whose text holds no part of it."""
    userinfo, rest = _split_userinfo(rest)
    location, _, query = rest.partition("?")
    if "@" in location:
        raise ConfigurationError("The database URL has an @ in a wrong place.", hint=ENCODE)
    netloc, _, database = location.partition("/")
    user, colon, password = userinfo.partition(":")
    parameters = {"user": unquote(user), "dbname": unquote(database)}
    if colon:
        parameters["password"] = unquote(password)
    options = _query_options(query)
    hosts = _hosts(_in_brackets(options.pop("host", "")) or netloc, options.pop("port", ""))
    _refuse_empty(options)
    named = {name: value for name, value in options.items() if value}
    return _database({**parameters, **named}, hosts)


def is_conninfo(text: str) -> bool:
    """Whether a text is a connection string of libpq, such as `host=db dbname=labels`."""
    return _CONNINFO.match(text) is not None


def parse_conninfo(text: str) -> DatabaseURL:
    """Understand a connection string of libpq (manual, section 34.1.1.1). Raises `ConfigurationError`."""
    parameters, position = {}, 0
    while text[position:].strip():
        matched = _PAIR.match(text, position)
        if matched is None:
            raise ConfigurationError(
                "The connection string is not a list of name=value pairs.",
                hint="Write host=db.example dbname=labels user=reader, with quotes around a value with blanks.",
            )
        value = matched[2] if matched[2] is not None else matched[3]
        parameters[matched[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = matched.end()
    hosts = _plain_hosts(parameters.pop("host", ""), parameters.pop("port", ""))
    _refuse_empty(parameters)
    return _database(parameters, hosts)


def with_service(database: DatabaseURL, environ: Mapping[str, str]) -> DatabaseURL:
    """The database with the parameters of its service, and those of the environment that the driver does not read.

    What the URL names wins over the service, and that over the environment (manual, section 34.17). Raises
    `ConfigurationError` if there is no such service, or if a parameter cannot be honoured.
    """
    if database.dialect != "postgresql":
        return database
    named = dict(database.parameters)
    variables = {
        parameter: environ[variable]
        for variable, parameter in VARIABLES.items()
        if parameter not in _READ_BY_THE_DRIVER and environ.get(variable)
    }
    service = named.get("service") or variables.get("service")
    if not service:
        return _database({**variables, **named}, database.hosts or _hosts_of_environment(environ))
    found = service_options(service, named.get("servicefile"), environ)
    for name in found:
        if name not in KNOWN:
            raise ConfigurationError(
                f"The service '{service}' has an unknown parameter '{name}'.",
                hint="Remove it from the connection service file.",
            )
    _refuse_empty(found)
    hosts = _plain_hosts(found.pop("host", ""), found.pop("port", ""))
    return _database({**variables, **found, **named}, database.hosts or hosts or _hosts_of_environment(environ))


def _database(given: Mapping[str, str], hosts: tuple[tuple[str, int | None], ...]) -> DatabaseURL:
    """The record of these hosts and other parameters."""
    parameters = {
        _OTHER_DRIVERS.get(name, name): _one_schema(value) if name == "schema" else value
        for name, value in given.items()
        if value or name == "password"
    }
    refuse_unsupported(parameters)
    ssl_mode(parameters)
    user, password, name = (parameters.get(key) for key in ("user", "password", "dbname"))
    ignored = _ignored(parameters)
    # A bad value is told now, not when the database is first opened.
    connect_timeout_s(parameters)
    server_settings(parameters)
    return DatabaseURL(
        "postgresql",
        display=_display(user or "", password, hosts, name),
        hosts=hosts,
        user=user,
        password=password,
        database=name,
        parameters=parameters,
        ignored=ignored,
    )


def _refuse_empty(options: Mapping[str, str]) -> None:
    """Refuse an option that a template left empty, if it says what to read or how to connect."""
    for name in _NEVER_EMPTY:
        if options.get(name) == "":
            raise ConfigurationError(
                f"The option '{name}' of the database is empty.", hint=f"Remove {name}= or write its value."
            )


def _one_schema(name: str) -> str:
    """The search path of one schema, by its exact name as Prisma takes it; the others are lists as in SQL."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'


def _split_userinfo(rest: str) -> tuple[str, str]:
    """Split into `user:password` and the rest.

    An `@` or `/` in the password should be percent-encoded. It is accepted if the URL has only one reading.
    """
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        userinfo, _, host = authority.rpartition("@")
        return userinfo, host + rest[len(authority) :]
    raw = re.match(r"([^:/?#@\[]*:(?!\d*[/?])[^@]*)@", rest)
    return (raw[1], rest[raw.end() :]) if raw else ("", rest)


def _query_options(query: str) -> dict[str, str]:
    """The options by name. Repeated hosts are joined; of another repeated option the last counts."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not re.fullmatch(r"\w+", name):
            raise ConfigurationError("The database URL has an option without a plain name.", hint=ENCODE)
        options[name] = f"{options[name]},{value}" if name == "host" and "host" in options else value
    if any("=" not in part for part in query.split("&") if part):
        raise ConfigurationError(
            "The database URL has an option without a value.", hint=f"Write name=value. {ENCODE}"
        )
    return options


def _hosts(netloc: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    """Hosts with their ports; a directory is that of a Unix socket. Empty: the driver's default."""
    parts = [part for part in netloc.split(",") if part]
    default_ports = [port for port in ports.split(",") if port]
    if not parts:
        return (("localhost", _port(default_ports[0])),) if default_ports else ()
    hosts = []
    for index, part in enumerate(parts):
        matched = re.fullmatch(r"\[(?P<six>[^\]]+)\](?::(?P<p6>.*))?|(?P<name>[^:\[\]]*)(?::(?P<p4>.*))?", part)
        if matched is None:
            raise ConfigurationError(
                "The host of the database URL cannot be parsed.",
                hint=f"Write an IPv6 address in brackets. {ENCODE}",
            )
        host = unquote(matched["six"] or matched["name"] or "localhost")
        port = matched["p6"] or matched["p4"]
        if not port and default_ports:
            port = default_ports[min(index, len(default_ports) - 1)]
        hosts.append((host, _port(port) if port else None))
    return tuple(hosts)


def _in_brackets(hosts: str) -> str:
    """Hosts with brackets around the IPv6 addresses, which need none outside of the authority of a URL."""
    return ",".join(f"[{part}]" if _is_ipv6(part) else part for part in hosts.split(","))


def _hosts_of_environment(environ: Mapping[str, str]) -> tuple[tuple[str, int | None], ...]:
    """The hosts of PGHOST if one is an IPv6 address, which the driver takes for a name and a port; else empty."""
    hosts = environ.get("PGHOST", "")
    return _plain_hosts(hosts, environ.get("PGPORT", "")) if any(map(_is_ipv6, hosts.split(","))) else ()


def _is_ipv6(host: str) -> bool:
    return host.count(":") > 1 and not host.startswith(("[", "/"))


def _plain_hosts(hosts: str, ports: str) -> tuple[tuple[str, int | None], ...]:
    """Hosts outside of URLs: nothing is encoded, and ports stand apart, one for each host or one for all."""
    given, numbers = hosts.split(","), ports.split(",")
    if not hosts and not ports:
        return ()
    if len(numbers) not in (1, len(given)):
        raise ConfigurationError("There are more ports than hosts.", hint="Give one port, or one for each host.")
    each = numbers * len(given) if len(numbers) == 1 else numbers
    return tuple(
        (host.strip() or "localhost", _port(port.strip()) if port.strip() else None)
        for host, port in zip(given, each, strict=True)
    )


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ConfigurationError(
            "The port of the database URL is not a number from 1 to 65535.",
            hint=f"{ENCODE} Write an IPv6 address in brackets.",
        )
    return int(text)


def _display(user: str, secret: str | None, hosts: tuple[tuple[str, int | None], ...], name: str | None) -> str:
    shown_hosts = []
    for host, port in hosts:
        shown = f"[{host}]" if ":" in host else host
        shown_hosts.append(f"{shown}:{port}" if port else shown)
    login = f"{user}{':***' if secret else ''}@" if user or secret else ""
    return f"postgresql://{login}{','.join(shown_hosts)}/{name or ''}"


def _ignored(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """Options of other drivers. An unknown one about TLS is refused: a slip must not turn TLS off."""
    unknown = [name for name in parameters if name not in KNOWN and name not in _OUR_OWN]
    for name in unknown:
        nearest = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.75)
        if name.startswith("ssl") or nearest:
            meant = nearest[0] if nearest else "sslmode"
            kind = "security option" if name.startswith("ssl") or meant == "sslmode" else "option"
            raise ConfigurationError(
                f"The database URL has an unknown {kind} '{name}'.", hint=f"Did you mean '{meant}'?"
            )
    return (*unknown, *(name for name in parameters if name in WITHOUT_EFFECT))
