"""Writes structured logs without passwords, to standard error or to the host program's logging."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from autoexport.runtime.journal import stderr_is_journal, with_priority
from autoexport.runtime.redaction import redact

_SECRET_NAMES = frozenset({"password", "passwd", "secret", "token"})


def configure(renderer: Processor, level: str, *, database: str | None = None) -> None:
    """Send all logs to standard error, those of other libraries from `warning` on. For the command line only.

    `level` is one of `debug`, `info`, `warning`, `error`, `critical`. `renderer` makes the text of an event; an
    empty one is not written. `database` is added to every event, unless it is None. Exceptions are rendered
    without the values of local variables, which may hold rows and passwords.
    """
    constants: list[Processor] = [] if database is None else [_Constant("database", database)]
    shared: list[Processor] = [
        *constants,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_passwords,
    ]
    last = _WithPriority(renderer) if stderr_is_journal() else renderer
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_StandardError,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )
    for old in [item for item in logging.root.handlers if isinstance(item, _ForeignRecords)]:
        logging.root.removeHandler(old)
    foreign = _ForeignRecords(max(threshold, logging.WARNING))
    foreign.setFormatter(formatter)
    logging.root.addHandler(foreign)


def json_lines() -> Processor:
    """A renderer that makes an event one JSON object on one line."""
    return structlog.processors.JSONRenderer(ensure_ascii=False, default=str)


def get_logger() -> FilteringBoundLogger:
    """The logger of the program.

    It decides at each call where to write: to structlog if the host program or the command line has configured it
    (or a test captures it), else to the `logging` logger named `autoexport`.
    """
    return cast(FilteringBoundLogger, _Chosen())


def redact_passwords(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A processor that replaces passwords in all values, nested ones included."""
    for name, value in event.items():
        event[name] = _redacted(name, value)
    return event


def _redacted(name: object, value: object) -> Any:
    if isinstance(name, str) and name.lower() in _SECRET_NAMES and value is not None:
        return "***"
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: _redacted(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(None, item) for item in value]
    if value is None or isinstance(value, int | float):
        return value
    return redact(str(value))


class _WithPriority:
    def __init__(self, renderer: Processor) -> None:
        self._renderer = renderer

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        level = str(event.get("level", "info"))
        text = str(self._renderer(logger, name, event))
        return with_priority(text, level) if text else ""


class _Constant:
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault(self._name, self._value)
        return event


# --- standard error ------------------------------------------------------------------------------


class _StandardError:
    """Writes to the present `sys.stderr`: a progress bar replaces it, to put log lines above itself."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, message: str) -> None:
        # A log line that cannot be written, on a full disk for instance, must not end the work that it reports.
        if not message:
            return
        with suppress(OSError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = msg


class _ForeignRecords(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _StandardError().msg(self.format(record))


# --- inside a host program -----------------------------------------------------------------------


def _for_logging(_: WrappedLogger, __: str, event: EventDict) -> tuple[tuple[str, str], dict[str, Any]]:
    """`event key=value …` as the message; the values themselves as the record's attribute `autoexport`.

    A traceback becomes part of the message: the host would render an `exc_info` with its passwords.
    """
    traceback = event.pop("exception", None)
    values = {name: value for name, value in event.items() if name != "event"}
    parts = [str(event.get("event", "")), *(f"{name}={value!r}" for name, value in values.items())]
    text = " ".join(parts) + (f"\n{traceback}" if traceback else "")
    return ("%s", text), {"extra": {"autoexport": values}}


def _configuration() -> tuple[object, ...]:
    current = structlog.get_config()
    return (*current["processors"], current["wrapper_class"], current["logger_factory"])


# structlog's default writes to standard output, which belongs to the host program. `is_configured` does not show
# whether the host configured it: it stays true after a test has captured logs and restored everything.
_UNTOUCHED = None if structlog.is_configured() else _configuration()
_FOR_LOGGING: FilteringBoundLogger = structlog.wrap_logger(
    logging.getLogger("autoexport"),
    processors=[
        structlog.stdlib.filter_by_level,
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        redact_passwords,
        _for_logging,
    ],
    wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
)


class _Chosen:
    def __getattr__(self, name: str) -> object:
        ours = _configuration() == _UNTOUCHED
        return getattr(_FOR_LOGGING if ours else structlog.get_logger("autoexport"), name)
