"""Whole episodes in the simulated cell: one command, one scene, one strict verdict a trial.

    python -m affordagent.evaluations.episodes --scene mixed --trials 60 --masks truth --out DIR

`--masks truth` replaces language and grounding by the simulator's truth, so that the rest of the chain is measured;
`--masks model` is the chain as a user runs it, on commands of the test split of `finetune/phrases.json`. Scenes are
drawn from seeds that no training image uses. Trials are appended to DIR/trials.jsonl as they end; a restart goes on
after them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress

from affordagent.agent.session import Session, Tools, versions
from affordagent.agent.settings import Settings
from affordagent.core.run_store import write_json
from affordagent.core.types import Candidate, FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.trials import run_trials
from affordagent.finetune.phrases import Style, sample_text
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold

STYLES: tuple[Style, ...] = ("template", "easy", "hard")
TO_CHOSEN_GRASP = ("understand", "look", "ground", "lift", "propose", "plan")


@dataclass(frozen=True)
class Trial:
    """One episode: the target is the `target_index`-th object of the scene (modulo their number)."""

    scene: str
    seed: int
    target_index: int
    style: Style
    masks: Literal["truth", "model"]
    noise: bool

    @property
    def key(self) -> str:
        return f"{self.scene}-{self.seed}-{self.target_index}-{self.style}-{self.masks}{'-noise' if self.noise else ''}"


@dataclass(frozen=True)
class TrueTools(Tools):
    """Language and masks from the simulator's truth."""

    cell: SimCell | None = None
    target: str = ""

    def load(self) -> None:
        """The truth needs no models."""

    def understand(self, text: str) -> FunctionalQuery:
        assert self.cell is not None
        thing = self.cell.scene.object(self.target)
        part = None if thing.obj.part == "body" else thing.obj.part
        candidates = [Candidate(name=thing.category, score=1.0, known=True)]
        return FunctionalQuery(text=text, intent="pick", category=thing.category, candidates=candidates, part=part)

    @cached_property
    def grounder(self) -> TrueTools:
        return self

    @cached_property
    def fallback(self) -> TrueTools:
        return self

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        assert self.cell is not None
        (thing,) = (t for t in self.cell.truth() if t.name == self.target)
        return [PartMask(thing.part_mask, thing.mask, 1.0, "truth")]


def run_trial(trial: Trial, out: Path, tools: Tools) -> dict[str, Any]:
    """Run one trial and return its row; the run folder is kept under `out`."""
    settings = Settings(scene=trial.scene, seed=trial.seed, noise=trial.noise)
    session = Session(settings, tools)
    cell = session.cell
    assert isinstance(cell, SimCell)
    objects = cell.scene.objects
    target = objects[trial.target_index % len(objects)]
    twins = cell.intended_objects(target.category)
    part = None if target.obj.part == "body" else target.obj.part
    rng = np.random.default_rng([trial.seed, trial.target_index])
    text = sample_text(rng, target.category, target.obj.colour, part, len(twins) > 1, "test", trial.style)
    cell.gold = Gold(frozenset({target.name}), part)
    if trial.masks == "truth":
        session.tools = TrueTools(cell=cell, target=target.name)
    start = time.perf_counter()
    with session:
        result = session.run(text, out / "runs" / trial.key)
    cpu_s = sum(s["cpu_s"] for s in result.stages if s["stage"] in TO_CHOSEN_GRASP)
    verdict = result.run_dir / "verdict.json"
    return {
        **asdict(trial),
        "key": trial.key,
        "target": target.name,
        "category": target.category,
        "text": text,
        "success": result.outcome == "success",
        "outcome": result.outcome,
        "failure": result.failure,
        "cpu_s_to_grasp": round(cpu_s, 3),
        "cpu_s": {s["stage"]: s["cpu_s"] for s in result.stages},
        "wall_s": round(time.perf_counter() - start, 2),
        "grounded_by": [s["evidence"].get("tool") for s in result.stages if s["stage"] == "ground"],
        "verdict": json.loads(verdict.read_text()) if verdict.is_file() else None,
    }


_tools: Tools | None = None  # one set of models a worker process


def _work(trial: Trial, out: Path) -> dict[str, Any]:
    global _tools
    if _tools is None:
        import torch

        torch.set_num_threads(1)
        _tools = Tools()
    return run_trial(trial, out, _tools)


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates with Wilson intervals, in all, by category and by style; failures counted by stage and code."""
    done = sorted(rows, key=lambda r: r["key"])
    groups = {"category": {r["category"] for r in done}, "style": {r["style"] for r in done}}
    failures = Counter(f"{r['failure']['stage']} {r['failure']['code']}" for r in done if r["failure"])
    cpu_s = [r["cpu_s_to_grasp"] for r in done if r["outcome"] in ("success", "failure")]
    return {
        "strict_success": rate(sum(r["success"] for r in done), len(done)),
        "cpu_s_to_chosen_grasp": {
            "median": float(np.median(cpu_s)),
            "p90": float(np.percentile(cpu_s, 90)),
        },
        "failures": dict(failures.most_common()),
        **{
            f"by_{name}": {
                value: rate(sum(r["success"] for r in done if r[name] == value), sum(r[name] == value for r in done))
                for value in sorted(values)
            }
            for name, values in groups.items()
        },
    }


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

    seeds = range(args.first_seed, args.first_seed + args.trials)
    trials = [Trial(args.scene, s, s, STYLES[s % len(STYLES)], args.masks, args.noise) for s in seeds]
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("episodes", total=len(trials))
        log, work = args.out / "trials.jsonl", partial(_work, out=args.out)
        rows = run_trials(trials, log, work, args.workers, lambda row: progress.advance(bar))
    summary = summarise(rows)
    write_json(args.out / "summary.json", {"arguments": vars(args), "versions": versions(), **summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
