"""The limits in seconds of the requests to a store."""

from __future__ import annotations

QUICK_S = 5.0
"""Of a look at the version of the manifest."""

SMALL_S = 20.0
"""Of a small request."""

LARGE_S = 120.0
"""Of a request that carries a part of a file."""
