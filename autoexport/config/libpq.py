"""Reads the options of a PostgreSQL URL, which have libpq's names.

The source of all facts is the PostgreSQL manual, sections 34.1.2 (parameters) and 34.19 (TLS). Every function
raises `ConfigurationError` for an invalid value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from autoexport.errors import ConfigurationError

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_ENDPOINT = re.compile(r"(?:endpoint|project)=[\w.-]+")
_SERVER_SETTING = re.compile(r"\s*(?:-c\s*|--)(?P<name>[\w.-]+)=(?P<value>(?:\\.|[^\s\\])*)\s*", re.DOTALL)


def connect_timeout_s(options: Mapping[str, str]) -> float:
    """libpq's `connect_timeout` in seconds; 0 stands for the default of the driver."""
    text = options.get("connect_timeout", "0") or "0"
    if not re.fullmatch(r"-?\d{1,9}", text):
        raise ConfigurationError(
            "connect_timeout in the database URL is not a number of seconds.",
            hint="Write connect_timeout=10.",
        )
    return float(max(0, int(text)))


def ssl_mode(options: Mapping[str, str]) -> str | None:
    """libpq's `sslmode`, or its equivalent of the option `ssl` of other drivers; None if neither is set."""
    mode = options.get("sslmode") or {"true": "require", "false": "disable"}.get(
        options.get("ssl", "").lower(), options.get("ssl")
    )
    if mode and mode not in _SSL_MODES:
        raise ConfigurationError(
            "sslmode in the database URL has an unknown value.", hint=f"Allowed are {', '.join(_SSL_MODES)}."
        )
    return mode or None


def server_settings(options: Mapping[str, str]) -> dict[str, str]:
    """The run-time parameters: `application_name`, and those in libpq's `options` (`-c name=value`)."""
    name = options.get("application_name") or options.get("fallback_application_name") or "autoexport"
    found = {"application_name": name}
    text = options.get("options", "")
    if _ENDPOINT.fullmatch(text.strip()):
        # Neon and its like route by it: the server takes it as it is.
        return {**found, "options": text.strip()}
    position = 0
    while position < len(text):
        matched = _SERVER_SETTING.match(text, position)
        if matched is None:
            raise ConfigurationError(
                "'options' in the database URL cannot be parsed.",
                hint="Write options=-csearch_path%3Dmine, with %20 between several parameters.",
            )
        found[matched["name"].replace("-", "_")] = re.sub(r"\\(.)", r"\1", matched["value"])
        position = matched.end()
    return found


def tcp_options(parameters: Mapping[str, str], usual: Mapping[str, int]) -> dict[str, int]:
    """The options of a TCP socket, by their names in `socket`; empty where `keepalives=0` turns probing off.

    `usual` are the seconds `idle` and `interval` and the `count` that hold where a parameter is missing or 0.
    """
    if parameters.get("keepalives") == "0":
        return {}
    names = {"idle": "TCP_KEEPIDLE", "interval": "TCP_KEEPINTVL", "count": "TCP_KEEPCNT"}
    found = {names[name]: _whole(parameters, f"keepalives_{name}") or value for name, value in usual.items()}
    if milliseconds := _whole(parameters, "tcp_user_timeout"):
        found["TCP_USER_TIMEOUT"] = milliseconds
    return found


def _whole(parameters: Mapping[str, str], name: str) -> int:
    text = parameters.get(name) or "0"
    if not re.fullmatch(r"\d{1,9}", text):
        raise ConfigurationError(f"{name} of the database is not a whole number.", hint=f"Write {name}=60.")
    return int(text)
