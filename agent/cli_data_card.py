"""`affordagent data card | browse`: look at a set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(verbs: Any) -> None:
    """Add the verbs to those of `affordagent data`."""
    card = verbs.add_parser("card", help="what is in a set, where it comes from, whether it leaks: one HTML page")
    card.add_argument("file", type=Path, help="a Parquet or CSV file of rows")
    card.add_argument("--out", type=Path, help="FILE.html (default: next to the rows)")
    card.add_argument("--masks", type=int, default=2000, metavar="N", help="masks that are opened (default 2000)")
    card.add_argument("--examples", type=int, default=24, metavar="N", help="pictures that are shown (default 24)")
    card.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    card.set_defaults(handler=_card)

    browse = verbs.add_parser("browse", help="look at rows, filtered, in a page on this machine")
    browse.add_argument("file", type=Path, help="a Parquet or CSV file of rows")
    browse.add_argument("--port", type=int, default=7861, help="on loopback (default 7861; 0: any)")
    browse.set_defaults(handler=_browse)


def _card(args: argparse.Namespace) -> int:
    from affordagent.core.errors import AffordAgentError
    from affordagent.finetune.data.card import write_card
    from affordagent.finetune.data.table import read_samples

    for name in ("masks", "examples", "seed"):
        if getattr(args, name) < 0:
            raise AffordAgentError(f"--{name} {getattr(args, name)} must be at least 0")
    rows = read_samples(args.file, unlabelled=True)
    out = args.out or args.file.with_suffix(".card.html")
    print(write_card(rows, args.file, out, looked_at=args.masks, examples=args.examples, seed=args.seed))
    return 0


def _browse(args: argparse.Namespace) -> int:
    from affordagent.agent.data_browser import serve
    from affordagent.finetune.data.table import read_samples

    serve(read_samples(args.file, unlabelled=True), str(args.file), args.port)
    return 0
