"""`affordagent data annotate`: masks for rows, by the best tool whose answer passes its checks."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affordagent.agent.annotating import Counts


def add(verbs: Any) -> None:
    """Add the verb to those of `affordagent data`."""
    verb = verbs.add_parser(
        "annotate",
        help="make the masks of rows: the source's own, SAM 2 from boxes or words, parts, else a person",
        description="The same command goes on where an earlier one was cut off; every row is answered once.",
        epilog="see docs/annotation.md",
    )
    verb.add_argument("rows", type=Path, help="a Parquet file of `affordagent data import`, or a CSV")
    verb.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="rows.parquet, rejected.jsonl, summary.json"
    )
    add_weights(verb)
    verb.add_argument("--workers", type=int, default=1, help="processes, or actors with --ray (default 1)")
    verb.add_argument("--ray", metavar="ADDRESS", help='a Ray cluster; "local" for one of its own on this machine')
    verb.add_argument("--shard-rows", type=int, default=200, help="rows of a shard, about (default 200)")
    verb.add_argument("--json", action="store_true", help="print the summary as JSON")
    verb.set_defaults(handler=_annotate)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Where the weights of the tools are; the evaluation of the tools has the same options."""
    parser.add_argument("--sam2", help="weights of SAM 2 (default: GrabCut stands in)")
    parser.add_argument("--florence", help="weights of Florence-2 (default: the shipped proposals stand in)")
    parser.add_argument("--dino", help="weights of GroundingDINO (default: the shipped mini model stands in)")


def _annotate(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from affordagent.agent.annotating import annotate_file
    from affordagent.core.errors import AffordAgentError
    from affordagent.tools.annotation.chain import Weights

    for name in ("workers", "shard_rows"):
        if getattr(args, name) < 1:
            raise AffordAgentError(f"--{name.replace('_', '-')} {getattr(args, name)} must be at least 1")
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=args.json) as progress:
        task = progress.add_task("rows", total=None)
        counts = annotate_file(
            args.rows,
            args.out,
            Weights(args.sam2, args.florence, args.dino),
            workers=args.workers,
            ray=args.ray,
            shard_rows=args.shard_rows,
            on_shard=lambda done, of: progress.update(task, completed=done, total=of),
        )
    if args.json:
        print(json.dumps(asdict(counts)))
    else:
        _print(counts, args.out, time.monotonic() - started)
    return 0


def _print(counts: Counts, out: Path, took_s: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("rows in", "labelled", "to a person", "rejected", "CPU-s a row", "wall-s")
    per_row = f"{counts.cpu_s / max(counts.rows, 1):.3f}"
    table.add_row(
        *map(str, (counts.rows, counts.labelled, counts.to_a_person, counts.rejected)), per_row, f"{took_s:.0f}"
    )
    tools = Table("tool", "rows")
    for tool, rows in counts.by_tool.items():
        tools.add_row(tool, str(rows))
    console = Console()
    console.print(table, tools)
    console.print(f"{out / 'rows.parquet'}", highlight=False)
