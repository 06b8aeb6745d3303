"""`affordagent data instructions`: question-answer pairs about what things are for."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.agent.instructions.attach import Asked
    from affordagent.agent.instructions.making import Kept
    from affordagent.agent.instructions.sources import Budget, Source

SHOWN = 20
STYLES = ("template", "easy", "hard")


def add(verbs: Any) -> None:
    """Add `instructions` to the verbs of `affordagent data`."""
    made = verbs.add_parser(
        "instructions",
        help="question-answer pairs about what things are for",
        epilog="see docs/instructions.md",
    )
    made.add_argument("--n", type=int, required=True, help="how many")
    made.add_argument("--style", choices=STYLES, required=True, help="a name; a purpose and the name; a purpose alone")
    made.add_argument("--offline", action="store_true", help="by a grammar, without a language model")
    made.add_argument("--language", metavar="URL,MODEL", help="an OpenAI-compatible server; key: AFFORDAGENT_LLM_KEY")
    made.add_argument("--seed", type=int, default=0, help="(default 0)")
    made.add_argument("--categories", nargs="+", metavar="NAME", help="(default: the catalogue's)")
    made.add_argument("--for", dest="rows", type=Path, metavar="ROWS", help="Parquet or CSV: instructions for its rows")
    made.add_argument("--out", type=Path, metavar="FILE", help="JSONL, or with --for Parquet; goes on where it was")
    made.add_argument("--unjudged", action="store_true", help="keep hard ones that the offline language misreads")
    made.add_argument("--json", action="store_true", help="print one JSON object a line")
    made.add_argument("--most-tokens", type=int, metavar="N", help="stop before more are spent")
    made.add_argument("--most-cost", type=float, metavar="SUM", help="stop before more is spent; needs --price")
    made.add_argument("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="of a million tokens")
    made.add_argument("--per-minute", type=float, metavar="N", help="requests a minute, at most")
    made.add_argument("--workers", type=int, default=4, help="requests under way at once (default 4)")
    made.add_argument("--cache", type=Path, metavar="DIR", help="of replies (~/.cache/affordagent/instructions)")
    made.set_defaults(handler=_instructions)


def _instructions(args: argparse.Namespace) -> int:
    from affordagent.agent.instructions.checks import Checker
    from affordagent.agent.instructions.making import Kept, make, shared_out
    from affordagent.agent.instructions.sources import Budget
    from affordagent.core.catalogue import catalogue

    _check(args)
    asked = _asked(args)
    if asked is not None:
        from affordagent.agent.instructions.attach import counts

        wanted = counts(asked)
    else:
        wanted = shared_out(args.n, _unique(args.categories or list(catalogue())))
    budget = Budget(args.most_tokens, args.most_cost, tuple(args.price or (0.0, 0.0)))
    source = _source(args, budget)
    among = () if args.unjudged else tuple(wanted) if len(wanted) > 1 else tuple(catalogue())
    settings = {"style": args.style, "seed": args.seed, "source": source.name, "judged_among": list(among)}
    file = args.out if args.rows is None or args.out is None else args.out.with_suffix(".jsonl")
    kept = Kept(file, settings)
    checker = Checker(among, kept.made.taken)
    started, had = time.process_time(), len(kept.made.taken)
    if had:
        print(f"{file}: {had} pairs are there already, going on", file=sys.stderr)
    try:
        for pair in itertools.chain(list(kept.made.taken), make(source, wanted, kept, checker)):
            if args.json:
                print(json.dumps(_line(pair), ensure_ascii=False), flush=True)
    finally:
        _tell(kept, budget, time.process_time() - started)
    if not args.json:
        _show(kept)
    if asked is not None:
        _attach(args.out, asked, kept)
    return 1 if kept.made.given_up else 0


def _check(args: argparse.Namespace) -> None:
    if args.n < 1:
        raise AffordAgentError(f"--n {args.n} must be at least 1")
    if args.workers < 1:
        raise AffordAgentError(f"--workers {args.workers} must be at least 1")
    if args.style != "template" and args.offline == bool(args.language):
        raise AffordAgentError("give --offline, or --language URL,MODEL of an OpenAI-compatible server: one of the two")
    if args.most_cost is not None and args.price is None:
        raise AffordAgentError("--most-cost needs --price IN OUT, what a million tokens of questions and answers cost")
    if args.rows is not None and (args.out is None or args.out.suffix != ".parquet" or args.style == "template"):
        raise AffordAgentError("--for needs --style easy or hard and --out FILE.parquet, where the new rows go")


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.replace("_", " ").lower() for name in names))


def _asked(args: argparse.Namespace) -> list[Asked] | None:
    if args.rows is None:
        return None
    from affordagent.agent.instructions.attach import chosen
    from affordagent.finetune.data.table import read_samples

    return chosen(read_samples(args.rows), args.n, args.seed, _unique(args.categories or []))


def _source(args: argparse.Namespace, budget: Budget) -> Source:
    from affordagent.agent.instructions.sources import Grammar, Model

    if args.offline or args.style == "template":
        return Grammar(args.style, args.seed)
    url, _, model = (word.strip() for word in args.language.partition(","))
    if not url.startswith(("http://", "https://")) or not model:
        raise AffordAgentError(
            f"--language is '{args.language}'; use URL,MODEL, such as http://127.0.0.1:11434/v1,qwen3"
        )
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = args.cache or home / "affordagent" / "instructions"
    return Model(url, model, args.style, args.seed, cache, budget, args.per_minute, args.workers)


def _line(pair: Any) -> dict[str, str]:
    return {name: getattr(pair, name) for name in ("category", "style", "question", "answer")}


def _tell(kept: Kept, budget: Budget, cpu_s: float) -> None:
    """What there is now, on stderr."""
    made = kept.made
    print(f"{len(made.taken)} pairs, {made.rejected.total()} rejected, {cpu_s:.1f} CPU-s", file=sys.stderr)
    for reason, count in made.rejected.most_common():
        print(f"  {count:5d} {reason}", file=sys.stderr)
    if budget.tokens:
        cost = f", cost {budget.cost:.4f}" if any(budget.price) else ""
        print(f"{budget.asked} tokens asked, {budget.told} answered{cost}", file=sys.stderr)
    for category, missing in made.given_up.items():
        print(f"{category}: {missing} are missing, nearly every further draft was turned down", file=sys.stderr)


def _show(kept: Kept) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("category", "question", "answer", show_lines=False)
    for pair in kept.made.taken[:SHOWN]:
        table.add_row(pair.category, pair.question, pair.answer)
    Console().print(table)
    if len(kept.made.taken) > SHOWN:
        print(f"... and {len(kept.made.taken) - SHOWN} more; --json prints all, --out keeps them")


def _attach(out: Path, asked: list[Asked], kept: Kept) -> None:
    from affordagent.agent.instructions.attach import attached
    from affordagent.finetune.data.table import write_parquet

    written = write_parquet(attached(asked, kept.made.taken), out)
    print(f"{out}: {written} rows, {len(asked) - written} without a fitting instruction", file=sys.stderr)
