"""A run whose process died: what it left behind, whether it can go on, and how it is given up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affordagent.agent.graph_run import Ask, GraphRun
from affordagent.agent.results import RESULT_FILE, RunResult, fields_of, result_of, write_result
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, Refused, StageFailure
from affordagent.core.journal import MOTIONS_FILE, Motion, MotionJournal, read_motions
from affordagent.core.run_store import EVENTS_FILE, RunStore
from affordagent.core.types import StageRecord
from affordagent.graphs.state import GraspState
from affordagent.robot.ur5.commander import Commander

FRESH_S = 60.0  # a real cell is looked at anew when its picture is older
RESUME_WITHIN_S = 600.0  # after a motion; later nobody knows what has become of the cell
WITHDRAWN = "retreat"  # nothing is sent after this step, whatever the plan
_KEPT = ("cell", "scene", "seed", "noise", "vlm", "vision_tower", "fallback", "sure_above", "present_above", "dry_run")


@dataclass(frozen=True)
class LeftRun:
    """A run folder as its process left it. settings: those it was started with. thread: its name in the checkpoints.
    stages: of those that ended. looked: when the cell was last looked at. ended: its result, if it has come to one."""

    folder: Path
    command: str
    settings: dict[str, Any]
    thread: str
    stages: list[dict[str, Any]]
    looked: datetime | None
    motions: list[Motion]
    ended: RunResult | None

    @property
    def summary(self) -> str:
        """What was found, for a person."""
        done = [motion.step for motion in self.motions if motion.ended]
        cut = [motion.step for motion in self.motions if not motion.ended]
        last = self.stages[-1]["stage"] if self.stages else "none"
        said = f"last stage that ended: {last}; motions that ended: {', '.join(done) or 'none'}"
        return f"{said}; cut off: {cut[0]}" if cut else said

    @property
    def is_under_way(self) -> bool:
        """A motion has begun, and what became of the run is not known."""
        return self.ended is None and bool(self.motions)


def read_run(folder: Path) -> LeftRun:
    """Read a run folder.

    Raises:
        AffordAgentError: it holds no run.
    """
    store = RunStore(folder)
    events = store.events()
    start = next((e for e in events if e["event"] == "start"), None)
    if start is None:
        raise AffordAgentError(f"{folder} holds no run: its {EVENTS_FILE} is missing, or has no start")
    stages = [e for e in events if e["event"] == "stage"]
    looks = [e["time"] for e in stages if e["stage"] == "look"]
    file = folder / RESULT_FILE
    return LeftRun(
        folder=folder,
        command=start["command"],
        settings=start["settings"],
        thread=start["run"],
        stages=[{k: v for k, v in e.items() if k not in ("time", "event")} for e in stages],
        looked=datetime.fromisoformat(looks[-1]) if looks else None,
        motions=read_motions(folder / MOTIONS_FILE),
        ended=result_of(store, json.loads(file.read_text())) if file.is_file() else None,
    )


def settings_to_resume(left: LeftRun, file: Path | None) -> Settings:
    """The run's own cell, scene, seed and model with the limits of today's settings file, and the lower of the two
    speeds; asked is when either asks."""
    today = Settings.load(file)
    kept = {key: left.settings[key] for key in _KEPT if key in left.settings}  # an older run has fewer
    speed = min(today.speed, left.settings["speed"])
    return Settings.load(file, **kept, speed=speed, confirm=today.confirm or left.settings["confirm"])


def runs_under_way(folders: Iterable[Path], cell: str) -> list[LeftRun]:
    """The runs of `cell` among run folders that began a motion and never came to an end."""
    unfinished = [f for f in folders if (f / MOTIONS_FILE).is_file() and not (f / RESULT_FILE).is_file()]
    return [left for left in map(read_run, unfinished) if left.is_under_way and left.settings["cell"] == cell]


def refuse_after_a_crash(commander: Commander, runs: Path, cell: str) -> None:
    """Before a new command: was a run of this arm cut off in motion, in `runs` or the last that the lock remembers?

    Raises:
        StageFailure: ("execute", "execution.interrupted"): so it was; it must be resumed or abandoned first.
    """
    folders = {f.resolve() for f in runs.iterdir()} if runs.is_dir() else set()
    last = {commander.last_run} if commander.last_run is not None else set()
    for left in runs_under_way(sorted(folders | last), cell):
        raise StageFailure(
            "execute",
            "execution.interrupted",
            f"the run in {left.folder} was cut off ({left.summary}) and the arm may hold something. Go on "
            f"with it first (`affordagent resume {left.folder}`) or give it up (the same with --abandon)",
            run_dir=str(left.folder),
        )


def why_lost(left: LeftRun) -> str | None:
    """Why the run cannot go on, as far as its folder tells; None when it may."""
    if not left.motions:
        return None
    last = left.motions[-1]
    if left.settings["cell"] == "sim":
        return f"{last.step} had begun, and the simulated world is gone with its process"
    since_s = seconds_since(datetime.fromisoformat(last.ended or last.begun))
    if since_s > RESUME_WITHIN_S:
        return f"the last motion ({last.step}) was {since_s / 60:.0f} minutes ago, at most {RESUME_WITHIN_S / 60:.0f}"
    return None


def way_on(left: LeftRun, run: GraphRun, ask: Ask, say: Callable[[str], None]) -> GraspState | None:
    """What to give to `run.carry_on` so that the run goes on where it should; looks at the arm, sends it nothing.

    Raises:
        StageFailure: ("execute", code): execution.interrupted: the run must be abandoned; other codes: the arm cannot
            be read or made ready, which leaves the run as it is.
        Refused: ("execute", "execution.declined"): the person does not want the next motion now.
    """
    from affordagent.tools.execution import settle
    from affordagent.tools.steps import all_steps

    lost = why_lost(left)
    if lost is not None:
        raise given_up(left, lost)
    if not left.motions:
        return _before_any_motion(left, run, say)
    arm = run.bench.arm
    if arm is None or not run.values:
        raise given_up(left, "the cell has no arm, or the run's checkpoints are gone")
    with MotionJournal(left.folder / MOTIONS_FILE) as journal:
        found = settle(arm, journal)
        last = journal.motions()[-1]
    say(found)
    steps = all_steps(run.bench.store.get("plan"), run.bench.hand_over)
    if last.step not in (steps[-1].name, WITHDRAWN) and (last.result is None or last.result["reached"]):
        if not ask({"question": f"{found}. {_what_follows(last.step, [step.name for step in steps])}"}):
            raise Refused("execute", "execution.declined", f"{found}. Declined: nothing moved; it can be resumed later")
        mended = arm.make_ready()
        say(f"going on after {last.step}{'; ' if mended else ''}{', '.join(mended)}")
    return None


def _what_follows(last: str, steps: list[str]) -> str:
    """The question before a run goes on after the step `last`: which steps follow, and where the fingers open."""
    from affordagent.tools.steps import LET_GO, OFFER

    offered = last.startswith(OFFER)
    if not offered and last not in steps:
        return f"Go on with {WITHDRAWN}?"
    following = steps[steps.index(OFFER if offered else last) + (not offered) :]  # a wait is begun anew
    wait = "It is held out until it is pulled. " if OFFER in following else ""
    falls = "" if wait or LET_GO not in following else "The fingers open: what they hold is let go. "
    return f"{wait}{falls}Go on with {', '.join(following)}?"


def _before_any_motion(left: LeftRun, run: GraphRun, say: Callable[[str], None]) -> GraspState | None:
    """Nothing has moved: go on, but look and plan anew where the world may have changed."""
    if not run.values:
        say("resuming from the start")
        return GraspState(command=left.command)
    following = run.following
    old = left.looked is not None and seconds_since(left.looked) > FRESH_S
    if old and following and run.bench.cell.is_hardware:
        say("nothing has moved; the picture is old: looking again")
        run.go_back_to_after("understand")
    elif following and following[0] in ("confirm", "execute"):
        say("nothing has moved: planning again with today's limits, from where the arm is")
        run.go_back_to_after("propose")
    else:
        say(f"nothing has moved: going on with {following[0] if following else 'the result'}")
    return None


def seconds_since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()


def abandon(left: LeftRun, failure: StageFailure, settings: Settings) -> RunResult:
    """End the run as failed, for good. Nothing is sent to the arm."""
    store = RunStore(left.folder)
    record = asdict(StageRecord("execute", "failed", failure.code, 0.0, 0.0, failure.message, failure.evidence))
    store.event("stage", **record)
    state = {"outcome": "failure", "failure": fields_of(failure), "stages": [*left.stages, record]}
    return write_result(store, left.command, settings, state)


def given_up(left: LeftRun, why: str) -> StageFailure:
    """The failure of a run that is abandoned."""
    message = f"abandoned: {why}. {left.summary}. Nothing is sent again; give the command anew"
    motions = [motion.step for motion in left.motions]
    return StageFailure("execute", "execution.interrupted", message, motions=motions)
