"""Known faults, put into one stage of a simulated trial, to see whether the right stage is blamed.

Each is a swap of a node (`Workbench.swaps`): the usual stage runs, and what it made is spoilt, or it runs with a camera
or an arm that has the fault. What was done is in the stage's evidence under `injected`. Equal seeds spoil alike, so a
replay meets the same fault. A replay that repairs a cause leaves out the faults of that cause; all others stay.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from affordagent.core.errors import AffordAgentError, NeedsClarification, Refused, StageFailure
from affordagent.evaluations.causes import spoil_moving as moving
from affordagent.evaluations.causes import spoil_seeing as seeing
from affordagent.evaluations.causes.injection import Fault, Injection, Spoiler, afterwards, ending
from affordagent.graphs import grounding, stages
from affordagent.graphs import moving as motion_stages
from affordagent.graphs.state import Stage
from affordagent.robot.sim.cell import SimCell

__all__ = ["FAULTS", "NAMES", "Fault", "applies", "swaps_of", "swaps_of_all"]

FAULTS = (
    Fault("language", "misread category"),
    Fault("language", "misread part"),
    Fault("language", "misread colour"),
    Fault("language", "refused"),
    Fault("language", "needless question"),
    Fault("depth", "noise, m", 0.01),
    Fault("depth", "noise, m", 0.02),
    Fault("depth", "hole, share of the part", 0.6),
    Fault("depth", "hole, share of the part", 1.0),
    Fault("depth", "too far, m", 0.02),
    Fault("depth", "too far, m", 0.04),
    Fault("depth", "beside the colours, px", 10),
    Fault("depth", "beside the colours, px", 20),
    Fault("calibration", "hand-eye, m", 0.005),
    Fault("calibration", "hand-eye, m", 0.01),
    Fault("calibration", "hand-eye, m", 0.02),
    Fault("calibration", "hand-eye, m", 0.03),
    Fault("calibration", "hand-eye, degrees", 1.0),
    Fault("calibration", "hand-eye, degrees", 3.0),
    Fault("calibration", "sunk camera, m", 0.05),
    Fault("calibration", "tcp, m", 0.01),
    Fault("calibration", "tcp, m", 0.03),
    Fault("grounding", "mask shifted, m", 0.02),
    Fault("grounding", "mask shifted, m", 0.05),
    Fault("grounding", "wrong object"),
    Fault("grounding", "wrong instance"),
    Fault("grounding", "wrong part"),
    Fault("grounding", "under-segmented"),
    Fault("grounding", "over-segmented, share", 0.15),
    Fault("grounding", "blank mask"),
    Fault("grounding", "not found"),
    Fault("grasp", "badly ranked, kept", 1),
    Fault("grasp", "off the mask, m", 0.03),
    Fault("grasp", "off the mask, m", 0.06),
    Fault("grasp", "turned, degrees", 45.0),
    Fault("grasp", "turned, degrees", 90.0),
    Fault("grasp", "shallow, m", 0.03),
    Fault("grasp", "none"),
    Fault("planning", "wrong goal, m", 0.02),
    Fault("planning", "wrong goal, m", 0.05),
    Fault("planning", "short lift, share", 0.3),
    Fault("planning", "start beside the arm, rad", 0.2),
    Fault("planning", "no path"),
    Fault("execution", "slippery, friction", 0.005),
    Fault("execution", "slippery, friction", 0.02),
    Fault("execution", "weak grip, share of the force", 0.03),
    Fault("execution", "half closed, m", 0.06),
    Fault("execution", "jammed, m", 0.01),
    Fault("execution", "dropped, share of the lift", 0.5),
    Fault("execution", "early stop, share of the approach", 0.5),
    Fault("execution", "early stop, share of the lift", 0.3),
    Fault("execution", "link lost, share of the lift", 0.5),
)
"""What a study injects. Any other size may be asked for too."""

_USUAL: dict[str, Stage] = {
    "understand": stages.understand,
    "look": stages.look,
    "ground": grounding.ground,
    "ground_again": grounding.ground_again,
    "propose": stages.propose,
    "plan": motion_stages.plan,
    "execute": motion_stages.execute,
}

_GROUND = ("ground", "ground_again")
_SPOILERS: dict[str, tuple[tuple[str, ...], Spoiler]] = {  # name -> nodes, what is done to them
    "misread category": (("understand",), afterwards(seeing.misread_category)),
    "misread part": (("understand",), afterwards(seeing.misread_part)),
    "misread colour": (("understand",), afterwards(seeing.misread_colour)),
    "refused": (("understand",), ending(partial(Refused, "understand", "language.refused"))),
    "needless question": (("understand",), ending(partial(NeedsClarification, "understand", "language.ambiguous"))),
    "noise, m": (("look",), seeing.looking(seeing.depth_noise)),
    "hole, share of the part": (("look",), seeing.looking(seeing.depth_hole)),
    "too far, m": (("look",), seeing.looking(seeing.depth_offset)),
    "beside the colours, px": (("look",), seeing.looking(seeing.depth_shifted)),
    "hand-eye, m": (("look",), seeing.looking(seeing.hand_eye)),
    "hand-eye, degrees": (("look",), seeing.looking(seeing.hand_eye_turned)),
    "sunk camera, m": (("look",), seeing.looking(seeing.sunk)),
    "tcp, m": (("execute",), moving.rebuilding(moving.tcp_offset)),
    "mask shifted, m": (_GROUND, seeing.masking(seeing.shifted)),
    "wrong object": (_GROUND, seeing.masking(seeing.wrong_object)),
    "wrong instance": (_GROUND, seeing.masking(seeing.wrong_instance)),
    "wrong part": (_GROUND, seeing.masking(seeing.wrong_part)),
    "under-segmented": (_GROUND, seeing.masking(seeing.under_segmented)),
    "over-segmented, share": (_GROUND, seeing.masking(seeing.over_segmented)),
    "blank mask": (_GROUND, seeing.masking(seeing.blank)),
    "not found": (_GROUND, ending(partial(StageFailure, "ground", "grounding.not_found"))),
    "badly ranked, kept": (("propose",), moving.grasping(moving.badly_ranked)),
    "off the mask, m": (("propose",), moving.grasping(moving.off_mask)),
    "turned, degrees": (("propose",), moving.grasping(moving.turned)),
    "shallow, m": (("propose",), moving.grasping(moving.shallow)),
    "none": (("propose",), ending(partial(StageFailure, "propose", "grasp.none"))),
    "wrong goal, m": (("plan",), moving.wrong_goal),
    "short lift, share": (("plan",), moving.replanning(moving.short_lift)),
    "start beside the arm, rad": (("plan",), moving.replanning(moving.start_aside)),
    "no path": (("plan",), ending(partial(StageFailure, "plan", "planning.no_path"))),
    "slippery, friction": (("execute",), moving.rebuilding(moving.slippery)),
    "weak grip, share of the force": (("execute",), moving.rebuilding(moving.weak)),
    "half closed, m": (("execute",), moving.by_arm(moving.half_closed)),
    "jammed, m": (("execute",), moving.by_arm(moving.jammed)),
    "dropped, share of the lift": (("execute",), moving.by_arm(moving.dropping)),
    "early stop, share of the approach": (("execute",), moving.by_arm(moving.stopping("approach"))),
    "early stop, share of the lift": (("execute",), moving.by_arm(moving.stopping("lift"))),
    "link lost, share of the lift": (("execute",), moving.by_arm(moving.losing_link("lift"))),
}
NAMES = tuple(_SPOILERS)


def swaps_of(fault: Fault, cell: SimCell, seed: int) -> dict[str, Stage]:
    """Node -> the stage with the fault in it, for `Session.run(..., swaps=)`.

    cell: of the trial; its `gold` is set, and for some faults it must be one that `applies` allows. seed: of what is
    drawn; the same again spoils alike.

    Raises:
        AffordAgentError: no such fault.
    """
    return swaps_of_all([fault], cell, seed)


def swaps_of_all(faults: Sequence[Fault], cell: SimCell, seed: int, repaired: Collection[str] = ()) -> dict[str, Stage]:
    """As `swaps_of`, of several faults at once, those at one node one after the other.

    repaired: causes whose faults are left out.
    """
    swaps: dict[str, Stage] = {}
    for fault in faults:
        if fault.name not in _SPOILERS:
            raise AffordAgentError(f"no fault is called '{fault.name}'; there are: {', '.join(NAMES)}")
        if fault.cause in repaired:
            continue
        nodes, spoil = _SPOILERS[fault.name]
        injection = Injection(fault, cell, seed)
        swaps |= {node: spoil(injection, swaps.get(node, _USUAL[node])) for node in nodes}
    return swaps


def applies(fault: Fault, cell: SimCell) -> bool:
    """Can this fault be in this scene? A wrong part needs a thing of several parts, a twin needs two of a kind."""
    injection = Injection(fault, cell, 0)
    match fault.name:
        case "misread category" | "wrong object":
            return any(thing.category != injection.target.category for thing in injection.others)
        case "misread part" | "wrong part":
            return bool(seeing.other_parts(injection))
        case "misread colour" | "wrong instance":
            return bool(seeing.twins(injection))
    return True
