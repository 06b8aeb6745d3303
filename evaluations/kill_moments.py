"""`kill -9` at random moments of a grasp on the emulated controller: is any motion sent twice, is any store unreadable?

    python -m affordagent.evaluations.kill_moments --moments 30 --seed 0 --host 127.0.0.1 --out kills.json

Each run is the real session: graph, checkpoints, journal, driver, and the emulator's plain plant. Only words and mask
are given (no models to load), and the picture is a simulated cell's. The process is killed at a random moment, then
`resume` is started in a new one, which may be killed too, until the run has ended. What was sent is counted by the
controller itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.graph_run import CHECKPOINTS_FILE
from affordagent.agent.results import RESULT_FILE
from affordagent.agent.resume import read_run
from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.core.journal import MOTIONS_FILE, Motion, read_motions
from affordagent.core.run_store import EVENTS_FILE, RunStore, write_frame, write_json
from affordagent.core.types import Candidate, FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.gripper import ROBOTIQ_FORCE_N, ROBOTIQ_STROKE_M, RobotiqGripper
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.limits import MotionLimits
from affordagent.robot.ur5.status import read_at_rest

COMMAND = "pick up the hammer by its handle"
MASKS_FILE = "given.npz"
OBJECT_M = 0.022  # what the plain plant has between the fingers when they close
QUICK = MotionLimits(joint_speed_rad_s=2.5, joint_acceleration_rad_s2=10.0, approach_speed_m_s=0.4)
RUN_MOST_S, POLL_S = 120.0, 0.002
AGAIN = 0.4  # share of the restarts that are killed too
MOST_RESTARTS = 6
SAME_RAD, SAME_M = 0.02, 0.002
HICCUP_S = 0.6  # set-points that come so late still belong to their stream; a restart takes longer

_fork = multiprocessing.get_context("fork")  # the imports are made once


@dataclass(frozen=True)
class GivenTools(Tools):
    """Words and masks are given, the masks in `folder`; no models are loaded."""

    folder: Path | None = None

    def load(self) -> None:
        """There is nothing to load."""

    def understand(self, text: str, see: Callable[[], NDArray[np.uint8]] | None = None) -> FunctionalQuery:
        hammer = Candidate(name="hammer", score=1.0, known=True)
        return FunctionalQuery(text=text, intent="pick", category="hammer", candidates=[hammer], part="handle")

    @cached_property
    def grounder(self) -> GivenTools:
        return self

    @cached_property
    def fallback(self) -> GivenTools:
        return self

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        assert self.folder is not None
        with np.load(self.folder / MASKS_FILE) as masks:
            return [PartMask(masks["part"], masks["object"], 1.0, "given")]


def prepare(folder: Path, host: str) -> tuple[Settings, GivenTools]:
    """A picture of the simulated bench in `folder`, the settings of a cell that sees it, and the hammer's true mask."""
    from affordagent.robot.sim.cell import SimCell
    from affordagent.robot.sim.scene import sample_scene

    with SimCell(sample_scene("bench", 0)) as cell:
        write_frame(folder / "given", cell.look())
        hammer = next(thing for thing in cell.truth() if thing.category == "hammer")
    camera = CameraConfig(source=f"files:{folder / 'given'}", stale_s=86400.0)
    settings = Settings(cell=f"ur5:{host}", limits=QUICK, camera=camera)
    np.savez_compressed(folder / MASKS_FILE, part=hammer.part_mask, object=hammer.mask)
    return settings, GivenTools(folder=folder)


@dataclass
class Moment:
    """One run and its deaths. killed: (seconds after the start of the process, stage under way) of each kill. sent:
    motions that the controller saw; repeated: those it saw more than once; journal: steps begun."""

    seed: int
    killed: list[tuple[float, str]] = field(default_factory=list)
    outcome: str = ""
    code: str | None = None
    sent: int = 0
    repeated: int = 0
    journal: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    wall_s: float = 0.0


def one_moment(seed: int, folder: Path, settings: Settings, tools: GivenTools, spans_s: tuple[float, float]) -> Moment:
    """Run, kill, resume until the run has ended. Every other seed's kill falls into the motions. spans_s: how long a
    run takes that nobody kills, and its motions."""
    rng = np.random.default_rng(seed)
    moment, start = Moment(seed), time.monotonic()
    host = settings.cell.partition(":")[2]
    with EmulatorClient(host) as emulator:
        reset(emulator, host)
        before = len(emulator.motions())
        in_motion = seed % 2 == 1
        die_after_s: float | None = float(rng.uniform(0, spans_s[in_motion]))
        resuming = False
        while not (folder / RESULT_FILE).is_file():
            if len(moment.killed) > MOST_RESTARTS:
                raise RuntimeError(f"seed {seed}: the run does not end: {moment}")
            died_s = in_a_process(folder, settings, tools, resuming, die_after_s, in_motion)
            if died_s is not None:
                moment.killed.append((round(died_s, 3), stage_under_way(folder)))
                moment.unreadable += unreadable_stores(folder)
            resuming = bool(RunStore(folder).events())
            again = resuming and rng.random() < AGAIN
            die_after_s, in_motion = float(rng.uniform(0, spans_s[0])) if again else None, False
        seen = emulator.motions()[before:]
    left = read_run(folder)
    assert left.ended is not None
    moment.outcome, moment.code = left.ended.outcome, (left.ended.failure or {}).get("code")
    moment.journal = [motion.step for motion in left.motions]
    moment.sent, moment.repeated = len(seen), repeated(seen, left.motions)
    moment.unreadable += unreadable_stores(folder)
    moment.wall_s = round(time.monotonic() - start, 1)
    return moment


