"""Reads the files of libpq: the connection service file and the password file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from autoexport.errors import ConfigurationError

# --- the connection service file (PostgreSQL manual, section 34.17) ------------------------------


def service_options(service: str, named_file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a service, from the user's file, then from that of the system.

    `named_file` is the parameter `servicefile`. Raises `ConfigurationError` if no file defines the service.
    """
    searched = []
    for path in _service_files(named_file, environ):
        searched.append(str(path))
        options = _section(path, service)
        if options is not None:
            return options
    raise ConfigurationError(
        f"No connection service file defines the service '{service}'.",
        hint=f"Define [{service}] in {searched[0] if searched else 'a file that PGSERVICEFILE names'}.",
    )


def _service_files(named_file: str | None, environ: Mapping[str, str]) -> Iterator[Path]:
    named = named_file or environ.get("PGSERVICEFILE")
    home = home_directory(environ)
    if named:
        yield Path(named)
    elif home is not None:
        yield home / ".pg_service.conf"
    if system := environ.get("PGSYSCONFDIR"):
        yield Path(system) / "pg_service.conf"
    else:
        yield Path("/etc/postgresql-common/pg_service.conf")  # where Debian's libpq looks


def _section(path: Path, service: str) -> dict[str, str] | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The connection service file {path} cannot be read.",
            hint="Make it readable UTF-8 text for this user.",
        ) from error
    options: dict[str, str] | None = None
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if options is not None:
                return options
            options = {} if line == f"[{service}]" else None
        elif options is not None:
            name, equals, value = line.partition("=")
            if not equals or name.strip() in ("service", "servicefile"):
                raise ConfigurationError(
                    f"Line {number} of the connection service file {path} is not a parameter.",
                    hint="Write name=value lines below the [service]; a service cannot name another one.",
                )
            options.setdefault(name.strip(), value.strip())
    return options


# --- the password file (PostgreSQL manual, section 34.16) ----------------------------------------


def password_from_file(
    passfile: str | None,
    hosts: Sequence[tuple[str, str]],
    database: str,
    user: str,
    environ: Mapping[str, str],
) -> str | None:
    """The password of the first line that fits the first host, or else the next one; None if there is none.

    As libpq does, a file that others may read is not used.
    """
    home = home_directory(environ)
    path = passfile or environ.get("PGPASSFILE") or (home / ".pgpass" if home is not None else None)
    if path is None:
        return None
    entries = list(_entries(Path(path)))
    for host, port in hosts:
        wanted = ("localhost" if host.startswith("/") else host, port, database, user)
        for *fields, password in entries:
            if all(field in ("*", value) for field, value in zip(fields, wanted, strict=True)):
                return password
    return None


def _entries(path: Path) -> Iterator[list[str]]:
    """The lines of five fields."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = _fields(line)
        if len(fields) == 5 and not line.startswith("#"):
            yield fields


def _fields(line: str) -> list[str]:
    """The fields of a line; a backslash takes the next character, `:` or `\\`, as it is."""
    fields, escaped = [""], False
    for character in line:
        if escaped or character not in "\\:":
            fields[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif len(fields) < 5:
            fields.append("")
        else:
            fields[-1] += character
    return fields


def home_directory(environ: Mapping[str, str]) -> Path | None:
    """The home directory, or None for a user id that has none (as container platforms give them)."""
    try:
        home = environ.get("HOME") or os.path.expanduser("~")
    except (KeyError, RuntimeError):
        return None
    return Path(home) if home and home != "~" else None
