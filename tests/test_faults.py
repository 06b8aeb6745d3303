"""Injected faults: each spoils what it says, in its own stage, the same every time, and leaves the cell as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.core.causes import CAUSES
from affordagent.core.errors import AffordAgentError, NeedsClarification, Refused, StageFailure
from affordagent.core.geometry import Array, rotation_angle
from affordagent.core.run_store import RunStore
from affordagent.core.types import JointTrajectory
from affordagent.evaluations.causes.faults import FAULTS, Fault, applies, swaps_of, swaps_of_all
from affordagent.evaluations.causes.spoil_moving import FaultyArm, between
from affordagent.evaluations.runner.truth import TrueTools
from affordagent.graphs.grasp import build
from affordagent.graphs.state import Done, GraspState, Workbench
from affordagent.robot.interface import ArmState, MotionResult
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.scene import sample_scene

COMMAND = "pick up the mug by its handle"
SEED = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workbench, Array]]:
    """A cell with a mug, what a run up to the plan leaves by the true words and mask, and the cell's state."""
    scene = sample_scene("kitchen", 2)
    mug = next(thing for thing in scene.objects if thing.category == "mug")
    cell = SimCell(scene, seed=2)
    cell.gold = Gold(frozenset({mug.name}), "handle")
    tools = TrueTools(cell=cell, target=mug.name)
    with Session(Settings(scene="kitchen", seed=2, dry_run=True), tools, cell=cell) as session:
        start = cell.state_snapshot()
        bench = session.workbench(RunStore(tmp_path_factory.mktemp("run")))
        assert build(bench).invoke(GraspState(command=COMMAND))["outcome"] == "planned"
        yield replace(bench, dry_run=False), start


def cell_of(bench: Workbench) -> SimCell:
    assert isinstance(bench.cell, SimCell)
    return bench.cell


def spoilt(world: tuple[Workbench, Array], fault: Fault, node: str, artefact: str) -> tuple[Any, Any, dict[str, Any]]:
    """An artefact before and after a stage with a fault, and what the stage says of it; all is then as it was."""
    bench, start = world
    before = {
        name: bench.store.get(name) for name in ("query", "frame", "table", "part_mask", "cloud", "grasps", "plan")
    }
    cell_of(bench).restore(start)
    done = swaps_of(fault, cell_of(bench), SEED)[node](bench, GraspState(command=COMMAND))
    after = bench.store.get(artefact)
    for name, value in before.items():
        bench.store.put(name, value)
    (record,) = done.evidence["injected"]
    assert (record["cause"], record["name"], record["size"]) == (fault.cause, fault.name, fault.size)
    return before[artefact], after, record


def test_all_faults_are_of_a_cause_and_can_be_made(world: tuple[Workbench, Array]) -> None:
    cell = cell_of(world[0])
    assert {fault.cause for fault in FAULTS} == set(CAUSES)
    for fault in FAULTS:
        swaps = swaps_of(fault, cell, SEED)
        assert swaps
        assert not swaps_of_all([fault], cell, SEED, repaired={fault.cause})
    with pytest.raises(AffordAgentError, match="no fault is called 'gremlin'"):
        swaps_of(Fault("grasp", "gremlin"), cell, SEED)


def test_two_faults_of_one_stage_are_both_there(world: tuple[Workbench, Array]) -> None:
    bench, start = world
    faults = [Fault("depth", "noise, m", 0.005), Fault("calibration", "hand-eye, m", 0.01)]
    both = swaps_of_all(faults, cell_of(bench), SEED)
    assert list(both) == ["look"]
    cell_of(bench).restore(start)
    frame, table = bench.store.get("frame"), bench.store.get("table")
    injected = both["look"](bench, GraspState()).evidence["injected"]
    seen = bench.store.get("frame")
    bench.store.put("frame", frame)
    bench.store.put("table", table)
    assert {record["cause"] for record in injected} == {"depth", "calibration"}
    assert not np.allclose(seen.T_base_camera, frame.T_base_camera)
    assert np.abs(seen.depth_m - frame.depth_m).max() > 0.005
    assert list(swaps_of_all(faults, cell_of(bench), SEED, repaired={"depth"})) == ["look"]