def reset(emulator: EmulatorClient, host: str) -> None:
    """The arm waits as at the start of a day, with an empty hand."""
    emulator.clear()
    emulator.place(LOOK_Q)
    emulator.object(OBJECT_M)
    with closing(RobotiqGripper(host)) as gripper:
        gripper.activate()
        gripper.move(ROBOTIQ_STROKE_M, ROBOTIQ_FORCE_N[0])
        read_at_rest(gripper)


def in_a_process(
    folder: Path, settings: Settings, tools: GivenTools, resuming: bool, die_after_s: float | None, in_motion: bool
) -> float | None:
    """Run or resume in a new process, killed after `die_after_s`, counted from its first motion if `in_motion`. Returns
    when that was; None if it ended before."""
    process = _fork.Process(target=_work, args=(folder, settings, tools, resuming))
    start = time.monotonic()
    process.start()
    while in_motion and process.is_alive() and not (folder / MOTIONS_FILE).exists():
        time.sleep(POLL_S)
    process.join(RUN_MOST_S if die_after_s is None else die_after_s)
    died_s = time.monotonic() - start if process.is_alive() else None
    process.kill()
    process.join()
    if died_s is not None and die_after_s is None:
        raise RuntimeError(f"{folder}: not at its end after {RUN_MOST_S} s")
    if died_s is None and process.exitcode != 0:
        raise RuntimeError(f"{folder}: the process ended with {process.exitcode}")
    return died_s


def _work(folder: Path, settings: Settings, tools: GivenTools, resuming: bool) -> None:
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        with Session(settings, tools) as session:
            if resuming:
                session.resume(folder, ask=lambda question: True, say=lambda line: print(line, flush=True))
            else:
                session.run(COMMAND, folder, ask=lambda question: True)


def stage_under_way(folder: Path) -> str:
    """What a run that was just killed was doing: its open motion, or else what it had last finished."""
    motions = read_motions(folder / MOTIONS_FILE)
    if motions:
        return f"{'in' if motions[-1].ended is None else 'after'} {motions[-1].step}"
    stages = [event["stage"] for event in RunStore(folder).events() if event["event"] == "stage"]
    return f"after {stages[-1]}" if stages else "before the first stage"


def unreadable_stores(folder: Path) -> list[str]:
    """The stores of a run folder that cannot be opened and read to the end."""
    broken = []
    for name in (MOTIONS_FILE, CHECKPOINTS_FILE):
        if (folder / name).is_file():
            with closing(sqlite3.connect(folder / name)) as database:
                try:
                    if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                        broken.append(name)
                except sqlite3.DatabaseError as error:
                    broken.append(f"{name}: {error}")
    if (folder / EVENTS_FILE).is_file():
        RunStore(folder).events()
    return broken


def repeated(seen: list[dict[str, Any]], journal: list[Motion]) -> int:
    """How many of the controller's motions no step of the journal accounts for, each step at most once and in order. A
    step need not be seen: it may have been cut off before it was sent, or the fingers were there already."""
    of_arm, of_fingers = ([m for m in journal if key in m.goal] for key in ("positions", "width_m"))
    steps = {False: iter(of_arm), True: iter(of_fingers)}
    unaccounted, last_s = 0, -np.inf
    for motion in seen:
        is_grip = motion["kind"] == "gripper"
        same_stream = not is_grip and motion["t0"] - last_s < HICCUP_S  # this computer had been busy
        unaccounted += not same_stream and not any(_is_of(motion, step) for step in steps[is_grip])
        last_s = last_s if is_grip else motion["t1"]
    return unaccounted


def _is_of(motion: dict[str, Any], step: Motion) -> bool:
    if motion["kind"] == "gripper":
        return abs(motion["target"][0] - step.goal["width_m"]) < SAME_M
    return _apart_rad(motion["start"], step.start["positions"]) < SAME_RAD


def _apart_rad(q: list[float], other: list[float]) -> float:
    return float(np.abs(np.subtract(q, other)).max())


def summarise(moments: list[Moment]) -> dict[str, Any]:
    """Counts over all moments."""
    kills = [where for moment in moments for _, where in moment.killed]
    return {
        "moments": len(moments),
        "kills": len(kills),
        "killed_where": dict(Counter(kills).most_common()),
        "outcomes": dict(Counter(f"{m.outcome} {m.code or ''}".strip() for m in moments).most_common()),
        "motions_sent": sum(m.sent for m in moments),
        "motions_repeated": sum(m.repeated for m in moments),
        "unreadable_stores": sum(len(m.unreadable) for m in moments),
    }


def kill_moments(count: int, seed: int, host: str, folder: Path) -> list[Moment]:
    """`count` runs with an emulator of its own on `host`; run folders and logs are left in `folder`."""
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    settings, tools = prepare(folder, host)
    with start_emulator(host) as emulator:
        reset(emulator.admin, host)
        start = time.monotonic()
        in_a_process(folder / "undisturbed", settings, tools, False, None, False)
        span_s = time.monotonic() - start
        left = read_run(folder / "undisturbed")
        if left.ended is None or left.ended.outcome != "success":
            raise RuntimeError(f"the undisturbed run failed: {left.ended}")
        first, last = left.motions[0].begun, left.motions[-1].ended or ""
        spans_s = span_s, (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
        return [one_moment(s, folder / f"moment-{s}", settings, tools, spans_s) for s in range(seed, seed + count)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1", help="loopback address of the emulator that is started")
    parser.add_argument("--folder", type=Path, help="keep the run folders here")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        moments = kill_moments(args.moments, args.seed, args.host, folder.resolve())
    result = {"first_seed": args.seed, **summarise(moments), "each": [asdict(m) for m in moments]}
    write_json(args.out, result)
    print(json.dumps(summarise(moments), indent=1))


if __name__ == "__main__":
    main()
