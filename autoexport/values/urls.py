"""Cuts secrets out of cells that are URLs: login, query and fragment may carry a signed token."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from autoexport.model.catalog import Scalar

# A scheme of one letter is a drive of Windows. A file on a disk has no token, and may have ? and # in its name.
_URL = re.compile(r"(?P<head>\s*(?!file:)[a-z][a-z0-9+.-]+://)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_DATA = re.compile(r"\s*data:[\w.+/-]*(?:;[\w.+=/\"-]*)*,", re.IGNORECASE)
# What storage services and applications call a signature or a token in a URL: S3 (X-Amz-…, Signature,
# AWSAccessKeyId), Google (X-Goog-…, GoogleAccessId), Azure (sig), and the usual words of others.
_SECRET = re.compile(
    r"[?&;#](?:x-(?:amz|goog|oss|cos)-[\w-]+|sig|signature|security-token|awsaccesskeyid|googleaccessid|ossaccesskeyid"
    r"|(?:access|auth|api|id|refresh|session|upload|download)?[_-]?(?:token|key)|auth|authorization|password|passwd|pwd"
    r"|secret|client_secret|credential|jwt|policy|key-pair-id)=",
    re.IGNORECASE,
)
_TELLING = ("://", "data:", "DATA:", "Data:")
"""Before a secret is one of these, or a question mark."""


def cut_urls(column: Sequence[Scalar], keep: Collection[str] = ()) -> tuple[Sequence[Any], int]:
    """Cut the secrets out of a column of text; also returns the number of cells that changed.

    `keep` are the names of query parameters that stay, because they say which image is meant.
    """
    try:
        joined = "".join(filter(None, column))  # type: ignore[arg-type]
    except TypeError:
        joined = "".join(value for value in column if isinstance(value, str))
    # Most columns have neither sign. To look for one character takes much less time than for a word.
    if "?" not in joined and (":" not in joined or not any(word in joined for word in _TELLING)):
        return column, 0
    cells, changed = [], 0
    for value in column:
        cell = cut_url(value, keep) if isinstance(value, str) else value
        changed += cell is not value
        cells.append(cell)
    return (cells, changed) if changed else (column, 0)


def cut_url(text: str, keep: Collection[str] = ()) -> str | None:
    """A cell without the secrets of a URL; the same object if there are none, None for a `data:` URL.

    A whole URL of any scheme but `file` loses its login, its query and its fragment (RFC 3986, section 3). A path
    loses its query if a parameter of it is called as secrets are.

    >>> cut_url("https://user:pw@host/a.jpg?id=7&X-Amz-Signature=c0ffee#x", ["id"])
    'https://host/a.jpg?id=7'
    """
    if _DATA.match(text):
        return None
    url = _URL.fullmatch(text)
    if url is None:
        return _cut_query(text, keep) if "://" not in text and _SECRET.search(text) else text
    authority = re.split(r"[/?#\\]", url["rest"], maxsplit=1)[0]
    host = authority.rpartition("@")[2]
    rest = _cut_query(host + url["rest"][len(authority) :], keep)
    return text if rest == url["rest"] else url["head"] + rest


def _cut_query(text: str, keep: Collection[str]) -> str:
    path, mark, query = text.partition("#")[0].partition("?")
    kept = [item for item in re.split("[&;]", query) if item.partition("=")[0] in keep]
    return path + (mark + "&".join(kept) if kept else "")
