"""Publishes into an object store: uploads the files of the working directory, then replaces one manifest."""

from __future__ import annotations

from importlib.util import find_spec

from autoexport.errors import ConfigurationError


def require() -> None:
    """Raise `ConfigurationError` if obstore is not installed."""
    if find_spec("obstore") is None:
        raise ConfigurationError(
            "Object stores need a package that is not installed: obstore.",
            hint="Install it: python -m pip install 'autoexport[object-store]'",
        )
