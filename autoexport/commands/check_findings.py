"""Holds the findings of `check` and prints them: the verdict first, the mapping last."""

from __future__ import annotations

from dataclasses import dataclass, field

from autoexport.commands.terminal import print_table, say, say_command, say_wrapped
from autoexport.errors import AnnotationsLeftOut
from autoexport.mapping.description import describe
from autoexport.model.mapping import Mapping
from autoexport.model.tree import Totals
from autoexport.runtime.wording import counted, counted_name


@dataclass(slots=True)
class CheckFindings:
    """The results of `check`. Warnings name problems that the operator may want to solve, notes state facts.

    `orphans` counts, by logical table, the rows of which a parent does not exist or is soft-deleted. `left_out` is
    the error of an export that would lose annotations. `blocked`: an export would fail for another reason, which
    is among the warnings.
    """

    database: str
    mapping: Mapping
    totals: Totals
    orphans: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: AnnotationsLeftOut | None = None
    blocked: bool = False


def print_findings(display: str, directory: str, findings: CheckFindings, more: str | None) -> None:
    """Print the verdict and the problems first. `more` is the command that shows the mapping; None: print it."""
    mapping = findings.mapping
    say_wrapped(_verdict(directory, findings))
    for warning in findings.warnings:
        say_wrapped(f"warning: {warning}")
    for note in findings.notes:
        say_wrapped(f"note: {note}")
    if mapping.application:
        say(f"note: This is a database of {mapping.application}.")
    if mapping.preset:
        say_wrapped(
            f"note: The preset {mapping.preset} maps it. [tables] overrules it, and preset = false in "
            "autoexport.toml leaves it."
        )
    say()
    print_table(f"Rows of {display}", ("table", "rows", "soft-deleted", "orphans"), _rows(findings), (1, 2, 3))
    if mapping.not_found:
        say_wrapped(f"Not found, so null or derived: {', '.join(mapping.not_found)}")
    say()
    if more is None:
        print_table("Mapping", ("table", "field", "column"), describe(mapping))
    else:
        say_command(more, "Mapping of tables and columns:")


def _verdict(directory: str, findings: CheckFindings) -> str:
    count = len(findings.warnings)
    warnings = f", {counted(count, 'warning')}" if count else ""
    if findings.left_out is not None or findings.blocked:
        return f"Blocked{warnings}: an export to {directory} would fail."
    live = findings.totals.live
    rows = " and ".join(counted_name(live[name], name) for name in ("images", "annotations") if name in live)
    return f"Ready{warnings}: an export to {directory} would read {rows}."


def _rows(findings: CheckFindings) -> list[list[str]]:
    return [
        [
            logical,
            f"{findings.totals.live.get(logical, 0):,}",
            f"{findings.totals.soft_deleted.get(logical, 0):,}",
            f"{findings.orphans[logical]:,}" if logical in findings.orphans else "",
        ]
        for logical in findings.mapping.tables()
    ]
