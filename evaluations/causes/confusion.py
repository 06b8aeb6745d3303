"""Is the right stage blamed? Known faults in trials that succeed without them, and who is blamed for the failures.

    python -m affordagent.evaluations.causes.confusion --scenes 60 --first-seed 3000 --workers 2 --out DIR

In each scene a command is carried out without a fault. Where that succeeds, it is run again with one fault of each
cause in turn, and each run that fails is attributed. A fault that does no harm is counted apart: nobody is to blame.
Scenes are appended to DIR/scenes.jsonl as they end, and a restart goes on after them. DIR gets summary.json,
trials.jsonl and confusion.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from affordagent.agent.results import versions
from affordagent.agent.session import Tools
from affordagent.core.causes import CAUSES, KIND_OF_CAUSE, Attribution
from affordagent.core.run_store import write_json
from affordagent.evaluations.causes.attribute import Scene, attribute_scene, reenact
from affordagent.evaluations.causes.comparison import Run
from affordagent.evaluations.causes.confusion_figure import draw
from affordagent.evaluations.causes.faults import FAULTS, Fault, applies
from affordagent.evaluations.commands.command import CommandGold
from affordagent.evaluations.runner.trial import Trial
from affordagent.evaluations.statistics import rate
from affordagent.evaluations.trials import run_trials
from affordagent.robot.sim.scene import sample_scene

SCENES = ("kitchen", "workshop", "mixed", "twins", "bench")
NOBODY, SEVERAL = "nobody", "several"
DOUBLE_EVERY = 4  # in each so many scenes two faults at once are tried too

Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """A scene with its faults. number: of the scene in the study, from 0: it decides scene and noise."""

    seed: int
    number: int

    @property
    def scene(self) -> str:
        return SCENES[self.number % len(SCENES)]

    @property
    def key(self) -> str:
        return f"{self.scene}-{self.seed}"

    @property
    def trial(self) -> Trial:
        """Without a fault: a plain wish for one of the things. Every other scene is seen with a sensor's noise."""
        things = sample_scene(self.scene, self.seed).objects
        thing = things[self.seed % len(things)]
        part = None if thing.obj.part == "body" else thing.obj.part
        return Trial(
            suite="faults",
            scene=self.scene,
            seed=self.seed,
            noise=self.number % 2 == 1,
            text=f"pick up the {thing.obj.colour} {thing.category}" + (f" by its {part}" if part else ""),
            gold=CommandGold(objects=(thing.name,), part=part),
            command_id=self.key,
            group=self.key,
        )

    def faults(self, fits: Callable[[Fault], bool]) -> list[Fault]:
        """One fault of each cause, of those that fit the scene, another one in the next scene."""
        turn = self.number + self.number // len(SCENES)
        fitting = [[fault for fault in FAULTS if fault.cause == cause and fits(fault)] for cause in CAUSES]
        return [of[turn % len(of)] for of in fitting]


def run_group(group: Group, tools: Tools) -> Row:
    """All trials of one scene."""
    started = time.process_time()
    trial = group.trial
    with reenact(trial, tools) as scene:
        base = scene.run(frozenset())
        row: Row = {"key": group.key, **asdict(group), "text": scene.command, "noise": trial.noise}
        row |= {"succeeds": scene.success(base), "code": base.code, "trials": []}
        if row["succeeds"]:
            row["trials"] = list(_trials(group, scene, base))
    return {**row, "cpu_s": round(time.process_time() - started, 1)}


def _trials(group: Group, scene: Scene, clean: Run) -> Iterator[Row]:
    harmful = []
    for fault in group.faults(lambda fault: applies(fault, scene.cell)):
        row = _attributed(group, scene, clean, (fault,))
        harmful += [] if row["harmless"] else [fault]
        yield row
    if group.number % DOUBLE_EVERY == 0 and len(harmful) >= 2:
        first, second = sorted(np.random.default_rng(group.seed).choice(len(harmful), 2, replace=False))
        yield _attributed(group, scene, clean, (harmful[first], harmful[second]))


def _attributed(group: Group, scene: Scene, clean: Run, faults: tuple[Fault, ...]) -> Row:
    """clean: the run without faults; what comes before the faults is as there."""
    started = time.process_time()
    faulty = replace(scene, faults=faults)
    run = faulty.run(frozenset(), clean, set(faulty.faulty(())))
    found: Attribution = attribute_scene(faulty, repeats=0, unrepaired=run)
    names = " + ".join(f"{f.cause}/{f.name}{'' if f.size is None else f' {f.size:g}'}" for f in faults)
    return {
        "key": f"{group.key} {names}",
        "scene": group.scene,
        "seed": group.seed,
        "noise": scene.trial.noise,
        "faults": [asdict(fault) for fault in faults],
        "harmless": bool(found.evidence["success"]),
        "failure": None if found.evidence["failure"] is None else found.evidence["failure"]["code"],
        "causal": list(found.causal),
        "first_failing": found.first_failing,
        "code": found.code,
        "shares": {cause: share for cause, share in found.shares.items() if share},
        "wrong": [cause for cause, finding in found.evidence["findings"].items() if finding["right"] is False],
        "replays": len(found.replays),
        "cpu_s": round(time.process_time() - started, 1),
    }


_tools: Tools | None = None  # one set of models a worker process