def test_what_a_scene_lacks_cannot_be_mistaken(world: tuple[Workbench, Array]) -> None:
    cell = cell_of(world[0])
    assert applies(Fault("grounding", "wrong part"), cell)
    assert not applies(Fault("grounding", "wrong instance"), cell)
    with pytest.raises(AffordAgentError, match="needs twins"):
        swaps_of(Fault("language", "misread colour"), cell, SEED)["understand"](world[0], GraspState(command=COMMAND))


class TestSeeing:
    def test_language(self, world: tuple[Workbench, Array]) -> None:
        query, other, record = spoilt(world, Fault("language", "misread category"), "understand", "query")
        assert query.category == "mug" != other.category == record["category"]
        _, part, _ = spoilt(world, Fault("language", "misread part"), "understand", "query")
        assert (part.category, part.part) == ("mug", "body")
        for name, kind in (("refused", Refused), ("needless question", NeedsClarification)):
            with pytest.raises(kind) as caught:
                spoilt(world, Fault("language", name), "understand", "query")
            assert caught.value.evidence["injected"]

    def test_depth(self, world: tuple[Workbench, Array]) -> None:
        thing = next(t for t in cell_of(world[0]).truth() if t.category == "mug")
        for name, size, what in [
            ("noise, m", 0.01, lambda off, lost: 0.007 < off.std() < 0.014),
            ("too far, m", 0.02, lambda off, lost: np.allclose(off, 0.02, atol=1e-5)),
            ("hole, share of the part", 1.0, lambda off, lost: lost == 1.0),
            ("beside the colours, px", 10, lambda off, lost: np.abs(off).max() > 0.005),
        ]:
            clean, seen, record = spoilt(world, Fault("depth", name, size), "look", "frame")
            part = thing.part_mask & (clean.depth_m > 0)
            read = part & (seen.depth_m > 0)
            assert what((seen.depth_m - clean.depth_m)[read], 1 - read.sum() / part.sum()), name
            assert record["rms_m"] is not None
            again = spoilt(world, Fault("depth", name, size), "look", "frame")[1]
            np.testing.assert_array_equal(seen.depth_m, again.depth_m)
            np.testing.assert_array_equal(seen.T_base_camera, clean.T_base_camera)

    def test_calibration(self, world: tuple[Workbench, Array]) -> None:
        clean, moved, _ = spoilt(world, Fault("calibration", "hand-eye, m", 0.02), "look", "frame")
        assert np.linalg.norm((moved.T_base_camera - clean.T_base_camera)[:3, 3]) == pytest.approx(0.02)
        np.testing.assert_array_equal(moved.depth_m, clean.depth_m)
        clean, turned, _ = spoilt(world, Fault("calibration", "hand-eye, degrees", 3.0), "look", "frame")
        R = turned.T_base_camera[:3, :3] @ clean.T_base_camera[:3, :3].T
        assert np.rad2deg(rotation_angle(R)) == pytest.approx(3.0)
        np.testing.assert_allclose(turned.T_base_camera[:3, 3], clean.T_base_camera[:3, 3])

    def test_grounding(self, world: tuple[Workbench, Array]) -> None:
        things = {thing.category: thing for thing in cell_of(world[0]).truth()}
        mug = things["mug"]

        def mask(name: str, size: float | None = None) -> Any:
            return spoilt(world, Fault("grounding", name, size), "ground", "part_mask")[1].mask

        assert not (mask("wrong object") & mug.mask).any()
        np.testing.assert_array_equal(mask("wrong part"), mug.mask & ~mug.part_mask)
        assert (mask("under-segmented") & ~mug.mask).any()
        fragment = mask("over-segmented, share", 0.3)
        assert 0.2 < (fragment & mug.part_mask).sum() / mug.part_mask.sum() < 0.4
        assert not mask("blank mask").any()
        shift_px = np.linalg.norm(
            np.subtract(*(np.argwhere(m).mean(0) for m in (mask("mask shifted, m", 0.03), mug.part_mask)))
        )
        frame = world[0].store.get("frame")
        assert shift_px * np.median(frame.depth_m[mug.mask]) / frame.camera.fx == pytest.approx(0.03, abs=0.002)
        with pytest.raises(StageFailure) as caught:
            mask("not found")
        assert caught.value.code == "grounding.not_found"

    def test_a_doubtful_mask_is_spoilt_once(self, world: tuple[Workbench, Array]) -> None:
        """By the second opinion, after which it is taken."""
        from affordagent.evaluations.causes import spoil_seeing
        from affordagent.evaluations.causes.injection import Injection

        fault = Fault("grounding", "blank mask")
        spoil = spoil_seeing.masking(spoil_seeing.blank)
        stage = spoil(
            Injection(fault, cell_of(world[0]), SEED), lambda bench, state: Done("?", {}, {"grounding": "doubtful"})
        )
        assert "injected" not in stage(world[0], GraspState()).evidence
        assert world[0].store.get("part_mask").mask.any()


