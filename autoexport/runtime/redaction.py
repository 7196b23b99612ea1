"""Removes passwords from texts before the program shows them."""

from __future__ import annotations

import re

# A password with an unencoded @, / or blank is hidden too: everything up to the last @ that may belong to it.
# Hiding too much of a line is the lesser harm.
_DATABASE_URL = re.compile(r"(?i)\b((?:postgres(?:ql)?|sqlite)(?:\+\w+)?://[^\s:/@]*):((?:(?!://)[^\n])*)@")
_OTHER_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s:/@]*):(\S*)@")
_NAMED = re.compile(r"(?i)((?:password|passwd|pgpassword)['\"]?\s*[=:]\s*['\"]?)([^\s'\"&,;)}]+)")


def redact(text: str) -> str:
    """The text with `***` in place of every password: in URLs, and in `password=…` of any notation."""
    if ":" not in text and "=" not in text:
        return text
    if "@" in text:
        text = _OTHER_URL.sub(r"\1:***@", _DATABASE_URL.sub(r"\1:***@", text))
    return _NAMED.sub(r"\1***", text)
