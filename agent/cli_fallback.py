"""`affordagent eval fallback`: does a second opinion help more than it harms?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

DEVELOPMENT_ENDS = 1000  # seeds from here on are for reports


def add(group: Any) -> None:
    """Add the command to the `group` of evaluations."""
    command = group.add_parser(
        "fallback",
        help="does a second opinion on the mask help more than it harms?",
        description="Both grounding tools are asked everything in simulated scenes; policies then decide on the same "
        "answers. About 3 CPU-s a scene.",
        epilog="see docs/perception.md",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="answers, rows.jsonl, summary.json")
    command.add_argument("--first-seed", type=int, default=100, metavar="N", help="of the scenes (default 100)")
    command.add_argument("--seeds", type=int, default=60, metavar="N", help="how many; 7 scenes for 3 (default 60)")
    command.add_argument("--phrases", choices=("dev", "test"), default="dev", help="split (default dev)")
    command.add_argument("--fallback", default="tabletop", help="the second tool, as in the settings")
    command.add_argument("--faults", action="store_true", help="also put faults into right masks, and count the caught")
    command.add_argument("--fit", action="store_true", help="fit limits and confidences on these scenes, and keep them")
    command.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    command.set_defaults(handler=_fallback)


def _fallback(args: argparse.Namespace) -> int:
    from rich.console import Console

    from affordagent.agent.results import versions
    from affordagent.agent.settings import Settings
    from affordagent.core.errors import AffordAgentError
    from affordagent.core.run_store import write_json
    from affordagent.evaluations import fallback, fallback_fit, mask_faults
    from affordagent.evaluations.grounding_answers import collect
    from affordagent.tools.fallback import open_fallback
    from affordagent.tools.vlm import open_grounder

    seeds, settings = range(args.first_seed, args.first_seed + args.seeds), Settings()
    if args.fit and (seeds.stop > DEVELOPMENT_ENDS or args.phrases != "dev"):
        raise AffordAgentError(
            f"--fit is for seeds below {DEVELOPMENT_ENDS} and the phrases dev; the others are for reports"
        )
    scenes = fallback.scenes_from(seeds)
    tools = open_grounder(), open_fallback(args.fallback)
    say = Console(stderr=True).print
    seen = list(collect(args.out / "answers", scenes, *tools, args.phrases, say))
    if args.fit:
        made: dict[str, Any] = {"command": "affordagent eval fallback --fit"}
        made |= {"first_seed": seeds.start, "seeds": len(seeds), "scenes": len(seen), "versions": versions()}
        fallback_fit.write_fit(seen, made)
    rows = [fallback.row_of(both, settings) for both in fallback.opinions(seen)]
    fallback.write_rows(args.out / "rows.jsonl", rows)
    result = {"seeds": [seeds.start, seeds.stop - 1], "phrases": args.phrases, **fallback.summarise(rows)}
    if args.faults:
        faults = mask_faults.trials(seen, settings)
        fallback.write_rows(args.out / "faults.jsonl", faults)
        result["faults"] = mask_faults.caught(faults)
    write_json(args.out / "summary.json", result | {"versions": versions()})
    if args.json:
        print(json.dumps(result))
    else:
        _print(result)
    return 0


def _print(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=f"{result['cases']} questions; right at the end", title_justify="left")
    for name in ("", "policy", "right", "95 %", "helped", "harmed", "McNemar p"):
        table.add_column(name)
    for kind, policies in result["policies"].items():
        for policy, figures in policies.items():
            table.add_row(kind, policy, *_cells(figures))
    for reason, figures in result["by_reason"].items():
        table.add_row(f"asked: {reason.replace('_', ' ')}", "in doubt", *_cells(figures))
    console.print(table)
    table = Table(title="confidence and presence against the truth", title_justify="left")
    for name in ("", "Brier", "ECE"):
        table.add_column(name)
    for name, figures in result["calibration"].items():
        table.add_row(name.replace("_", " "), f"{figures['brier']:.3f}", f"{figures['ece']:.3f}")
    console.print(table)
    if "faults" in result:
        table = Table(title="faults put into right masks", title_justify="left")
        for name in ("", "doubted", "95 %", "by", "right", "refused", "wrong"):
            table.add_column(name)
        for name, figures in result["faults"].items():
            by = ", ".join(f"{check} {n}" for check, n in figures["by_check"].items())
            table.add_row(name, *_rate(figures["doubted"]), by, *(str(n) for n in figures["ends"].values()))
        console.print(table)


def _cells(figures: dict[str, Any]) -> list[str]:
    changed = [str(figures[name]["k"]) for name in ("helped", "harmed")]
    return [*_rate(figures["right"]), *changed, f"{figures['mcnemar_p']:.3f}"]


def _rate(figures: dict[str, Any]) -> list[str]:
    low, high = figures["wilson95"]
    return [f"{figures['k']}/{figures['n']}", f"{low:.2f} to {high:.2f}"]