class TestMoving:
    def test_grasps(self, world: tuple[Workbench, Array]) -> None:
        def grasps(name: str, size: float | None = None) -> tuple[Any, Any]:
            before, after, _ = spoilt(world, Fault("grasp", name, size), "propose", "grasps")
            return before[0], after[0]

        usual, worst = grasps("badly ranked, kept", 2)
        assert len(worst) == 2
        assert worst.score.max() <= np.sort(usual.score)[1]
        usual, aside = grasps("off the mask, m", 0.03)
        np.testing.assert_allclose(np.linalg.norm((aside.T_base_tcp - usual.T_base_tcp)[:, :3, 3], axis=1), 0.03)
        usual, turned = grasps("turned, degrees", 90.0)
        np.testing.assert_allclose(turned.T_base_tcp[:, :3, 2], usual.T_base_tcp[:, :3, 2], atol=1e-9)
        np.testing.assert_allclose(
            np.einsum("gi,gi->g", turned.T_base_tcp[:, :3, 1], usual.T_base_tcp[:, :3, 1]), 0, atol=1e-9
        )

    def test_a_plan_that_leads_elsewhere_says_it_leads_to_the_grasp(self, world: tuple[Workbench, Array]) -> None:
        grasps = world[0].store.get("grasps")
        _, plan, record = spoilt(world, Fault("planning", "wrong goal, m", 0.02), "plan", "plan")
        assert world[0].store.get("grasps") is grasps
        end = ArmKinematics().forward(plan.approach.positions[-1])[:3, 3]
        np.testing.assert_allclose(end, plan.grasp.T_base_tcp[:3, 3] + record["aside_m"], atol=1e-3)

    def test_plans(self, world: tuple[Workbench, Array]) -> None:
        usual, low, _ = spoilt(world, Fault("planning", "short lift, share", 0.3), "plan", "plan")
        up = [
            ArmKinematics().forward(q)[2, 3]
            for q in (usual.lift.positions[0], usual.lift.positions[-1], low.lift.positions[-1])
        ]
        assert up[2] - up[0] == pytest.approx(0.3 * (up[1] - up[0]), rel=0.1)
        assert low.lift.duration_s == usual.lift.duration_s
        _, aside, _ = spoilt(world, Fault("planning", "start beside the arm, rad", 0.2), "plan", "plan")
        cell_of(world[0]).restore(world[1])
        with pytest.raises(StageFailure) as caught:
            self._execute(world[0], aside, {})
        assert caught.value.code == "execution.start_mismatch"

    @pytest.mark.parametrize(
        ("name", "size", "code"),
        [
            ("jammed, m", 0.01, "execution.gripper"),
            ("early stop, share of the approach", 0.5, "execution.protective_stop"),
            ("link lost, share of the lift", 0.5, "execution.comms"),
        ],
    )
    def test_an_arm_that_says_what_is_wrong(
        self, world: tuple[Workbench, Array], name: str, size: float, code: str
    ) -> None:
        cell = cell_of(world[0])
        cell.restore(world[1])
        with pytest.raises(StageFailure) as caught:
            self._execute(world[0], world[0].store.get("plan"), swaps_of(Fault("execution", name, size), cell, SEED))
        assert caught.value.code == code

    @pytest.mark.parametrize(
        ("fault", "touched"),
        [
            (Fault("execution", "slippery, friction", 0.005), "geom_friction"),
            (Fault("execution", "weak grip, share of the force", 0.03), "actuator_forcerange"),
            (Fault("calibration", "tcp, m", 0.03), "body_pos"),
        ],
    )
    def test_another_hand_is_there_for_the_motion_only(
        self, world: tuple[Workbench, Array], fault: Fault, touched: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from affordagent.evaluations.causes import faults

        bench = world[0]
        model = cell_of(bench).model
        before, meanwhile = getattr(model, touched).copy(), []
        monkeypatch.setitem(
            faults._USUAL, "execute", lambda b, s: meanwhile.append(getattr(model, touched).copy()) or Done("moved")
        )
        done = swaps_of(fault, cell_of(bench), SEED)["execute"](bench, GraspState())
        assert done.evidence["injected"][0]["name"] == fault.name
        assert not np.array_equal(meanwhile[0], before)
        np.testing.assert_array_equal(getattr(model, touched), before)

    def test_what_is_dropped_is_said_by_the_judge(self, world: tuple[Workbench, Array]) -> None:
        bench, start = world
        cell = cell_of(bench)
        cell.restore(start)
        swaps = swaps_of(Fault("execution", "dropped, share of the lift", 0.5), cell, SEED)
        self._execute(bench, bench.store.get("plan"), swaps)
        verdict = cell.judge(
            bench.store.get("plan"), bench.store.get("part_mask").object_mask, bench.store.get("query")
        )
        assert verdict is not None
        assert verdict.code == "execution.drop"

    @staticmethod
    def _execute(bench: Workbench, plan: Any, swaps: dict[str, Any]) -> None:
        from affordagent.graphs.moving import execute

        usual = bench.store.get("plan")
        folder = bench.store.folder / f"motion-{len(list(bench.store.folder.glob('motion-*')))}"
        folder.mkdir()
        store = RunStore(folder)
        for name in ("query", "frame", "plan"):
            store.put(name, plan if name == "plan" else bench.store.get(name))
        swaps.get("execute", execute)(replace(bench, store=store), GraspState(command=COMMAND))
        assert usual is bench.store.get("plan")


def test_pieces_of_a_motion_are_the_motion() -> None:
    path = JointTrajectory(np.linspace(0, 1, 11)[:, None] * np.arange(1, 7), np.linspace(0, 2, 11))
    first, second = between(path, 0.0, 0.45), between(path, 0.45, 1.0)
    np.testing.assert_allclose(first.positions[-1], second.positions[0])
    np.testing.assert_allclose(first.positions[-1], 0.45 * np.arange(1, 7))
    assert first.duration_s + second.duration_s == pytest.approx(2.0)
    assert first.times_s[0] == second.times_s[0] == 0.0


def test_an_arm_without_a_fault_does_as_told() -> None:
    class Told:
        def __init__(self) -> None:
            self.heard: list[tuple[str, str]] = []

        def follow(self, path: JointTrajectory, phase: str) -> MotionResult:
            self.heard.append(("follow", phase))
            return MotionResult(True, ArmState(np.zeros(6), 0.0, 0.0))

        def grip(self, width_m: float, phase: str) -> MotionResult:
            self.heard.append(("grip", phase))
            return MotionResult(True, ArmState(np.zeros(6), width_m, 0.0))

    told: Any = Told()
    arm = FaultyArm(told)
    assert arm.follow(JointTrajectory(np.zeros((2, 6)), np.array([0.0, 1.0])), "lift").reached
    assert arm.grip(0.02, "close").state.gripper_width_m == 0.02
    assert told.heard == [("follow", "lift"), ("grip", "close")]


def test_no_gold_no_fault(tmp_path: Path) -> None:
    cell = SimCell(sample_scene("kitchen", 2))
    with pytest.raises(AffordAgentError, match="no gold"):
        applies(Fault("grounding", "wrong object"), cell)
