"""Reads the URL of an object store, such as s3://bucket/prefix, in place of an export directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import xxhash

from autoexport.errors import ConfigurationError

WORKING_DIRECTORY = Path("autoexport_working")
"""The directory in which each object store has a working directory, unless a setting names another."""

ALLOWED = {
    "export_directory": "the path of a directory, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
    "working_directory": "the path of a directory",
    "object_grace": "a number of seconds from 0 to 31536000",
}
"""The allowed values of these settings, for error messages."""

_LONGEST_NAME = 200

# `Path` makes one slash of two.
_URL = re.compile(r"(?P<scheme>s3|gs|az)://?(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_PREFIX = re.compile(r"[^\x00-\x1f\x7f?#\\]*")


@dataclass(frozen=True, slots=True)
class ObjectURL:
    """A prefix of a bucket: the place of an export. `prefix` has no slash at either end, and may be empty."""

    scheme: str
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return "/".join(filter(None, (f"{self.scheme}://{self.bucket}", self.prefix)))

    @property
    def working_directory(self) -> Path:
        """The usual directory for the local copies, one for each URL."""
        parts = [self.scheme, self.bucket, *filter(None, self.prefix.split("/"))]
        name = "+".join(quote(part, safe="") for part in parts)
        if len(name) > _LONGEST_NAME:  # file systems take no more than 255 bytes
            name = f"{name[: _LONGEST_NAME - 17]}+{xxhash.xxh3_64_hexdigest(name.encode())}"
        return WORKING_DIRECTORY / name


def is_object_url(value: object) -> bool:
    """Whether a value is meant as the URL of an object store."""
    return isinstance(value, str | Path) and _URL.fullmatch(str(value).strip()) is not None


def parse_object_url(text: str, place: str = "") -> ObjectURL:
    """The place that a URL names. Raises `ConfigurationError`, which names the `place` of the setting."""
    found = _URL.fullmatch(text.strip())
    bucket, _, prefix = found["rest"].partition("/") if found is not None else ("", "", "")
    prefix = prefix.strip("/")
    steps = prefix.split("/") if prefix else []
    usable = _BUCKET.fullmatch(bucket) and _PREFIX.fullmatch(prefix) and not {"", ".", ".."} & set(steps)
    if found is None or not usable:
        where = f" ({place})" if place else ""
        raise ConfigurationError(
            f"The setting export_directory{where} names no bucket.",
            hint=f"Allowed: {ALLOWED['export_directory']}. Credentials belong into the environment.",
        )
    return ObjectURL(found["scheme"].lower(), bucket, prefix)


def take_object_url(values: dict[str, Any], place: str) -> ObjectURL | None:
    """The object store that the values of the settings name as `export_directory`, if they do.

    Then the value becomes that of the working directory. Raises `ConfigurationError`.
    """
    if not is_object_url(values.get("export_directory")):
        return None
    url = parse_object_url(str(values["export_directory"]), place)
    values["export_directory"] = values.get("working_directory") or url.working_directory
    return url
