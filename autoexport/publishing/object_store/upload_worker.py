"""The program of the uploading process: reads one request, uploads its files one after the other, and answers.

The request is a line of JSON on standard input: the URL, and for each file its path, key, size in bytes, CRC-32
and media type. Each answer is a line of JSON: `sent` with a number of bytes, `done` with a key, or `error` with a
message and a hint, which is the last one. It is a process of its own because the parts in transfer take memory
that an exporter must not need, and because it can be ended at any moment.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import obstore
from obstore.exceptions import BaseError

from autoexport.config.object_url import ObjectURL
from autoexport.errors import AutoexportError
from autoexport.publishing.object_store.access import opened
from autoexport.publishing.object_store.errors import explain

PART_BYTES = 8 << 20
MOST_PARTS = 9_000
"""S3 takes at most 10,000 parts, so a large file has larger ones."""

AT_ONCE = 2
"""The number of parts that are sent at once. Each is in memory: measured, two of them take 26 MB."""

_READ_BYTES = 1 << 20


class FileChangedError(Exception):
    """A file is not the one that the manifest describes."""


def main() -> None:
    """Carry out one request."""
    request = json.loads(sys.stdin.buffer.readline())
    url = ObjectURL(**request["url"])
    try:
        store = opened(url, request["limit_s"])
        for file in request["files"]:
            try:
                _upload(store, file)
            except (BaseError, ValueError) as error:
                raise explain(error, url, "uploading") from None
            _answer(done=file["key"])
    except AutoexportError as error:
        _answer(error=str(error), hint=error.hint)
    except FileChangedError as error:
        _answer(
            error=str(error), hint="Another program writes to the working directory. The exporter tries again."
        )
    except OSError as error:
        if isinstance(error, FileNotFoundError) and error.filename is None:  # obstore: the bucket is missing
            explained = explain(error, url, "uploading")
            _answer(error=str(explained), hint=explained.hint)
        else:
            _answer(error=f"{error.filename}: {error.strerror}.", hint="The exporter tries again.")


def _upload(store: Any, file: dict[str, Any]) -> None:
    size = file["bytes"]
    attributes: Any = {
        "Content-Type": file["media_type"], "Cache-Control": "private, max-age=31536000, immutable",
    }  # fmt: skip
    checked = _Checked(file)
    if size <= PART_BYTES:
        obstore.put(store, file["key"], b"".join(checked.pieces()), attributes=attributes, use_multipart=False)
        return
    part_bytes = max(PART_BYTES, -(-size // MOST_PARTS))
    try:
        obstore.put(
            store, file["key"], checked.pieces(), attributes=attributes, use_multipart=True, chunk_size=part_bytes,
            max_concurrency=AT_ONCE,
        )  # fmt: skip
    except Exception:
        if checked.fault is not None:
            raise checked.fault from None
        raise


class _Checked:
    """Reads a file once, and refuses its end if it was not the file that the manifest describes."""

    def __init__(self, file: dict[str, Any]) -> None:
        self._file = file
        self.fault: FileChangedError | None = None

    def pieces(self) -> Iterator[bytes]:
        """Its bytes. Raises `FileChangedError` before the last piece, so that no whole object comes of it."""
        name = os.path.basename(self._file["path"])
        crc, left = 0, self._file["bytes"]
        descriptor = os.open(self._file["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while True:
                piece = os.read(descriptor, _READ_BYTES)
                crc, left = zlib.crc32(piece, crc), left - len(piece)
                if left < 0 or (not piece and left) or (left == 0 and crc != self._file["crc"]):
                    self.fault = FileChangedError(f"{name} changed while it was being uploaded.")
                    raise self.fault
                if not piece:
                    return
                yield piece
                _answer(sent=len(piece))
        finally:
            os.close(descriptor)


def _answer(**record: object) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
