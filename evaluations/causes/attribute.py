"""Who is to blame for the outcome of a simulated trial: by replays with stages repaired, see docs/attribution.md.

    attribution = attribute(OUT / "runs" / key, tools)

The trial is run again from `trial.json` of its folder, in memory. Each stage's output is compared with the truth;
causes whose output is right are left alone, and of the others all combinations are repaired in replays.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.results import RESULT_FILE, RunResult
from affordagent.agent.session import Session, Tools
from affordagent.core.causes import CAUSES, Attribution
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array
from affordagent.core.run_store import RunStore, as_plain
from affordagent.evaluations.causes.comparison import Finding, Judge, Run, first_failing
from affordagent.evaluations.causes.faults import Fault, swaps_of_all
from affordagent.evaluations.causes.oracles import Oracles, recorded_look, unless_hopeless
from affordagent.evaluations.causes.shapley import Coalition, causal_set, ladder, shapley
from affordagent.evaluations.causes.taxonomy import code_of, verify_code
from affordagent.evaluations.causes.truth import Truth
from affordagent.evaluations.runner.trial import REPEAT_STRIDE, Trial, judged, open_cell, read_trial, stage
from affordagent.evaluations.runner.truth import TrueTools
from affordagent.graphs import attribution as replaying
from affordagent.graphs.attribution import replay
from affordagent.graphs.moving import execute
from affordagent.graphs.state import Stage, Workbench
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.safety import SafeArm
from affordagent.robot.sim.cell import SimCell

REPEATS = 3
NUDGE_M = 0.0002  # by which things are moved in a repeat
FIRST_REPEAT = 1000  # repeats of an evaluation's own are below
ATTEMPTS = 2  # grasps that the hand alone holds, carried out in turn until one succeeds
_POSE_AND_AFTER = frozenset({"grasp", "planning", "execution"})


def attribute(folder: Path, tools: Tools, repeats: int = REPEATS) -> Attribution:
    """The attribution of the trial in a run folder of an evaluation.

    tools: of the process, shared by many trials. repeats: of the unchanged trial with other random numbers, and of the
    one with the causal set repaired.

    Raises:
        AffordAgentError: there is no trial in the folder, or it has not ended.
    """
    trial, recorded = read_trial(folder), _recorded(folder)
    found = attribute_trial(trial, tools, repeats, judged(trial, recorded)[0])
    store = RunStore(folder)
    if not store.has("sensed_verdict") or not store.has("verdict"):
        return found
    said = verify_code(sensed=store.get("sensed_verdict"), true=store.get("verdict"))
    return replace(found, evidence={**found.evidence, "verify": said})


def _recorded(folder: Path) -> RunResult:
    try:
        run = json.loads((folder / RESULT_FILE).read_text())
        return RunResult(run["outcome"], run["query"], run["stages"], run["failure"], folder)
    except (OSError, ValueError, KeyError) as error:
        raise AffordAgentError(f"{folder} holds no run that has ended: {error}; run the trial first") from error


def attribute_trial(trial: Trial, tools: Tools, repeats: int = REPEATS, succeeded: bool | None = None) -> Attribution:
    """The attribution of a trial. succeeded: what came of it before; that a replay gives the same is noted."""
    with reenact(trial, tools) as scene:
        return attribute_scene(scene, repeats, succeeded)


def attribute_scene(
    scene: Scene, repeats: int = REPEATS, succeeded: bool | None = None, unrepaired: Run | None = None
) -> Attribution:
    """As `attribute_trial`, of a trial that is on the table. unrepaired: its replay without repairs, if it is known."""
    started = time.process_time()
    game = Game(scene, base=unrepaired)
    base = game.run(frozenset())
    findings = scene.judge.findings(base)
    success = scene.success(base)
    players = [] if success else _players(game, findings)
    shares = dict.fromkeys(CAUSES, 0.0) | shapley(players, game.value)
    causal = causal_set(players, game.value)
    steps = ladder(CAUSES, lambda repaired: game.value(repaired & frozenset(players)))
    again = [repeat(scene, frozenset(causal), base, number) for number in range(1, repeats + 1)]
    luck = float(np.mean([one["success"] for one, _ in again])) if again else None
    evidence = {
        "success": success,
        "reproduced": None if succeeded is None else succeeded == success,
        "outcome": base.outcome,
        "failure": base.failure,
        "players": players,
        "findings": {c: {"right": f.right, "reached": f.reached, **f.measures} for c, f in findings.items()},
        "cpu_s": round(time.process_time() - started, 2),
    }
    return Attribution(
        by="substitution",
        first_failing=first_failing(findings),
        causal=causal,
        shares={cause: round(share, 4) for cause, share in shares.items()},
        code=None if success else _code(causal, findings, base),
        confidence=_confidence(success, again),
        luck=luck,
        ladder=steps,
        replays=[*game.records, *(record for pair in again for record in pair if record)],
        evidence=as_plain(evidence),
    )


def _players(game: Game, findings: dict[str, Finding]) -> list[str]:
    """Causes whose repair may change something: those whose output is wrong; and where repairing all of these does not
    help, also those that are wrong, or not known to be right, once that is done. Execution, of which only injected
    faults can be taken out, where it has some."""
    scene = game.scene
    found = {cause for cause in CAUSES if findings[cause].right is False and cause != "execution"}
    found |= {"execution"} if scene.changed_by("execution") else set()
    while not scene.success(run := game.run(frozenset(found))):
        after = scene.judge.findings(run)
        wrong = {c for c in CAUSES if after[c].right is False and c != "execution"} - found
        unknown = {c for c in CAUSES if after[c].right is None and after[c].reached and c != "execution"} - found
        if not wrong and not unknown:
            break
        found |= wrong or unknown
    return [cause for cause in CAUSES if cause in found]


def _code(causal: tuple[str, ...], findings: dict[str, Finding], base: Run) -> str | None:
    """Of the first causal stage; without one, what the run ended with."""
    return code_of(causal[0], base.code, findings[causal[0]].measures) if causal else base.code


Record = dict[str, Any]


def _confidence(success: bool, again: list[tuple[Record, Record | None]]) -> float:
    """Share of the runs, the first one counted, that agree: unchanged as the first one, and a success when repaired."""
    agreeing = [one["success"] == success and (mended is None or mended["success"]) for one, mended in again]
    return (1 + sum(agreeing)) / (1 + len(agreeing))


# ---- replays --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    """A trial on the table. start: the cell's state before the first look. faults: injected."""

    trial: Trial
    cell: SimCell
    bench: Workbench
    truth: Truth
    oracles: Oracles
    judge: Judge
    start: Array
    command: str
    faults: tuple[Fault, ...] = ()

    def faulty(self, repaired: Collection[str]) -> dict[str, Stage]:
        """The injected faults of all causes but the repaired ones, by node."""
        return swaps_of_all(self.faults, self.cell, self.trial.seed, repaired)

    def success(self, run: Run) -> bool:
        return judged(self.trial, RunResult(run.outcome, None, run.stages, run.failure, run.store.folder))[0]

    def run(
        self,
        repaired: Coalition,
        base: Run | None = None,
        changed: Collection[str] = (),
        number: int = 0,
        attempt: int = 0,
    ) -> Run:
        """base: a run whose nodes before `changed` are the same. number: 0 = the trial's own random numbers."""
        seed = self.bench.seed + (FIRST_REPEAT + number) * REPEAT_STRIDE if number else self.bench.seed
        self.cell.redraw(seed)
        recorded = {} if base is None or not base.store.has("table") else {"look": recorded_look(base.store)}
        swaps = self.oracles.swaps(repaired, self.faulty(repaired), recorded, attempt)
        swaps |= {"execute": unless_hopeless(self.truth, swaps.get("execute", execute)), "verify": replaying.judged}
        start = self.start if number == 0 else self._nudged(number)
        arm = SafeArm(
            self.cell.arm, self.bench.limits, ArmKinematics(self.bench.arm_model)
        )  # one that remembers nothing
        bench = replace(self.bench, seed=seed, arm=arm)
        found = replay(bench, self.command, start, swaps=swaps, base=base, changed=changed)
        return base if base is not None and found is base else Run.of(found, self.cell)

    def repaired(self, causes: Coalition, base: Run, changed: Collection[str], number: int = 0) -> Run:
        """`run` with these causes repaired; where the grasp is, with the next one that holds if the first one fails."""
        for attempt in range(ATTEMPTS if "grasp" in causes else 1):
            found = self.run(causes, base, changed, number, attempt)
            if self.success(found) or not (found.code or "").startswith("execution."):
                break
        return found

    def _nudged(self, number: int) -> Array:
        """The start with everything on the table moved by up to NUDGE_M."""
        self.cell.restore(self.start)
        rng = np.random.default_rng([self.trial.seed, number])
        for thing in self.cell.scene.objects:
            at = self.cell.model.joint(f"{thing.name}/free").qposadr[0]
            self.cell.data.qpos[at : at + 2] += rng.uniform(-NUDGE_M, NUDGE_M, 2)
        return self.cell.state_snapshot()

    def changed_by(self, cause: str) -> set[str]:
        """Nodes that do something else where this cause is repaired."""
        own = [fault for fault in self.faults if fault.cause == cause]
        return {*swaps_of_all(own, self.cell, self.trial.seed), *self.oracles.swaps((cause,), {}, {})}


