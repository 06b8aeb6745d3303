"""`affordagent explain`: what a failure code means and what helps."""

from __future__ import annotations

import argparse
from typing import Any

from affordagent.core.failure_guide import PAGE, guide


def add(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="what a failure code means, what shows it, and what helps",
        epilog=f"{PAGE} has all codes",
    )
    explain.add_argument("code", metavar="CODE", help="as a run ended with, such as grounding.not_found")
    explain.set_defaults(handler=_explain)


def _explain(args: argparse.Namespace) -> int:
    this = guide(args.code)
    print(f"{this.code}: {this.meaning}\n\nLook at: {this.evidence}\n\nWhat helps:")
    for mend in this.mends:
        print(f"- {mend}")
    return 0
