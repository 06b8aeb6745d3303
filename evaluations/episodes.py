"""Whole episodes in the simulated cell: one command, one scene, one strict verdict a trial.

    python -m affordagent.evaluations.episodes --scene mixed --trials 60 --masks truth --out DIR

`--masks truth` replaces language and grounding by the simulator's truth, so that the rest of the chain is measured;
`--masks model` is the chain as a user runs it. The styles take turns, a scene each; `affordagent eval styles` asks for
the same thing in every style. Texts come from the test split of `finetune/phrases.json` in scenes from 1000 on. Shapes
are from seeds that no training image uses. A restart goes on after the trials that DIR has (`evaluations.runner`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from affordagent.core.run_store import write_json
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.runner.run import Evaluation, evaluate
from affordagent.evaluations.runner.suites import Asked, styles
from affordagent.evaluations.runner.summary import summarise
from affordagent.evaluations.runner.trial import Trial
from affordagent.finetune.phrases import Style

STYLES: tuple[Style, ...] = ("template", "easy", "hard")


def trials(asked: Asked) -> list[Trial]:
    """A trial a scene, the styles by turns."""
    every = [trial.model_copy(update={"suite": "episodes"}) for trial in styles(asked)]
    return [trial for trial in every if trial.style == STYLES[trial.seed % len(STYLES)]]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scene", default="mixed")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--masks", choices=("truth", "model"), default="model")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    asked = Asked(
        rounds=args.trials,
        first_seed=args.first_seed,
        scenes=(args.scene,),
        styles=STYLES,
        masks=args.masks,
        noise=args.noise,
    )
    evaluation = Evaluation("episodes", asked.as_json(), asked.changes, trials(asked))
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        bar = progress.add_task("episodes", total=len(evaluation.trials))

        def on_row(row: Row) -> None:
            progress.advance(bar)

        rows = evaluate(evaluation, args.out, args.workers, on_row=on_row, say=console.print)
    summary = summarise(rows)
    write_json(args.out / "summary.json", summary)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
