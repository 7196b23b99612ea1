"""Does what a request asks: brings the tables of a lake up to date, compares them, or tries to write there."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltalake.exceptions import DeltaError

from autoexport.errors import PublishError
from autoexport.formats.contract import Readable
from autoexport.formats.parquet_columns import ANNOTATION_SCHEMA, IMAGE_SCHEMA
from autoexport.publishing.lake.data_files import DataFile, PublishedFile
from autoexport.publishing.lake.requests import Answer, Facts, Lake, Request, Source, TableReport
from autoexport.publishing.lake.table import LakeConflict, LakeTable
from autoexport.publishing.lake.tasks import ACTIONS, Tasks
from autoexport.runtime.files import explain_os_error
from autoexport.runtime.redaction import redact

_SCHEMAS = {"images": IMAGE_SCHEMA, "annotations": ANNOTATION_SCHEMA}
TABLES = tuple(_SCHEMAS)
"""The names of the tables."""

Report = Callable[[Answer], None]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NUMBER = re.compile(r" \(os error \d+\)")
_ANSWER = re.compile(r"<Code>([^<]*)</Code>.*?<Message>([^<]*)</Message>", re.DOTALL)
"""The parts of an answer of S3 that people read."""

_SHOWN = 200
"""The number of characters of a library's message that are shown."""


def work(request: Request, report: Report) -> Answer:
    """Do what the request asks; the last answer. Raises `AutoexportError`.

    `report` gets the answers before it, which tell how many rows more are written.
    """
    with errors_explained(request.lake):
        if request.action == "probe":
            return _probe(request)
        with _opened(request.sources) as published:
            if request.action in ACTIONS:
                return Tasks(request, _SCHEMAS).answer(request, published)
            tables = [_LakeSide(request, source.name, published[source.name]) for source in request.sources]
            if request.action == "compare":
                lines = [line for side in tables for line in side.differences(report)]
                return Answer(done=True, differences=lines)
            # All data files of both tables first: so the two commits are close to each other.
            for side in tables:
                side.write(report)
            return Answer(done=True, reports=[side.commit() for side in tables])


def _probe(request: Request) -> Answer:
    for source in request.sources:
        table = LakeTable(request.lake, source.name, _SCHEMAS[source.name])
        table.open(request.facts.database)
        folder = Path(request.lake.table(source.name))
        if request.lake.is_local and not folder.is_dir():
            _require_writable(folder)  # making the folder would leave it behind
            continue
        name = f"_probe-{secrets.token_hex(8)}"
        table.write(name, [b"autoexport check\n"])
        table.remove(name)
    return Answer(done=True)


def _require_writable(path: Path) -> None:
    """Raise `OSError` if this user cannot make this folder."""
    existing = next(parent for parent in path.parents if parent.exists())
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "", str(existing))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "", str(existing))


