"""What a person who asks is told: from the last picture, the run folders and the talk itself. Nothing moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from affordagent.agent.session import Session
from affordagent.agent.talk import answers
from affordagent.agent.talk.outcomes import latest
from affordagent.agent.talk.questions import ABLE
from affordagent.agent.talk.seeing import label_of, said_of_things, seen_things, sought
from affordagent.agent.talk.steps import name_of
from affordagent.core.errors import StageFailure
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, RgbdFrame, TableScene
from affordagent.graphs.dialogue import Act, TalkState
from affordagent.robot.interface import LOOK_Q, ArmState, Cell
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD


@dataclass(frozen=True)
class Known:
    """What an answer may be taken from. root: folder of the runs. under_way: the run that waits for a yes."""

    session: Session
    root: Path
    state: TalkState
    under_way: Path | None = None


def told(known: Known, act: Act) -> str:
    """The answer to what a turn wants to know."""
    about, state = act["about"], known.state
    last = latest(known.root, state.get("last"))
    if about == "held":
        return answers.about_held(state.get("held"))
    if about == "failed":
        return answers.about_failure(last)
    if about == "why":
        return answers.about_choice(known.under_way or latest(known.root, state.get("seen")))
    if about == "plan":
        return answers.about_plan(known.under_way or last)
    if about == "again":
        said = [turn["text"] for turn in state.get("turns", []) if turn["who"] == "robot"]
        return said[-1] if said and state.get("asked") is None else "I asked:" if said else ABLE
    return ABLE if about == "able" else _seen(known, act)


def _seen(known: Known, act: Act) -> str:
    """From a new picture where the arm is out of the way, else from the last one."""
    try:
        picture = _picture(known)
    except StageFailure as failure:
        return failure.message
    if picture is None:
        return "My arm is in the camera's view, and I have no earlier picture."
    frame, scene, when = picture
    tools, settings = known.session.tools, known.session.settings
    if act["about"] == "seen" or not scene.proposals:
        return said_of_things(seen_things(tools.namer, frame, scene), when)
    query = FunctionalQuery.model_validate(act["query"])
    pair = (tools.grounder, tools.fallback)
    found = sought(pair, frame, scene, query, settings.sure_above, settings.present_above)
    name = name_of(query)
    if found.part is None:
        return f"{when}I see no {name}: that there is one is {100 * found.presence:.0f} % likely."
    return f"{when}I see the {name}: {label_of(frame, scene, found.part)} ({100 * found.confidence:.0f} % sure)."


def _picture(known: Known) -> tuple[RgbdFrame, TableScene, str] | None:
    """Picture, table, and when it was taken, for a person.

    Raises:
        StageFailure: what the camera or the picture lacks.
    """
    arm = known.session.cell.arm
    if known.under_way is None and (arm is None or is_out_of_the_way(arm.read())):
        return *look_at_table(known.session.cell), ""
    folder = known.under_way or latest(known.root, known.state.get("seen"))
    store = None if folder is None else RunStore(folder)
    if store is None or not (store.has("frame") and store.has("table")):
        return None
    when = "" if known.under_way is not None else "In my last picture, from before I moved: "
    return store.get("frame"), store.get("table"), when


def is_out_of_the_way(state: ArmState) -> bool:
    """Is the arm where the camera sees past it?"""
    return float(np.abs(state.positions - LOOK_Q).max()) < GOAL_TOLERANCE_RAD


def look_at_table(cell: Cell) -> tuple[RgbdFrame, TableScene]:
    """A new picture, with the camera's pose estimated where it is not known, and what stands on the table.

    Raises:
        StageFailure: what the camera or the picture lacks.
    """
    from affordagent.tools.camera_pose import estimate_T_base_camera
    from affordagent.tools.table import find_objects

    frame = cell.look()
    scene = find_objects(frame)
    if frame.T_base_camera is None:
        frame = replace(frame, T_base_camera=estimate_T_base_camera(frame, scene)[0])
    return frame, scene
