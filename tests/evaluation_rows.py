"""Rows of evaluations that never ran, for tests of reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from affordagent.core.causes import CAUSES, NODE_OF_CAUSE
from affordagent.evaluations.runner.records import Row

CODES = {
    "language": "language.misread_function",
    "depth": "depth.noisy",
    "calibration": "calibration.hand_eye",
    "grounding": "grounding.wrong_object",
    "grasp": "grasp.off_mask",
    "planning": "planning.no_path",
    "execution": "execution.slip",
}
STYLES = ("template", "easy", "hard", "natural")
CATEGORIES = ("mug", "pan", "hammer", "knife", "bottle", "scissors", "spatula", "drill")
COSTS_S = {"understand": 0.02, "look": 0.6, "ground": 0.3, "lift": 0.05, "propose": 0.25, "plan": 0.3, "execute": 1.0}


def row(key: str, success: bool = True, **changes: Any) -> Row:
    """A trial with nothing special about it but what `changes` say."""
    plain: Any = {
        "key": key,
        "suite": "commands",
        "setting": "default",
        "scene": "kitchen",
        "seed": 1,
        "repeat": 0,
        "noise": False,
        "command_id": "c1",
        "group": "g1",
        "text": "hand me the mug",
        "style": "template",
        "writer": None,
        "language": "en",
        "distance": 0.1,
        "target": "mug_1",
        "category": "mug",
        "part": "handle",
        "seen": True,
        "expected": "grasp",
        "outcome": "success" if success else "failure",
        "success": success,
        "sensed_success": success,
        "sensed_code": None,
        "failure_stage": None if success else "execute",
        "failure_code": None if success else "execution.slip",
        "failure_message": None,
        "tool": "mini",
        "confidence": 0.9,
        "fault": None,
        "checks": {"lifted": success},
        "measured": {},
        "cpu_s": dict(COSTS_S),
        "wall_s": 3.0,
        "run": f"runs/{key}",
        "attribution": None,
    }
    return {**plain, **changes}


def attribution(*causal: str, first: str | None = None, **changes: Any) -> dict[str, Any]:
    """Of a failed trial: equal Shapley values for all of `causal`, a ladder that reaches 1 at the last of them."""
    last = max((CAUSES.index(cause) for cause in causal), default=len(CAUSES))
    return {
        "by": "substitution",
        "first_failing": first or (causal[0] if causal else None),
        "causal": list(causal),
        "shares": {cause: 1 / len(causal) if cause in causal else 0.0 for cause in CAUSES},
        "code": CODES[causal[0]] if causal else None,
        "confidence": 0.9,
        "luck": 0.0,
        "ladder": {cause: float(i >= last) for i, cause in enumerate(CAUSES)},
        "replays": [],
        "evidence": {},
    } | changes


def many_rows(count: int, seed: int = 0, faults: bool = False) -> list[Row]:
    """`count` trials of two settings on the same commands; most failures are attributed."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        situation, setting = divmod(i, 2)
        group, voice = divmod(situation, 4)
        cause = CAUSES[int(rng.choice(7, p=(0.2, 0.1, 0.05, 0.3, 0.2, 0.05, 0.1)))]
        success = bool(rng.random() < (0.7, 0.8)[setting])
        second = tuple(c for c in ("grasp", "execution") if c != cause and rng.random() < 0.1)
        found = attribution(
            cause, *second, first=cause if rng.random() < 0.8 else "language", luck=float(rng.random() < 0.1)
        )
        rows.append(
            row(
                f"kitchen-{group % 250}-c{situation}-{voice}-{'ab'[setting]}-0",
                success,
                setting=("default", "own language")[setting],
                seed=group % 250,
                command_id=f"c{situation}",
                group=f"g{group}",
                text=f"please get me the {CATEGORIES[group % 8]} that I was using {situation} days ago",
                style=STYLES[voice],
                distance=float(rng.random()),
                category=CATEGORIES[group % 8],
                seen=group % 3 > 0,
                failure_stage=None if success else NODE_OF_CAUSE[cause],
                failure_code=None if success else CODES[cause],
                sensed_success=success != (rng.random() < 0.02),
                confidence=float(np.round(rng.random(), 3)),
                wall_s=float(np.round(rng.gamma(4.0, 1.0), 2)),
                fault={"cause": cause, "name": f"{cause}_fault", "size": 1.0} if faults else None,
                attribution=found if not success and rng.random() < 0.9 else None,
            )
        )
    return rows
