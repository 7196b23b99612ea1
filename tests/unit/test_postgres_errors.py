"""Errors of the driver and the server become a line and a hint, without a password."""

from __future__ import annotations
