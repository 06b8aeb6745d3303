"""How often is the sensors' verdict wrong? Against the simulator's truth, with and without injected faults.

    python -m affordagent.evaluations.outcomes --first-seed 1700 --seeds 160 --out runs/outcomes

Each scene is tried twice, with a perfect and with a noisy camera; in every second scene a fault is injected that is
likely to end in a wrong outcome. `--again` judges the same run folders anew by today's rules.

False success: the sensors say success, the truth says failure. False failure: the other way round. Unknown: the sensors
cannot tell (`verify.unknown`), counted apart. A trial that ended before `verify` has no verdict to be wrong.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import Verdict
from affordagent.evaluations.causes.injection import Fault
from affordagent.evaluations.runner.records import Row
from affordagent.evaluations.runner.run import Evaluation, evaluate
from affordagent.evaluations.runner.table import read_rows
from affordagent.evaluations.runner.trial import Trial
from affordagent.evaluations.statistics import rate
from affordagent.finetune.phrases import Style
from affordagent.robot.kinematics import ArmKinematics
from affordagent.tools.outcome import Looks, doubted_as_before, readings_of, unless_unsure, verify_outcome

SCENES = ("mixed", "kitchen", "workshop", "twins")
STYLES: tuple[Style, ...] = ("template", "easy", "hard")
FAULTS = (
    Fault("grounding", "wrong object"),
    Fault("execution", "slippery, friction", 0.02),
    Fault("execution", "weak grip, share of the force", 0.03),
    Fault("execution", "dropped, share of the lift", 0.5),
    Fault("grasp", "turned, degrees", 45.0),
    Fault("grasp", "badly ranked, kept", 1),
    Fault("calibration", "hand-eye, m", 0.02),
    Fault("grounding", "mask shifted, m", 0.02),
    Fault("planning", "wrong goal, m", 0.02),
    Fault("grounding", "mask shifted, m", 0.05),
)
UNKNOWN = "verify.unknown"


def trials(seeds: range) -> list[Trial]:
    """Two a seed, the same but for the camera's noise."""
    return [_trial(seed, noise) for seed in seeds for noise in (False, True)]


def _trial(seed: int, noise: bool) -> Trial:
    fault = FAULTS[seed // 2 % len(FAULTS)] if seed % 2 else None
    name = "none" if fault is None else fault.name.split(",")[0]
    return Trial(
        suite="outcomes",
        setting="noise" if noise else "clean",
        scene=SCENES[seed // 4 % len(SCENES)],
        seed=seed,
        noise=noise,
        target=seed,
        style=STYLES[seed % len(STYLES)],
        command_id=f"outcomes-{seed}-{name}",
        group=f"outcomes-{seed}",
        fault=None if fault is None else {"cause": fault.cause, "name": fault.name, "size": fault.size},
    )


def sensed_again(folder: Path, arm: ArmKinematics) -> Verdict:
    """The sensors' verdict on a run folder by today's rules. The second opinion is the recorded one.

    Raises:
        AffordAgentError: the run did not get as far as its verdict.
    """
    store = RunStore(folder)
    recorded, part = store.get("sensed_verdict"), store.get("part_mask")
    looks = None
    if store.has("after"):
        frame, after, table, cloud = (store.get(name) for name in ("frame", "after", "table", "cloud"))
        looks = Looks(frame, after, table, part.object_mask, cloud)
    motions = read_motions(folder / MOTIONS_FILE)
    verdict = unless_unsure(verify_outcome(store.get("plan"), readings_of(motions), looks, arm), part)
    return doubted_as_before(verdict, recorded) if verdict.success else verdict


def with_sensed(rows: Sequence[Row], out: Path) -> list[Row]:
    """The rows with the sensors' verdicts of today's rules."""
    arm, judged = ArmKinematics(), []
    for row in rows:
        again = row.copy()
        if row["sensed_success"] is not None:
            verdict = sensed_again(out / row["run"], arm)
            again["sensed_success"], again["sensed_code"] = verdict.success, verdict.code
        judged.append(again)
    return judged


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Rates with Wilson intervals: of all trials, of those judged, of the truly failed and the truly good ones."""
    faulty = {"no fault": [r for r in rows if r["fault"] is None], "fault": [r for r in rows if r["fault"] is not None]}
    names = sorted({r["fault"]["name"] for r in rows if r["fault"] is not None})
    groups = {"all": list(rows), **faulty}
    groups |= {
        setting: [r for r in rows if r["setting"] == setting] for setting in sorted({r["setting"] for r in rows})
    }
    groups |= {name: [r for r in rows if r["fault"] is not None and r["fault"]["name"] == name] for name in names}
    return {name: _rates(group) for name, group in groups.items()}


def _rates(rows: Sequence[Row]) -> dict[str, Any]:
    judged = [r for r in rows if r["sensed_success"] is not None]
    failed, good = [r for r in judged if not r["success"]], [r for r in judged if r["success"]]
    false_success = [r for r in failed if r["sensed_success"]]
    unknown = [r for r in judged if r["sensed_code"] == UNKNOWN]
    false_failure = [r for r in good if not r["sensed_success"] and r["sensed_code"] != UNKNOWN]
    return {
        "false_success": rate(len(false_success), len(rows)),
        "false_success_of_judged": rate(len(false_success), len(judged)),
        "false_success_of_failed": rate(len(false_success), len(failed)),
        "false_failure": rate(len(false_failure), len(rows)),
        "false_failure_of_good": rate(len(false_failure), len(good)),
        "unknown": rate(len(unknown), len(rows)),
        "unknown_though_good": rate(sum(r["success"] for r in unknown), len(good)),
        "missed": dict(Counter(r["failure_code"] for r in false_success).most_common()),
        "alarms": dict(Counter(str(r["sensed_code"]) for r in false_failure).most_common()),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="run nothing: judge the folders of OUT anew")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    if not args.again:
        asked = {"first_seed": args.first_seed, "faults": [asdict(fault) for fault in FAULTS]}
        planned = trials(range(args.first_seed, args.first_seed + args.seeds))
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("outcomes", total=len(planned))
            settings: dict[str, dict[str, Any]] = {"clean": {}, "noise": {"noise": True}}
            evaluation = Evaluation("outcomes", asked, settings, planned)
            evaluate(evaluation, args.out, args.workers, on_row=lambda row: progress.advance(bar))
    rows = with_sensed(read_rows(args.out), args.out)
    summary = summarise(rows)
    write_json(args.out / "summary.json", summary)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