class _LakeSide:
    """One table, and the published file with its rows."""

    def __init__(self, request: Request, name: str, published: Readable) -> None:
        schema = _SCHEMAS[name]
        self._facts: Facts = request.facts
        self._clean = request.clean
        self._published = PublishedFile(published, list(schema))
        self._wanted = self._published.data_files(request.lake.file_rows)
        self._table = LakeTable(request.lake, name, schema)
        self._table.open(request.facts.database)
        self._added: list[tuple[str, int, str]] = []
        self._removed: list[str] = []

    def write(self, report: Report) -> None:
        """Write the data files that the table lacks."""
        lacking, self._removed = self._table.missing(self._wanted)
        for data_file in lacking:
            name = f"part-{data_file.digest}-{secrets.token_hex(8)}.parquet"
            size = self._table.write(name, self._content(data_file, report))
            self._added.append((name, size, data_file.statistics()))

    def _content(self, data_file: DataFile, report: Report) -> Iterator[bytes]:
        done = told = 0
        for piece in self._published.content(data_file):
            yield piece
            done += len(piece)
            rows = min(done * data_file.rows // max(data_file.length, 1), data_file.rows)
            report(Answer(rows=rows - told))
            told = rows

    def commit(self) -> TableReport:
        """Commit them, unless the table is at this generation already, and remove what is old."""
        table = self._table
        due = bool(self._added or self._removed) or not table.is_at(self._facts)
        if due:
            table.commit(self._added, self._removed, self._facts)
        version, swept = table.version, table.clean() if self._clean else 0
        return TableReport(
            table.name, version, len(table.files), sum(it.rows for it in self._wanted), len(self._added),
            len(self._removed), sum(size for _, size, _ in self._added), due, swept,
        )  # fmt: skip

    def differences(self, report: Report) -> Iterator[str]:
        """The differences between the table and the published file, one line each."""
        name = f"lake, table {self._table.name}"
        if not self._table.exists:
            yield f"{name}: it is missing"
            return
        if not self._table.is_at(self._facts):
            yield f"{name}: its last commit is not that of generation {self._facts.generation}"
        lacking, others = self._table.missing(self._wanted)
        if lacking or others:
            rows = sum(it.rows for it in lacking)
            yield f"{name}: {len(lacking)} data files with {rows:,} rows are missing, {len(others)} are too many"
        for data_file in self._wanted:
            stored = self._table.name_of(data_file)
            if stored is not None and not self._same(stored, data_file, report):
                yield f"{name}: {stored} does not have the bytes of its rows"

    def _same(self, stored: str, data_file: DataFile, report: Report) -> bool:
        offset = 0
        try:
            file = self._table.read(stored)
            for piece in self._content(data_file, report):
                if file.read(offset, len(piece)) != piece:
                    return False
                offset += len(piece)
        except (EOFError, FileNotFoundError):
            return False
        return offset == file.length


# --- files and errors --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _LocalFile:
    """A published file, open for reading."""

    descriptor: int

    @property
    def length(self) -> int:
        return os.fstat(self.descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self.descriptor, length, offset)
        if len(data) < length:
            raise EOFError
        return data

    def close(self) -> None:
        os.close(self.descriptor)


@contextmanager
def _opened(sources: Sequence[Source]) -> Iterator[dict[str, Readable]]:
    with ExitStack() as stack:
        files = {it.name: _LocalFile(os.open(it.path, os.O_RDONLY | os.O_CLOEXEC)) for it in sources}
        for file in files.values():
            stack.callback(file.close)
        yield dict(files)


@contextmanager
def errors_explained(lake: Lake) -> Iterator[None]:
    """Raise the errors of deltalake and of the operating system as `PublishError`."""
    try:
        yield
    except LakeConflict as error:
        raise PublishError(
            f"Another writer committed to the lake {lake.location} at the same time.",
            hint="Let one exporter alone write there. The exporter tries again.",
        ) from error
    except EOFError as error:
        raise PublishError(
            "The Parquet files were replaced while their rows were copied to the lake.",
            hint="Is another program writing there? The exporter tries again.",
        ) from error
    except OSError as error:
        if lake.is_local and error.errno:
            explained = explain_os_error(error, error.filename or lake.location)
            raise PublishError(str(explained), hint=explained.hint.replace("--export-dir", "--lake")) from error
        raise _unreachable(lake, error) from error
    except DeltaError as error:
        raise _unreachable(lake, error) from error


def _unreachable(lake: Lake, error: Exception) -> PublishError:
    reason = reason_in(str(error)) or type(error).__name__
    hint = "Check the place, the credentials and the network. The exporter tries again."
    if "scheme is not allowed" in reason:
        hint = "The endpoint has no TLS. If that is right, set AWS_ALLOW_HTTP=true."
    return PublishError(f"Cannot use the lake {lake.location}: {reason}.", hint=hint)


def reason_in(message: str) -> str:
    """The most specific part of a message of deltalake, in one line: it names the causes one after the other."""
    plain = _COLOUR.sub("", redact(message)).strip()
    if (answer := _ANSWER.search(plain)) is not None:
        return f"{answer[1]}: {answer[2]}"[:_SHOWN].rstrip(".")
    last = plain.split("↳")[-1].strip()
    return _NUMBER.sub("", last.splitlines()[0])[:_SHOWN].rstrip(" .") if last else ""
