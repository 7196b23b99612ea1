"""Opens a store by the usual variables, with limits for the time of its requests. Loads obstore."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import from_url

from autoexport.config.object_url import ObjectURL
from autoexport.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Store

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_RETRIES = 3


def opened(url: ObjectURL, limit_s: float) -> Store:
    """The store of a URL, with so many seconds for each request. Raises `ConfigurationError`."""
    endpoint = _endpoint(os.environ) if url.scheme == "s3" else ""
    plain = urlsplit(endpoint).scheme == "http"
    if plain and not _may_be_plain(endpoint, os.environ):
        raise ConfigurationError(
            "The endpoint of the object store is http, and not on this machine.",
            hint="Use https, or set AWS_ALLOW_HTTP=true if that network is safe.",
        )
    client: dict[str, Any] = {
        "timeout": timedelta(seconds=limit_s),
        "connect_timeout": timedelta(seconds=min(5.0, limit_s)),
    }
    if plain:
        client["allow_http"] = True
    retry = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=limit_s)}
    options: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if endpoint:
        options["endpoint"] = endpoint
    try:
        store: Store = from_url(str(url), **options)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(
            f"{url} cannot be opened: {_first_words(error)}.",
            hint="Set the variables of the store, as autoexport/publishing/README.md says.",
        ) from error
    return store


def _endpoint(variables: Mapping[str, str]) -> str:
    return next((variables[name] for name in _ENDPOINTS if variables.get(name)), "")


def _may_be_plain(endpoint: str, variables: Mapping[str, str]) -> bool:
    allowed = variables.get("AWS_ALLOW_HTTP", "").strip().lower() in ("1", "true", "yes", "on")
    return allowed or urlsplit(endpoint).hostname in _LOOPBACK


def _first_words(error: Exception) -> str:
    text = str(error).partition("Debug source")[0].strip().rstrip(".")
    return text.rpartition(": ")[2].lower()[:80]
