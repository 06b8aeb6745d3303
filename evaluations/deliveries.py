"""Whole deliveries in the simulated cell: put it in, on or next to something, or hand it over; one strict verdict each.

    python -m affordagent.evaluations.deliveries --trials 36 --first-seed 1000 --out DIR

With `--masks truth` words and the object's mask come from the simulator's truth, and the destination is found by its
shape; with `--masks model` a sentence goes through the whole chain. Trials are appended to DIR/trials.jsonl as they
end; a restart goes on after them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.session import Session, Tools, versions
from affordagent.agent.settings import Settings
from affordagent.core.run_store import write_json
from affordagent.core.types import Destination, FunctionalQuery
from affordagent.evaluations.runner.truth import TrueTools
from affordagent.evaluations.statistics import rate
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold

Kind = Literal["in", "on", "beside", "table", "hand_over", "handle_free"]
KINDS: tuple[Kind, ...] = ("in", "hand_over", "on", "handle_free", "beside", "hand_over", "table", "handle_free")
PLACES = ("in", "on", "beside", "table")
SCENES = {"in": "packing", "beside": "packing", "on": "serving", "table": "serving"}
SENTENCES = {
    "in": "put the {thing} in the box",
    "on": "place the {thing} on the tray",
    "beside": "put the {thing} next to the box",
    "table": "move the {thing} somewhere else",
    "hand_over": "hand me the {thing}",
    "handle_free": "hand me the {thing} safely",
}


@dataclass(frozen=True)
class Trial:
    """One delivery. The target is the scene's `seed`-th object after the container, modulo their number."""

    kind: Kind
    seed: int
    masks: Literal["truth", "model"]
    noise: bool

    @property
    def scene(self) -> str:
        return SCENES.get(self.kind, "packing" if self.seed % 2 else "serving")

    @property
    def key(self) -> str:
        return f"{self.kind}-{self.scene}-{self.seed}-{self.masks}{'-noise' if self.noise else ''}"


@dataclass(frozen=True)
class TrueDelivery(TrueTools):
    """Words and masks from the truth; the destination is left to the pipeline."""

    kind: Kind = "in"

    def understand(self, text: str, see: Callable[[], NDArray[np.uint8]] | None = None) -> FunctionalQuery:
        query = super().understand(text, see)
        if self.kind in PLACES:
            words = {"on": "tray", "table": "table"}.get(self.kind, "box")
            relation: Literal["in", "on", "beside"] = "on" if self.kind == "table" else self.kind  # type: ignore[assignment]
            return query.model_copy(
                update={"intent": "place", "destination": Destination(relation=relation, words=words)}
            )
        constraints = ["handle_free"] if self.kind == "handle_free" else []
        return query.model_copy(update={"intent": "hand_over", "constraints": constraints})


def run_trial(trial: Trial, out: Path, tools: Tools) -> dict[str, Any]:
    """Run one trial and return its row; the run folder is kept under `out`."""
    session = Session(Settings(scene=trial.scene, seed=trial.seed, noise=trial.noise), tools)
    cell = session.cell
    assert isinstance(cell, SimCell)
    objects = cell.scene.objects[1:]  # the first one is the container
    target = objects[trial.seed % len(objects)]
    part = None if target.obj.part == "body" else target.obj.part
    cell.gold = Gold(frozenset({target.name}), part)
    if trial.masks == "truth":
        session.tools = TrueDelivery(cell=cell, target=target.name, kind=trial.kind)
    text = SENTENCES[trial.kind].format(thing=target.category)
    start = time.perf_counter()
    with session:
        result = session.run(text, out / "runs" / trial.key)
    verdict = result.run_dir / "verdict.json"
    judged = json.loads(verdict.read_text()) if verdict.is_file() else None
    return {
        **asdict(trial),
        "key": trial.key,
        "scene": trial.scene,
        "target": target.name,
        "text": text,
        "success": result.outcome == "success",
        "failure": result.failure,
        "handle_left_free": None if judged is None else judged["checks"].get("handle_free"),
        "verdict": judged,
        "cpu_s": {s["stage"]: s["cpu_s"] for s in result.stages},
        "wall_s": round(time.perf_counter() - start, 1),
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates with Wilson intervals by kind, for all places and all hand-overs; failures counted by code."""
    groups: dict[str, tuple[str, ...]] = {kind: (kind,) for kind in dict.fromkeys(KINDS)}
    groups |= {"all places": PLACES, "all hand-overs": ("hand_over", "handle_free")}
    rates = {}
    for name, kinds in groups.items():
        some = [row for row in rows if row["kind"] in kinds]
        if some:
            rates[name] = rate(sum(row["success"] for row in some), len(some))
    failed = [(row["kind"], row["failure"]) for row in rows if row["failure"]]
    failures = Counter(f"{kind} {failure['stage']} {failure['code']}" for kind, failure in failed)
    return {"strict_success": rates, "failures": dict(failures.most_common())}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--masks", choices=("truth", "model"), default="truth")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    args.out.mkdir(parents=True, exist_ok=True)
    log = args.out / "trials.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    done = {row["key"] for row in rows}
    tools = Tools()
    for i in range(args.trials):
        trial = Trial(KINDS[i % len(KINDS)], args.first_seed + i, args.masks, args.noise)
        if trial.key in done:
            continue
        rows.append(run_trial(trial, args.out, tools))
        with log.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(rows[-1]["key"], rows[-1]["success"], (rows[-1]["failure"] or {}).get("code"), flush=True)
    summary = summarise(rows)
    write_json(args.out / "summary.json", {"arguments": vars(args), "versions": versions(), **summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
