"""Judge the judges: does the fast simulator agree with the whole arm, and does the learned term pick better grasps?

    python -m affordagent.evaluations.grasp_scoring agree --scene mixed --seeds 500:509 --out agree.jsonl
    python -m affordagent.evaluations.grasp_scoring picks --scene mixed --seeds 500:530 --out picks.jsonl

`agree`: of each thing grasps of high, middle and low rank are carried out by the arm in the whole cell, and by the hand
alone, under the same nominal conditions. `picks`: the best grasp by the score made by hand, with the learned term at
several weights, and by the learned term alone, tried by the hand alone under the same drawn conditions, so that
outcomes pair up. Rows are appended scene by scene; a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import Grasp, Verdict
from affordagent.evaluations.grasp_outcomes import BY_HAND, MOST_CONSIDERED, Target, seeds_of, seen_scene
from affordagent.evaluations.statistics import mcnemar, rate
from affordagent.evaluations.trials import Row, run_trials
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.limits import MotionLimits
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.hand import Conditions
from affordagent.robot.sim.judge import Gold, judge_motion
from affordagent.tools.execution import execute
from affordagent.tools.grasping import ranking, scorer
from affordagent.tools.grasping.propose import ENOUGH, consider
from affordagent.tools.motion.plan_grasp import plan_grasp

WEIGHTS = (0.0, 4.0, 8.0, 16.0, 32.0)  # of the learned term; LEARNED = nothing else
LEARNED = "learned"


@dataclass(frozen=True)
class Trial:
    """draws: conditions under which each pick is tried."""

    scene: str
    seed: int
    draws: int = 1

    @property
    def key(self) -> str:
        return f"{self.scene}-{self.seed}"


def agree(trial: Trial) -> Row:
    """Both verdicts of each grasp that the arm can plan."""
    rows = []
    with seen_scene(trial.scene, trial.seed) as (hand, targets), SimCell(hand.scene) as cell:
        settled = cell.state_snapshot()
        for target, view in _views(targets, trial.seed):
            scores, _ = ranking.score(view, BY_HAND)
            ranked = ranking.diverse(view.grasps.T_base_tcp, scores, MOST_CONSIDERED)
            for i in {ranked[0], ranked[len(ranked) // 2], ranked[-1]}:
                grasp = Grasp(view.grasps.T_base_tcp[i], float(view.grasps.width_m[i]), float(scores[i]))
                cell.restore(settled)
                by_arm = _by_arm(cell, target, grasp)
                if by_arm is None:
                    continue
                opening_m = float(view.gripper.opening_for_m(grasp.width_m))
                alone = hand.try_grasp(target.name, target.part, grasp.T_base_tcp, opening_m)
                rows.append(
                    {"target": target.name, "score": round(grasp.score, 4), "arm": by_arm, "hand": _short(alone)}
                )
    return {"key": trial.key, "grasps": rows}


def _views(targets: Sequence[Target], seed: int) -> Iterator[tuple[Target, ranking.View]]:
    for target in targets:
        if target.cloud is None:
            continue
        try:
            yield target, consider(target.cloud, seed)
        except StageFailure:
            continue


def _by_arm(cell: SimCell, target: Target, grasp: Grasp) -> dict[str, Any] | None:
    """The arm's verdict; None when it finds no way there."""
    assert target.cloud is not None
    before = cell.arm.contacts.poses()
    try:
        plan = plan_grasp([grasp], target.cloud, LOOK_Q, limits=MotionLimits())
    except StageFailure:
        return None
    try:
        execute(cell.arm, plan)
    except StageFailure as failure:
        return {"success": False, "code": failure.code}
    gold = Gold(frozenset({target.name}), target.part)
    return _short(judge_motion(cell.arm.log, before, target.name, target.part, gold))


def _short(verdict: Verdict) -> dict[str, Any]:
    return {"success": verdict.success, "code": verdict.code, **verdict.measured}


def agreement(rows: Sequence[Row]) -> dict[str, Any]:
    """How often both say the same, and what each says when they do not."""
    grasps = [grasp for row in rows for grasp in row["grasps"]]
    same = [g["arm"]["success"] == g["hand"]["success"] for g in grasps]
    counts = Counter((g["arm"]["code"] or "success", g["hand"]["code"] or "success") for g in grasps)
    return {
        "agree": rate(sum(same), len(same)),
        "success_by_arm": rate(sum(g["arm"]["success"] for g in grasps), len(grasps)),
        "success_by_hand_alone": rate(sum(g["hand"]["success"] for g in grasps), len(grasps)),
        "arm / hand alone": {" / ".join(pair): n for pair, n in counts.most_common()},
    }


def picks(trial: Trial) -> Row:
    """What each way of ranking picks for each thing, and what comes of it."""
    rows = []
    with seen_scene(trial.scene, trial.seed) as (hand, targets):
        for index, (target, view) in enumerate(_views(targets, trial.seed)):
            sure = ranking.trusted(view)
            allowed = np.where(sure | (sure.sum() < ENOUGH), 0.0, -np.inf)  # as `propose` has it
            learned = scorer.load()(view)
            by_hand, _ = ranking.score(view, BY_HAND)
            total = sum(weight for _, weight in BY_HAND)
            logs = np.log(np.maximum(np.stack([by_hand, learned]), 1e-3))
            best = {f"{w:g}": int(np.argmax(total * logs[0] + w * logs[1] + allowed)) for w in WEIGHTS}
            best[LEARNED] = int(np.argmax(learned + allowed))
            rng = np.random.default_rng([trial.seed, index, 7])
            drawn = [Conditions.draw(rng) for _ in range(trial.draws)]
            opening_m = view.gripper.opening_for_m(view.grasps.width_m)
            verdicts = {
                i: [
                    hand.try_grasp(target.name, target.part, view.grasps.T_base_tcp[i], float(opening_m[i]), c)
                    for c in drawn
                ]
                for i in set(best.values())
            }
            codes = {way: [v.code for v in verdicts[i]] for way, i in best.items()}
            chances = {way: round(float(learned[i]), 4) for way, i in best.items()}
            rows.append({"target": target.name, "category": target.category, "codes": codes, "learned": chances})
    return {"key": trial.key, "draws": trial.draws, "things": rows}


def comparison(rows: Sequence[Row]) -> dict[str, Any]:
    """Success of each way's picks, and each against the score made by hand (weight 0), paired."""
    things = [thing for row in rows for thing in row["things"]]
    result: dict[str, Any] = {"things": len(things)}
    success = {
        way: np.array([code is None for thing in things for code in thing["codes"][way]]) for way in things[0]["codes"]
    }
    base = success["0"]
    for way, mine in success.items():
        better, worse = int((mine & ~base).sum()), int((base & ~mine).sum())
        result[way] = {
            **rate(int(mine.sum()), len(mine)),
            "only_this": better,
            "only_by_hand": worse,
            "mcnemar_p": round(mcnemar(better, worse), 4),
        }
    return result


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("agree", "picks"))
    parser.add_argument("--scene", default="mixed")
    parser.add_argument("--seeds", type=seeds_of, required=True, help="FIRST:END")
    parser.add_argument("--draws", type=int, default=1, help="conditions under which each pick is tried")
    parser.add_argument("--out", type=Path, required=True, help=".jsonl")
    given = parser.parse_args(argv)
    work, summary = (agree, agreement) if given.what == "agree" else (picks, comparison)
    trials = [Trial(given.scene, seed, given.draws) for seed in given.seeds]
    print(json.dumps(summary(run_trials(trials, given.out, work)), indent=1))


if __name__ == "__main__":
    main()
