"""Measures JSON and CSV beside Parquet and a lake, by the number of annotations."""

from __future__ import annotations

from tests.bench.changing import change
from tests.bench.databases import ANNOTATIONS_PER_IMAGE
from tests.bench.results import Table, Value
from tests.bench.running import exporter, must, run_once, size_of
from tests.bench.scenario import Bench

_PARQUET = "export_json = false\nexport_csv = false\nexport_page = false\nexport_parquet = true\n"
KINDS = {"JSON, CSV, page": ("", False), "Parquet": (_PARQUET, False), "Parquet and lake": (_PARQUET, True)}
"""The configuration of each kind, and whether it keeps a lake."""


def by_size(bench: Bench) -> list[Table]:
    """Measure a full export and one changed row at all sizes, from SQLite without indexes, one run each."""
    table = Table("by-size", "JSON beside Parquet and a lake")
    for images in bench.sizes:
        for kind, (configuration, has_lake) in KINDS.items():
            with bench.databases.sqlite_copy(images) as path:
                exports, lake = bench.fresh("exports"), bench.fresh("lake")
                file = bench.fresh("configuration") / "autoexport.toml"
                file.write_text(configuration + (f'lake = "{lake}"\n' if has_lake else ""))
                chosen = ("--config", str(file))
                full = must(run_once([exporter(str(path), exports, "--full", *chosen)], bench.scratch))
                row: dict[str, Value] = {"output": kind, "annotations": round(images * ANNOTATIONS_PER_IMAGE)}
                row |= {"full_s": full.seconds, "cpu_s": full.cpu_s, "largest_mb": full.memory_mb}
                row["output_mb"] = (size_of(exports) + size_of(lake)) / 1e6
                for seed in range(2):  # The first one after a full export also gives the old files back.
                    change(path, 1, scattered=True, seed=seed)
                    one = must(run_once([exporter(str(path), exports, *chosen)], bench.scratch))
                row |= {"one row_s": one.seconds, "one row cpu_s": one.cpu_s, "one row_mb": one.memory_mb}
                table.rows.append(row)
        bench.fresh("exports")
        bench.fresh("lake")
    table.notes.append(
        "process start included; memory is that of the largest process; a lake has Parquet files too"
    )
    return [table]
