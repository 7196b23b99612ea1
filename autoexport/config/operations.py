"""Reads the settings of operators: an address to listen on, a command to run, a URL to call."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
"""The host if an address has only a port: nothing is open to the network unless the operator says so."""

ALLOWED = {
    "listen": "HOST:PORT or PORT such as 127.0.0.1:9464, [::1]:9464 or 9464, which is on this machine alone",
    "metrics_textfile": "the path of a file whose name ends with .prom",
    "on_publish": "a command and its arguments as text, or as a list of texts; no shell reads it",
    "on_publish_timeout": "a number of seconds from 0.1 to 3600",
    "heartbeat_url": "an http or https URL without user and password",
}
"""The allowed values of these settings, for error messages."""

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:/\[\]]*)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to listen on; port 0 stands for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """The address in `HOST:PORT` or `PORT`. Raises `ValueError`."""
    word = text.strip()
    found = _ADDRESS.fullmatch(word if ":" in word else f":{word}")
    if found is None or int(found["port"]) > 65_535:
        raise ValueError("no address")
    return Address(found["v6"] or found["host"] or LOOPBACK, int(found["port"]))


def checked_address(value: Any) -> Any:
    """The text of an address if it is one; empty text stands for none. Raises `ValueError`."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and text.strip():
        parse_address(text)
        return text.strip()
    return text


def checked_textfile(value: Any) -> Any:
    """The path of a textfile; the node exporter reads no other names. Raises `ValueError`."""
    if isinstance(value, str) and not value.strip().endswith(".prom"):
        raise ValueError("no textfile")
    return os.path.expanduser(value.strip()) if isinstance(value, str) else value


def split_command(value: Any) -> Any:
    """The words of a command: quotes and backslashes count, nothing else does. Raises `ValueError`."""
    words = shlex.split(value) if isinstance(value, str) else value
    if isinstance(words, list | tuple):
        if any(not isinstance(word, str) or "\0" in word for word in words) or (words and not words[0].strip()):
            raise ValueError("no command")
        return tuple(words)
    return words


def checked_url(value: Any) -> Any:
    """The text of an http URL if it is one; empty text stands for none. Raises `ValueError`."""
    if not isinstance(value, str) or not value.strip():
        return value
    url = value.strip()
    parts = urlsplit(url)
    printable = url.isascii() and all("!" <= sign <= "~" for sign in url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not printable or "@" in parts.netloc:
        raise ValueError("no URL")
    _ = parts.port  # raises if it is no number
    return url


def without_secrets(url: str) -> str:
    """The scheme, host and port of a URL: its path and its query may be a token."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