@contextmanager
def reenact(trial: Trial, tools: Tools) -> Iterator[Scene]:
    """The trial's cell, opened and at rest, and all that replays need."""
    staged = stage(trial)
    cell = open_cell(trial, staged)
    if trial.masks == "truth" and staged.target is not None:
        tools = TrueTools(cell=cell, target=staged.target.name)
    with Session(trial.run_settings, tools, cell=cell) as session:
        bench = session.workbench(RunStore(Path("unused")))
        start = cell.state_snapshot()
        truth = Truth.of(cell, trial.expected)
        oracles = Oracles(truth)
        faults = () if trial.fault is None else (Fault(**trial.fault),)
        yield Scene(trial, cell, bench, truth, oracles, Judge(cell, truth, oracles), start, staged.text, faults)


class Game:
    """The replays of one trial by what is repaired, each made once. records: what came of them, in order."""

    def __init__(self, scene: Scene, base: Run | None = None) -> None:
        self.scene = scene
        self.records: list[Record] = []
        self._runs: dict[Coalition, Run] = {} if base is None else {frozenset(): base}

    def value(self, repaired: Coalition) -> float:
        """1 for a success, else 0."""
        return float(self.scene.success(self.run(repaired)))

    def run(self, repaired: Coalition) -> Run:
        """The replay: from the one without the last of the repairs, at the node of which it begins.

        A grasp, a plan or a motion that led to success was right, and the repair of what is right changes nothing; and
        none of these repairs changes which object the mask marks.
        """
        if repaired not in self._runs:
            self._runs[repaired] = self._replayed(repaired)
            self.records.append(record(self.scene, repaired, self._runs[repaired]))
        return self._runs[repaired]

    def _replayed(self, repaired: Coalition) -> Run:
        if not repaired:
            return self.scene.run(repaired)
        last = max(repaired, key=CAUSES.index)
        base, changed = self.run(repaired - {last}), self.scene.changed_by(last)
        settled = self.scene.success(base) or base.code == "grounding.wrong_object"
        if not changed or (settled and last in _POSE_AND_AFTER):
            return base
        return self.scene.repaired(repaired, base, changed)


def record(scene: Scene, repaired: Coalition, run: Run, number: int = 0) -> Record:
    """A line of `Attribution.replays`."""
    causes = [cause for cause in CAUSES if cause in repaired]
    return {"repaired": causes, "success": scene.success(run), "code": run.code, "seed": number}


def repeat(scene: Scene, causal: Coalition, base: Run, number: int) -> tuple[Record, Record | None]:
    """The unchanged trial with other random numbers, and with the causal set repaired where there is one.

    Where the sensor has no noise, what is seen stays, and only grasps and the motion are drawn anew.
    """
    noisy = scene.trial.run_settings.noise or scene.trial.depth_sigma_m is not None
    if noisy:
        unchanged = scene.run(frozenset(), number=number)
    else:
        unchanged = scene.run(frozenset(), base, {"propose"}, number)
    first = record(scene, frozenset(), unchanged, number)
    if not causal or first["success"]:  # luck: then no repair has anything to show
        return first, None
    changed = set().union(*map(scene.changed_by, causal))
    return first, record(scene, causal, scene.repaired(causal, unchanged, changed, number), number)
