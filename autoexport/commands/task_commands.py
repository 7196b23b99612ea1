"""Declares the commands that export one snapshot from many machines: export-plan, export-range, export-commit."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from autoexport.commands.options import Invocation, common_options, database_argument, duration

Run = Callable[[Coroutine[Any, Any, int]], int]


def add_task_commands(group: click.Group, run: Run) -> None:
    """Add the commands to a group; `run` runs the coroutine of one and returns its exit code."""
    snapshot_option = click.option(
        "--snapshot", required=True, metavar="ID", help="The one that export-plan printed."
    )
    out_option = click.option("--out", metavar="DIR|URL", help="The lake of the plan, as --lake.")

    @group.command("export-plan")
    @click.option("--of", type=click.IntRange(1, 100_000), default=4, metavar="N", help="Ranges; default 4.")
    @click.option(
        "--time-limit", callback=duration, default="1h", metavar="TIME", help="Longest wait; default 1h."
    )
    @database_argument
    @common_options
    @click.pass_obj
    def export_plan(invocation: Invocation, /, of: int, time_limit: float, **flags: Any) -> int:
        """Hold one snapshot of PostgreSQL, for ranges on many machines.

        Prints the plan as JSON and stays until export-commit has published the
        ranges to the lake. Exits with 1 at the time limit, or if the snapshot is
        lost: it cannot be committed then.
        """
        invocation.take(flags)
        settings = invocation.settings()
        from autoexport.commands.tasks import plan

        return run(plan(settings, of=of, limit_s=time_limit))

    @group.command("export-range")
    @snapshot_option
    @out_option
    @click.option("--task", type=click.IntRange(min=0), required=True, metavar="K", help="Which range, from 0.")
    @click.option("--of", type=click.IntRange(min=1), required=True, metavar="N", help="How many ranges.")
    @database_argument
    @common_options
    @click.pass_obj
    def export_range(
        invocation: Invocation, /, snapshot: str, out: str | None, task: int, of: int, **flags: Any
    ) -> int:
        """Export one range of a planned snapshot to the lake.

        No reader sees it before export-commit. It may be repeated.
        """
        if task >= of:
            raise click.UsageError(f"--task {task} is not below --of {of}: the first task is 0.")
        invocation.take(_into(out, flags))
        settings = invocation.settings()
        from autoexport.commands.tasks import one_range

        return run(one_range(settings, snapshot=snapshot, task=task, of=of, progress=invocation.progress))

    @group.command("export-commit")
    @snapshot_option
    @out_option
    @database_argument
    @common_options
    @click.pass_obj
    def export_commit(invocation: Invocation, /, snapshot: str, out: str | None, **flags: Any) -> int:
        """Publish all ranges of a planned snapshot at once.

        Exits with 1, and publishes nothing, if a range is missing or export-plan
        has ended.
        """
        invocation.take(_into(out, flags))
        settings = invocation.settings()
        from autoexport.commands.tasks import publish

        return run(publish(settings, snapshot=snapshot))


def _into(lake: str | None, flags: dict[str, Any]) -> dict[str, Any]:
    return flags if lake is None else {**flags, "lake": lake}
