"""`affordagent eval annotation`: what annotation by priority is worth where the truth is known."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from affordagent.agent.cli_data_annotate import add_weights


def add(group: Any) -> None:
    """Add the command to the `group` of evaluations."""
    command = group.add_parser(
        "annotation",
        help="are the masks right that the tools of annotation make and accept?",
        description="Every tool is asked about things of rendered pictures, the truth hidden from it. Render them with "
        "python -m affordagent.robot.sim.dataset --out DIR --split val --images 200 --seed 1",
        epilog="see docs/annotation.md",
    )
    command.add_argument("rendered", type=Path, metavar="DIR", help="folder of rendered pictures")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="rows.jsonl, summary.json")
    command.add_argument("--pictures", type=int, metavar="N", help="the first N of them (default all)")
    command.add_argument("--per-picture", type=int, default=100, metavar="N", help="at most N things of each")
    command.add_argument("--seed", type=int, default=0, help="of what is asked and what the source knows (default 0)")
    add_weights(command)
    command.add_argument(
        "--fit", action="store_true", help="fit the limits of the checks on these pictures, split val, and keep them"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    command.set_defaults(handler=_annotation)


def _annotation(args: argparse.Namespace) -> int:
    from rich.progress import track

    from affordagent.agent.results import versions
    from affordagent.core.errors import AffordAgentError
    from affordagent.core.run_store import write_json
    from affordagent.evaluations import annotating
    from affordagent.finetune.mini_data import list_rows
    from affordagent.tools.annotation.chain import Weights, chain_of

    pictures = list_rows(args.rendered)[: args.pictures]
    if not pictures:
        raise AffordAgentError(f"{args.rendered} holds no rendered pictures (shard_*.jsonl); see --help")
    splits = {row.record["split"] for row in pictures}
    if args.fit and splits != {"val"}:
        raise AffordAgentError(f"--fit is for pictures of the split val, these are of {', '.join(sorted(splits))}")
    weights = Weights(args.sam2, args.florence, args.dino)
    args.out.mkdir(parents=True, exist_ok=True)
    shown = track(pictures, "pictures", console=_stderr(), disable=args.json)
    rows = annotating.write_rows(
        args.out / "rows.jsonl",
        annotating.study(chain_of(weights), shown, args.seed, args.per_picture, every_tool=args.fit),
    )
    if args.fit:
        made = {"command": "affordagent eval annotation --fit", "seed": args.seed, "pictures": len(pictures)}
        annotating.write_fit(rows, made)
    result = {"seed": args.seed, "splits": sorted(splits), **annotating.summary(rows)}
    write_json(args.out / "summary.json", result | {"versions": versions()})
    if args.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    accepted, good = result["accepted"], result["accepted_good"]
    console = Console()
    console.print(
        f"{accepted['k']} of {accepted['n']} accepted, {good['k']} of them with an IoU of .8 or more; "
        f"mean IoU {result['accepted_iou'][0] if result['accepted_iou'] else '-'}; the others go to a person"
    )
    table = Table("tool", "answers", "mean IoU", "precision", "recall", "IoU accepted", "taken")
    for tool, of in result["by_tool"].items():
        rates = [f"{of[name]['k']}/{of[name]['n']}" for name in ("precision", "recall")]
        taken = result["by_tool_taken"].get(tool, 0)
        table.add_row(tool, str(of["answers"]), str(of["iou"]), *rates, str(of["iou_accepted"]), str(taken))
    console.print(table)
