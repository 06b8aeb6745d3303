"""Every code of the superset of failure terms is reached by injecting that fault, under the name that it has here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fault_matrix
import numpy as np
import pytest
import trimesh
from test_grasping import bar, cloud_of, failure_of, wall
from test_motion import BAR, GRASP, LIMITS, NOTHING, box, cloud, top_down
from vlm_service import Faulty, serving

from affordagent.agent.session import Tools
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import rigid
from affordagent.core.types import Grasp, Verdict
from affordagent.evaluations.causes.attribute import Scene, reenact, verify_code
from affordagent.evaluations.causes.comparison import Run, first_failing
from affordagent.evaluations.causes.faults import Fault
from affordagent.evaluations.causes.taxonomy import code_of
from affordagent.evaluations.commands.command import CommandGold
from affordagent.evaluations.runner.trial import Trial
from affordagent.graphs import grounding, moving, stages
from affordagent.graphs.attribution import MemoryStore
from affordagent.graphs.state import GraspState, Workbench
from affordagent.robot.frame_cell import FrameCell
from affordagent.robot.interface import LOOK_Q, READY_Q
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.vlm_client import VlmClient

PAGE = Path(__file__).parents[1] / "docs" / "attribution.md"

SUPERSET = """
language.{misread_function, ambiguous_unasked, needless_question, refused, tool_format}
camera.{stale, no_frame}
grounding.{not_found, empty_mask, wrong_object, wrong_instance, wrong_part, under_segmented, over_segmented}
tool.{out_of_memory, timeout, blank_quantised, fallback_used}
depth.{hole, transparent, noisy, misaligned}
calibration.{hand_eye, tcp, drift}
grasp.{none, off_mask, too_wide, unstable, collides_scene, collides_surface, unreachable, badly_ranked}
planning.{ik, joint_limit, start_in_collision, no_path, singularity}
execution.{protective_stop, emergency_stop, comms, gripper, no_contact, slip, drop, timeout, human_stop}
verify.{false_success, false_failure, unknown}
scene.{occluded, blocked, moved}
"""
CODES = {f"{g}.{c}" for g, some in re.findall(r"(\w+)\.\{(.+)\}", SUPERSET) for c in some.split(", ")}
HERE = {  # where it has another name
    "language.tool_format": "read_by",
    "tool.out_of_memory": "tool.unavailable",
    "tool.timeout": "tool.unavailable",
    "tool.blank_quantised": "grounding.empty_mask",
    "tool.fallback_used": "part_mask.json",
    "planning.joint_limit": "planning.ik",
    "execution.human_stop": "execution.stopped",
    "scene.occluded": "grounding.empty_mask",
    "scene.moved": "execution.no_contact",
}

Code = str
SEEN: dict[Code, Fault] = {  # found by comparison with the truth, before anything moves
    "language.misread_function": Fault("language", "misread category"),
    "language.needless_question": Fault("language", "needless question"),
    "language.refused": Fault("language", "refused"),
    "grounding.not_found": Fault("grounding", "not found"),
    "grounding.empty_mask": Fault("grounding", "blank mask"),
    "grounding.wrong_object": Fault("grounding", "wrong object"),
    "grounding.wrong_part": Fault("grounding", "wrong part"),
    "grounding.under_segmented": Fault("grounding", "under-segmented"),
    "grounding.over_segmented": Fault("grounding", "over-segmented, share", 0.3),
    "depth.hole": Fault("depth", "hole, share of the part", 1.0),
    "depth.transparent": Fault("depth", "too far, m", 0.02),
    "depth.noisy": Fault("depth", "noise, m", 0.02),
    "depth.misaligned": Fault("depth", "beside the colours, px", 10),
    "calibration.hand_eye": Fault("calibration", "hand-eye, m", 0.02),
    "calibration.drift": Fault("calibration", "sunk camera, m", 0.05),
    "grasp.none": Fault("grasp", "none"),
    "planning.no_path": Fault("planning", "no path"),
}
DONE: dict[Code, Fault] = {  # found once it has moved
    "calibration.tcp": Fault("calibration", "tcp, m", 0.03),
    "grasp.off_mask": Fault("grasp", "off the mask, m", 0.06),
    "grasp.unstable": Fault("grasp", "shallow, m", 0.02),
    "execution.slip": Fault("execution", "slippery, friction", 0.05),
    "execution.drop": Fault("execution", "dropped, share of the lift", 0.5),
    "execution.no_contact": Fault("execution", "half closed, m", 0.06),
    "execution.gripper": Fault("execution", "jammed, m", 0.01),
    "execution.protective_stop": Fault("execution", "early stop, share of the approach", 0.5),
    "execution.comms": Fault("execution", "link lost, share of the lift", 0.5),
}
MUG = Trial(
    suite="test",
    scene="kitchen",
    seed=2,
    masks="truth",
    text="pick up the mug by its handle",
    gold=CommandGold(categories=("mug",), part="handle"),
    command_id="mug",
    group="mug",
)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with reenact(MUG, Tools()) as scene:
        yield scene


@pytest.fixture(scope="module")
def clean(scene: Scene) -> Run:
    """Up to the plan."""
    run = planned(scene)
    assert run.outcome == "planned"
    return run


def planned(scene: Scene, base: Run | None = None) -> Run:
    still = replace(scene, bench=replace(scene.bench, dry_run=True))
    return still.run(frozenset(), base, set(still.faulty(())))


def named(scene: Scene, run: Run, cause: str) -> Code:
    return code_of(cause, run.code, scene.judge.findings(run)[cause].measures)


@pytest.mark.parametrize("code", SEEN)
def test_what_is_seen(scene: Scene, clean: Run, code: Code) -> None:
    fault = SEEN[code]
    faulty = replace(scene, faults=(fault,))
    run = planned(faulty, clean)
    assert first_failing(scene.judge.findings(run)) == fault.cause
    assert named(scene, run, fault.cause) == code


@pytest.mark.slow
@pytest.mark.parametrize("code", DONE)
def test_what_is_done(scene: Scene, clean: Run, code: Code) -> None:
    fault = DONE[code]
    faulty = replace(scene, faults=(fault,))
    start = clean if fault.cause == "grasp" else None
    run = faulty.run(frozenset(), start, set(faulty.faulty(())))
    assert run.outcome == "failure"
    assert named(scene, run, fault.cause) == code


def test_a_question_that_was_due(scene: Scene, clean: Run) -> None:
    judge = replace(scene.judge, truth=replace(scene.truth, expected="ask", gold=None))
    finding = judge.language(clean)
    assert finding.right is False
    assert code_of("language", None, finding.measures) == "language.ambiguous_unasked"


def test_the_twin() -> None:
    trial = MUG.model_copy(update={"scene": "twins", "seed": 5, "text": "pick it up", "gold": None, "target": None})
    things = _twins(5)
    gold = CommandGold(objects=(things[0],))
    with reenact(trial.model_copy(update={"gold": gold}), Tools()) as scene:
        run = planned(replace(scene, faults=(Fault("grounding", "wrong instance"),)))
        assert named(scene, run, "grounding") == "grounding.wrong_instance"


def _twins(seed: int) -> list[str]:
    from affordagent.robot.sim.scene import sample_scene

    objects = sample_scene("twins", seed).objects
    return [o.name for o in objects if sum(p.category == o.category for p in objects) > 1]


# ---- grasps and plans -----------------------------------------------------------------------------------------------


def ends_with(stage: Callable[[Workbench, GraspState], Any], scene: Scene, run: Run, **changed: Any) -> Code:
    """The code with which a stage ends on other artefacts than those of the run."""
    names = ("query", "frame", "table", "part_mask", "cloud", "grasps", "plan")
    artefacts = {name: run.store.get(name) for name in names} | changed
    scene.cell.restore(scene.start)
    with pytest.raises(StageFailure) as caught:
        stage(replace(scene.bench, store=MemoryStore(Path("unused"), artefacts)), GraspState(command=scene.command))
    return caught.value.code


def test_grasps_that_cannot_be(scene: Scene, clean: Run) -> None:
    block = trimesh.creation.box((0.15, 0.14, 0.12))
    block.apply_translation((0.45, 0, 0.06))
    assert failure_of(cloud_of(block)).code == "grasp.too_wide"
    walls = [wall(0.45 + dx) for dx in (-0.035, -0.02, 0.02, 0.035)]
    hemmed_in = cloud_of(bar(length=0.12, yaw=np.pi / 2), obstacles=np.concatenate(walls))
    assert failure_of(hemmed_in).code == "grasp.collides_scene"
    assert plan_code(Grasp(top_down(0.5, 0.0, -0.02), 0.03, 0.9)) == "grasp.collides_surface"
    grasps, T_base_camera = clean.store.get("grasps")
    far = replace(grasps, T_base_tcp=rigid(np.eye(3), [1.0, 0.0, 0.0]) @ grasps.T_base_tcp)
    assert ends_with(moving.plan, scene, clean, grasps=(far, T_base_camera)) == "grasp.unreachable"


def test_a_list_with_the_worst_in_front(scene: Scene, clean: Run) -> None:
    """One grasp in the air is chosen, valid ones stand behind it."""
    plan, (grasps, T_base_camera) = clean.store.get("plan"), clean.store.get("grasps")
    T = plan.grasp.T_base_tcp.copy()
    T[2, 3] += 0.08
    store = MemoryStore(
        Path("unused"), {n: clean.store.get(n) for n in ("query", "frame", "table", "part_mask", "cloud")}
    )
    store.put("grasps", (grasps, T_base_camera))
    store.put("plan", replace(plan, grasp=replace(plan.grasp, T_base_tcp=T)))
    finding = scene.judge.grasp(replace(clean, store=store))
    assert finding.right is False
    assert code_of("grasp", "execution.no_contact", finding.measures) == "grasp.badly_ranked"


def plan_code(
    grasp: Grasp, around: Any = NOTHING, start: Any = LOOK_Q, limits: MotionLimits = LIMITS, thing: Any = BAR
) -> Code:
    with pytest.raises(StageFailure) as caught:
        plan_grasp([grasp], cloud(thing, around), start, limits=limits)
    return caught.value.code


def test_plans_that_cannot_be() -> None:
    assert plan_code(Grasp(top_down(0.6, 0.0, 0.4), 0.03, 0.9)) == HERE["planning.joint_limit"] == "planning.ik"
    aside = box([1.5, 1.5, 0.0], [1.52, 1.52, 0.02])
    assert plan_code(Grasp(top_down(0.2 + 0.75 * 24 / 39, 0.0, 0.4), 0.03, 0.9), thing=aside) == "planning.singularity"
    below = ArmKinematics().inverse(top_down(0.5, 0, -0.05), READY_Q)[0]
    assert plan_code(GRASP, start=below) == "planning.start_in_collision"
    wall = box([-0.5, -0.3, 0.0], [0.95, -0.29, 1.15], 0.02)
    assert plan_code(GRASP, wall, limits=MotionLimits(planning_checks=300)) == "planning.no_path"
    lid = box([0.42, -0.015, 0.05], [0.58, 0.015, 0.07])
    assert plan_code(GRASP, lid) == "scene.blocked"


# ---- cameras and tools ----------------------------------------------------------------------------------------------


def test_cameras(tmp_path: Path, scene: Scene, clean: Run) -> None:
    with pytest.raises(StageFailure) as caught:
        FrameCell(tmp_path / "nothing").look()
    assert caught.value.code == "camera.no_frame"

    class RealCell:
        is_hardware = True

        def look(self) -> None:
            """It still answers."""

    old = replace(clean.store.get("frame"), stamp_s=0.0)
    bench: Any = replace(scene.bench, cell=RealCell(), store=MemoryStore(Path("unused"), {"frame": old}))
    with pytest.raises(StageFailure) as caught:
        moving.check_sight(bench)
    assert caught.value.code == "camera.stale"


@pytest.mark.parametrize("what", ["out of memory", "timeout"])
def test_a_model_that_gives_up(scene: Scene, clean: Run, what: str) -> None:
    """Behind a server, of which the run says that it fails."""
    from affordagent.tools.published_vlm import PublishedVlmTool

    model = Faulty()
    if what == "timeout":
        model.go_on.clear()
    else:
        model.error = MemoryError("CUDA out of memory")
    with serving(model) as url:
        tool = PublishedVlmTool(lambda: VlmClient(url, timeout_s=0.5, retries=0), url)
        bench = replace(scene.bench, grounder=tool, fallback=tool, store=clean.store)
        record = stages.node(bench, "ground", grounding.ground)(GraspState(command=scene.command))
        model.go_on.set()
    assert record["failure"]["code"] == HERE["tool.out_of_memory"] == HERE["tool.timeout"]


def test_a_model_that_answers_with_blank_masks_is_helped_by_the_fallback(scene: Scene, clean: Run) -> None:
    """As one in 4 bit may."""
    from affordagent.tools.published_vlm import PublishedVlmTool

    frame = clean.store.get("frame")
    model = Faulty(np.full((1, *frame.depth_m.shape), -9.0, np.float32))
    with serving(model) as url:
        store = MemoryStore(Path("unused"), {n: clean.store.get(n) for n in ("query", "frame", "table")})
        bench = replace(scene.bench, grounder=PublishedVlmTool(lambda: VlmClient(url, retries=0), url), store=store)
        first = grounding.ground(bench, GraspState())
        assert first.evidence["code"] == HERE["tool.blank_quantised"]
        again = grounding.ground_again(bench, GraspState(grounding="failed", stages=[]))
    assert again.evidence["tool"] == store.get("part_mask").tool != "published"


# ---- the arm, the end, the scene ------------------------------------------------------------------------------------


def test_the_arm() -> None:
    """Each of these is injected into the emulated controller, in every stage of a grasp: `test_fault_matrix.py`."""
    of_the_arm = {"protective_stop", "emergency_stop", "comms", "gripper", "timeout", "stopped"}
    assert {f"execution.{name}" for name in of_the_arm} <= {fault.code for fault in fault_matrix.FAULTS.values()}


@pytest.mark.slow
def test_a_thing_that_is_moved_after_the_look(scene: Scene) -> None:
    def elsewhere(bench: Workbench, state: GraspState) -> Any:
        at = scene.cell.model.joint(f"{min(scene.truth.gold.objects)}/free").qposadr[0]  # type: ignore[union-attr]
        scene.cell.data.qpos[at + 1] += 0.15
        return moving.execute(bench, state)

    from affordagent.graphs.attribution import replay

    run = replay(scene.bench, scene.command, scene.start, swaps={"execute": elsewhere})
    assert run.code == HERE["scene.moved"]


def test_a_part_that_is_covered(scene: Scene, clean: Run) -> None:
    """Nothing of it is seen: no tool can mark it."""
    part = clean.store.get("part_mask")
    unseen = replace(part, mask=np.zeros_like(part.mask))
    assert ends_with(stages.lift, scene, clean, part_mask=unseen) == HERE["scene.occluded"]


def test_verdicts() -> None:
    good, bad = (Verdict(ok, None, {}, {}, "simulator") for ok in (True, False))
    assert verify_code(sensed=good, true=bad) == "verify.false_success"
    assert verify_code(sensed=bad, true=good) == "verify.false_failure"
    assert verify_code(sensed=good, true=good) is None


def test_a_verdict_without_a_reason(scene: Scene, clean: Run) -> None:
    class Silent:
        def judge(self, *args: Any) -> Verdict:
            return Verdict(False, None, {}, {}, "simulator")

        def look_again(self) -> None:
            raise StageFailure("verify", "camera.no_frame", "no second look")

    names = ("query", "frame", "table", "part_mask", "cloud", "grasps", "plan")
    store = MemoryStore(Path("unused"), {name: clean.store.get(name) for name in names})
    bench: Any = replace(scene.bench, cell=Silent(), store=store)
    with pytest.raises(StageFailure) as caught:
        moving.verify(bench, GraspState())
    assert caught.value.code == "verify.unknown"


def test_none_is_left_out() -> None:
    page = PAGE.read_text()
    reached = {*SEEN, *DONE, *HERE} | {
        "language.ambiguous_unasked",
        "grounding.wrong_instance",
        "camera.stale",
        "camera.no_frame",
        "grasp.too_wide",
        "grasp.collides_scene",
        "grasp.collides_surface",
        "grasp.unreachable",
        "grasp.badly_ranked",
        "planning.ik",
        "planning.singularity",
        "planning.start_in_collision",
        "execution.emergency_stop",
        "execution.timeout",
        "scene.blocked",
        "verify.false_success",
        "verify.false_failure",
        "verify.unknown",
    }
    assert reached == CODES
    assert not [code for code, here in HERE.items() if code not in page or here not in page]