def _work(group: Group) -> Row:
    global _tools
    if _tools is None:
        import torch

        torch.set_num_threads(1)
        _tools = Tools()
        _tools.load()
    return run_group(group, _tools)


# ---- what it says ---------------------------------------------------------------------------------------------------


def column(row: Row) -> str:
    """Who is blamed: one cause, several of them, or nobody."""
    causal = row["causal"]
    return NOBODY if not causal else causal[0] if len(causal) == 1 else SEVERAL


def injected(row: Row) -> str:
    return str(row["faults"][0]["cause"])


def summarise(groups: Sequence[Row]) -> dict[str, Any]:
    """Confusion matrix and agreements with Wilson intervals, of single faults that did harm; double ones apart."""
    rows = [row for group in groups for row in group["trials"]]
    single = [row for row in rows if len(row["faults"]) == 1]
    double = [row for row in rows if len(row["faults"]) == 2 and not row["harmless"]]
    harmful = [row for row in single if not row["harmless"]]
    return {
        "scenes": len(groups),
        "scenes_that_succeed": sum(group["succeeds"] for group in groups),
        "trials": len(rows),
        "single": len(single),
        "harmless": rate(sum(row["harmless"] for row in single), len(single)),
        "confusion": confusion(harmful),
        "causal": _share(harmful, _is_right),
        "causal_among_several": _share(harmful, lambda row: injected(row) in row["causal"]),
        "largest_share": _share(harmful, lambda row: _most(row) == injected(row)),
        "first_failing": _share(harmful, lambda row: row["first_failing"] == injected(row)),
        "code_of_the_run": _share(harmful, _says_itself),
        "where_the_code_misleads": _share([row for row in harmful if not _says_itself(row)], _is_right),
        "kind": _share(harmful, _same_kind),
        "visual_or_pose": _share(
            [row for row in harmful if KIND_OF_CAUSE[injected(row)] in ("visual", "pose")], _same_kind
        ),
        "by_cause": _by(harmful, injected),
        "by_fault": _by(harmful, _fault),
        "harmless_by_fault": _by(single, _fault, lambda row: row["harmless"]),
        "by_noise": _by(harmful, lambda row: str(row["noise"])),
        "double": {
            "both": _share(double, lambda row: set(row["causal"]) == {fault["cause"] for fault in row["faults"]}),
            "one_of_them": _share(
                double, lambda row: bool({*row["causal"]} & {fault["cause"] for fault in row["faults"]})
            ),
            "nobody_else": _share(double, lambda row: {*row["causal"]} <= {fault["cause"] for fault in row["faults"]}),
        },
        "cpu_s": {
            "all": round(sum(group["cpu_s"] for group in groups), 1),
            "a_trial": round(float(np.mean([row["cpu_s"] for row in rows])), 1) if rows else None,
        },
    }


def confusion(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Injected cause -> attributed cause, NOBODY or SEVERAL -> count."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[injected(row)][column(row)] += 1
    return {
        cause: {name: counts[cause][name] for name in (*CAUSES, SEVERAL, NOBODY)} for cause in CAUSES if counts[cause]
    }


def _is_right(row: Row) -> bool:
    return bool(row["causal"] == [injected(row)])


def _says_itself(row: Row) -> bool:
    """Is the injected cause in the code with which the run ended? That is all there is to go by without replays."""
    return str(row["failure"]).split(".")[0] == injected(row)


def _same_kind(row: Row) -> bool:
    kinds = {KIND_OF_CAUSE[cause] for cause in row["causal"]}
    return kinds == {KIND_OF_CAUSE[injected(row)]}


def _most(row: Row) -> str | None:
    shares = row["shares"]
    return max(shares, key=lambda cause: (shares[cause], -CAUSES.index(cause)), default=None)


def _fault(row: Row) -> str:
    fault = row["faults"][0]
    return f"{fault['cause']}: {fault['name']}" + ("" if fault["size"] is None else f" {fault['size']:g}")


def _by(rows: Sequence[Row], of: Callable[[Row], str], right: Callable[[Row], bool] = _is_right) -> dict[str, Any]:
    names = dict.fromkeys(map(of, rows))
    return {name: _share([row for row in rows if of(row) == name], right) for name in sorted(names)}


def _share(rows: Sequence[Row], right: Callable[[Row], bool]) -> dict[str, Any]:
    return rate(sum(map(right, rows)), len(rows))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

    groups = [Group(args.first_seed + number, number) for number in range(args.scenes)]
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("scenes", total=len(groups))
        done = lambda row: progress.advance(bar)  # noqa: E731
        rows = run_trials(groups, args.out / "scenes.jsonl", _work, args.workers, done)
    write_report(rows, args.out, {"arguments": vars(args), "versions": versions()})


def write_report(groups: Sequence[Row], out: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """summary.json, trials.jsonl (a line a trial) and confusion.png in `out`."""
    summary = {**asked, **summarise(groups)}
    write_json(out / "summary.json", summary)
    lines = itertools.chain.from_iterable(group["trials"] for group in groups)
    (out / "trials.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    draw(summary["confusion"], out / "confusion.png")
    print(json.dumps({name: summary[name] for name in ("trials", "harmless", "causal", "kind", "visual_or_pose")}))
    return summary


if __name__ == "__main__":
    main()
