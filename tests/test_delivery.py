"""Places and hand-overs: where things may go, how they are put there or taken, and what the judge says of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affordagent.agent.language.understand import understand
from affordagent.agent.resume import _what_follows
from affordagent.agent.session import Session
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import Array, transform_points
from affordagent.core.run_store import RunStore
from affordagent.core.types import Delivery, Destination, GraspPlan, JointTrajectory, PartCloud, PartMask
from affordagent.evaluations.deliveries import Trial, TrueDelivery, run_trial
from affordagent.graphs.delivering import check_can_feel, slow_near_person
from affordagent.graphs.moving import _paths
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import LOOK_Q, ArmState, MotionResult
from affordagent.robot.kinematics import chain_of
from affordagent.robot.limits import MotionLimits
from affordagent.robot.sim.cell import SimCell
from affordagent.tools import handle_free
from affordagent.tools.delivery import RELEASE_M, hand_over_goal, place_goal
from affordagent.tools.destination import find_container
from affordagent.tools.landing import opening_of
from affordagent.tools.motion import plan_grasp as planner_of_grasps
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion
from affordagent.tools.pull import wait_for_pull
from affordagent.tools.table import find_objects

CAMERA = np.array([0.95, 0.0, 0.7])


def grid(x: tuple[float, float], y: tuple[float, float], z: float, step: float = 0.004) -> Array:
    xs, ys = np.arange(x[0], x[1], step), np.arange(y[0], y[1], step)
    return np.array([[a, b, z] for a in xs for b in ys])


def bar(x: float = 0.45, y: float = -0.2, length: float = 0.16) -> PartCloud:
    """A bar of 3 x 2 cm along x, its top seen; the part is its nearer half."""
    top = grid((x - length / 2, x + length / 2), (y - 0.015, y + 0.015), 0.02)
    up = np.tile([0.0, 0, 1], (len(top), 1))
    near = top[:, 0] > x
    return PartCloud(top[near], up[near], top, np.empty((0, 3)), 0.0, CAMERA, 1.0)


def open_box(inner: tuple[float, float] = (0.3, 0.2), at: tuple[float, float] = (0.45, 0.15)) -> Array:
    (length, width), (x, y) = inner, at
    floor = grid((x - length / 2, x + length / 2), (y - width / 2, y + width / 2), 0.005)
    half_x, half_y = length / 2 + 0.006, width / 2 + 0.006
    outer = grid((x - half_x, x + half_x), (y - half_y, y + half_y), 0.08, 0.002)
    wall = outer[(np.abs(outer[:, 0] - x) > length / 2) | (np.abs(outer[:, 1] - y) > width / 2)]
    return np.concatenate([floor, wall])


BARE = grid((0.25, 0.8), (-0.45, 0.45), 0.0)


def test_an_opening_has_a_rim_and_a_floor() -> None:
    opening = opening_of(open_box(), 0.0)
    assert opening is not None
    assert opening.rim_z_m == pytest.approx(0.08, abs=0.002)
    assert opening.floor_z_m == pytest.approx(0.005, abs=0.002)
    assert opening.rectangular > 0.95
    assert opening_of(bar().object, 0.0) is None, "a closed thing has none"


def test_a_pans_high_handle_does_not_hide_its_opening() -> None:
    disc = grid((0.3, 0.6), (0.0, 0.3), 0.004, 0.003)
    radius = np.linalg.norm(disc[:, :2] - [0.45, 0.15], axis=1)
    floor = disc[radius < 0.12]
    wall = np.concatenate([disc[(radius > 0.12) & (radius < 0.126)] + [0, 0, z] for z in np.arange(0, 0.045, 0.003)])
    handle = grid((0.57, 0.75), (0.14, 0.16), 0.0, 0.003)
    handle[:, 2] = 0.045 + 0.3 * (handle[:, 0] - 0.57)  # rises to 10 cm
    opening = opening_of(np.concatenate([floor, wall, handle]), 0.0)
    assert opening is not None
    assert opening.rim_z_m == pytest.approx(0.047, abs=0.005)
    assert opening.floor_z_m == pytest.approx(0.004, abs=0.003)
    assert opening.rim[:, 0].max() < 0.6, "nothing is put onto the handle"
    assert opening.rectangular < 0.86, "no box"


def test_into_a_box_everything_of_it_is_inside_and_just_above_the_floor() -> None:
    cloud, box = bar(), open_box()
    goal = place_goal(cloud, Destination(relation="in", words="box"), box, BARE)
    assert len(goal.moves) > 3
    for move in goal.moves:
        there = transform_points(move, cloud.object)
        assert (np.abs(there[:, 0] - 0.45) < 0.15).all()
        assert (np.abs(there[:, 1] - 0.15) < 0.10).all()
        assert there[:, 2].max() == pytest.approx(0.02 + 0.005 + RELEASE_M, abs=1e-6), "the table was under it before"
        np.testing.assert_allclose(move[2, :3], [0, 0, 1], atol=1e-9)  # turned about the vertical only
    assert len(goal.inside) == len(box)


def test_what_does_not_fit_is_said_with_its_size() -> None:
    says = r"needs 46 x 4 cm.* free in the box: its largest free part lies within 2[78] x 1[78] cm"
    with pytest.raises(StageFailure, match=says) as caught:
        place_goal(bar(length=0.45), Destination(relation="in", words="box"), open_box(), BARE)
    assert (caught.value.stage, caught.value.code) == ("plan", "scene.no_room")
    closed = grid((0.3, 0.6), (0.1, 0.3), 0.08)
    with pytest.raises(StageFailure, match="no opening in the box"):
        place_goal(bar(), Destination(relation="in", words="box"), closed, BARE)


def test_a_full_corner_of_the_box_is_left_alone() -> None:
    lying = grid((0.32, 0.58), (0.16, 0.24), 0.04)  # half of the floor is taken
    goal = place_goal(bar(), Destination(relation="in", words="box"), np.concatenate([open_box(), lying]), BARE)
    for move in goal.moves:
        assert transform_points(move, bar().object)[:, 1].max() < 0.16


def test_beside_and_somewhere_else_are_free_spots_on_the_table() -> None:
    box = open_box()
    cloud = replace(bar(), obstacles=box)
    beside = place_goal(cloud, Destination(relation="beside", words="box"), box, BARE)
    elsewhere = place_goal(cloud, Destination(relation="on", words="table"), np.empty((0, 3)), BARE)
    for goal in (beside, elsewhere):
        for move in goal.moves:
            there = transform_points(move, cloud.object)
            gaps = np.linalg.norm(there[:, None, :2] - box[None, ::7, :2], axis=2)
            assert gaps.min() > 0.02
            assert there[:, 2].max() == pytest.approx(0.02 + RELEASE_M, abs=1e-6)
            if goal is beside:
                assert gaps.min() < 0.15
            else:
                assert np.linalg.norm((there - cloud.object)[:, :2].mean(0)) > 0.07


def test_on_a_small_top_a_thing_may_overhang() -> None:
    top = grid((0.45, 0.53), (0.1, 0.18), 0.05)
    goal = place_goal(bar(), Destination(relation="on", words="block"), top, BARE)
    middle = transform_points(goal.moves[0], bar().object).mean(0)
    assert np.abs(middle[:2] - [0.49, 0.14]).max() < 0.02


@pytest.mark.parametrize(("kept_free", "sign"), [(False, 1), (True, -1)], ids=["handle held", "handle free"])
@pytest.mark.parametrize("towards_deg", [0.0, 90.0, -135.0])
def test_the_free_end_points_to_the_person(kept_free: bool, sign: int, towards_deg: float) -> None:
    cloud, settings = bar(length=0.3), HandOver(towards_deg=towards_deg)
    goal = hand_over_goal(cloud, settings, kept_free)
    part, whole = (transform_points(goal.moves[0], points).mean(0) for points in (cloud.part, cloud.object))
    pointing = (part - whole)[:2] / np.linalg.norm((part - whole)[:2])
    assert sign * pointing @ settings.towards[:2] > 0.99
    np.testing.assert_allclose(whole[:2], settings.position_m[:2], atol=0.01)


def test_the_place_to_hand_things_over_is_within_the_limits() -> None:
    with pytest.raises(ValueError, match="outside the workspace"):
        HandOver(position_m=(1.5, 0, 0.3)).check(MotionLimits())
    with pytest.raises(ValueError, match="keep-out"):
        HandOver().check(MotionLimits(keep_out_m=(((0.4, -0.2, 0.2), (0.7, 0.2, 0.5)),)))
    with pytest.raises(ValueError, match="above the table"):
        HandOver(position_m=(0.5, 0, 0.05)).check(MotionLimits())
    with pytest.raises(ValueError, match="pull_n = 0.5"):
        HandOver(pull_n=0.5)


def test_settings_check_it_too(tmp_path: Path) -> None:
    file = tmp_path / "affordagent.toml"
    file.write_text("[hand_over]\nposition_m = [2.0, 0.0, 0.3]\n")
    with pytest.raises(AffordAgentError, match="outside the workspace"):
        Settings.load(file)
    file.write_text("[hand_over]\nposition_m = [0.4, -0.4, 0.4]\ntowards_deg = -90\npull_n = 10\n")
    assert Settings.load(file).hand_over.pull_n == 10


@dataclass
class PulledArm:
    """Stands still. force_n: (3,) on the tcp at a time. width_m falls to 0 at `lost_s`; holding is wrong at `blink_s`.
    Answers as `SafeArm` does where the force along gravity changed by more than a payload."""

    force_n: Callable[[float], Array] | None
    lost_s: float = np.inf
    blink_s: float = np.inf
    clock_s: float = 0.0

    def read(self) -> ArmState:
        width = 0.02 if self.clock_s < self.lost_s else 0.0
        force = None if self.force_n is None else np.array([0.0, 0.0, -8.0]) + self.force_n(self.clock_s)
        blink = False if abs(self.clock_s - self.blink_s) < 0.01 else None
        return ArmState(LOOK_Q, width, self.clock_s, holding=blink, tcp_force_n=force)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self.clock_s += duration_s
        state = self.read()
        heavy = state.tcp_force_n is not None and abs(state.tcp_force_n[2]) > 20
        return MotionResult(not heavy, state, code="safety.payload" if heavy else None)


def pull(strength_n: float, from_s: float = 1.0, to_s: float = np.inf, axis: int = 0) -> Callable[[float], Array]:
    return lambda t: strength_n * np.eye(3)[axis] * (from_s < t < to_s)


SETTINGS = HandOver(timeout_s=5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("strength_n", [8, -8, 60, -60])
def test_a_pull_is_felt_in_every_direction_however_strong(axis: int, strength_n: float) -> None:
    pulled = wait_for_pull(PulledArm(pull(strength_n, axis=axis)), SETTINGS, "offer")
    assert (pulled.reached, pulled.message) == (True, f"pulled with {abs(strength_n)} N")
    assert 1.2 < pulled.state.stamp_s < 1.6


def noisy(t: float) -> Array:
    return np.random.default_rng(round(1000 * t)).normal(0, 0.5, 3)


@pytest.mark.parametrize(
    "force_n",
    [
        pull(3),
        pull(50, 1.0, 1.25),  # a knock
        noisy,
        lambda t: 15.0 * np.cos(np.pi * t / 0.1) * np.eye(3)[0],  # the hand shakes all the time
        lambda t: 12.0 * np.exp(-2 * t) * np.cos(np.pi * t / 0.1) * np.eye(3)[0],  # and settles after the carry
        lambda t: 10.0 * np.exp(-3 * t) * np.eye(3)[2],
        lambda t: np.full(3, np.nan),
    ],
    ids=["weak", "knock", "noise", "shaking", "settling", "fading", "no number"],
)
def test_nothing_else_is_taken_for_a_pull(force_n: Callable[[float], Array]) -> None:
    result = wait_for_pull(PulledArm(force_n), SETTINGS, "offer")
    assert (result.reached, result.code) == (False, "execution.not_taken")
    assert "recover --open" in result.message


def test_who_pulls_from_the_start_and_gives_up_does_not_open_the_hand() -> None:
    at_first = pull(10, -1.0, 2.0)
    held_n = np.array([0.0, 0.0, -8.0])
    given_up = wait_for_pull(PulledArm(at_first), SETTINGS, "offer", held_n)
    assert given_up.code == "execution.not_taken"
    always = wait_for_pull(PulledArm(pull(10, -1.0)), SETTINGS, "offer", held_n)
    assert "never at rest" in always.message
    anew = wait_for_pull(PulledArm(lambda t: at_first(t) + pull(10, 3.0)(t)), SETTINGS, "offer", held_n)
    assert anew.reached
    assert anew.state.stamp_s > 3.2


def test_a_pull_through_noise_is_felt() -> None:
    assert wait_for_pull(PulledArm(lambda t: noisy(t) + pull(8)(t)), SETTINGS, "offer").message == "pulled with 8 N"


def test_an_arm_without_forces_sees_only_that_the_fingers_are_empty() -> None:
    lost = wait_for_pull(PulledArm(None, lost_s=2.0), SETTINGS, "offer")
    assert (lost.reached, lost.message) == (True, "taken out of the closed fingers")
    blink = wait_for_pull(PulledArm(None, blink_s=2.0), SETTINGS, "offer")
    assert blink.code == "execution.not_taken", "one look that says empty is not believed"
    assert "this arm measures no force" in blink.message


def test_a_stop_ends_the_wait() -> None:
    class Stopped(PulledArm):
        def wait(self, duration_s: float, phase: str) -> MotionResult:
            return MotionResult(False, self.read(), code="execution.stopped", message="stopped on request")

    assert wait_for_pull(Stopped(pull(50)), SETTINGS, "offer").code == "execution.stopped"


def test_nothing_is_held_out_by_an_arm_that_would_not_notice_a_person() -> None:
    with pytest.raises(StageFailure, match="would not be noticed") as caught:
        check_can_feel(ArmState(LOOK_Q, np.nan, 0.0))
    assert caught.value.code == "planning.no_delivery"
    check_can_feel(ArmState(LOOK_Q, np.nan, 0.0, tcp_force_n=np.zeros(3)))
    check_can_feel(ArmState(LOOK_Q, 0.05, 0.0))


def test_to_the_person_and_back_from_them_the_hand_keeps_their_speed() -> None:
    limits = MotionLimits(approach_speed_m_s=0.8)
    line = np.linspace(LOOK_Q, LOOK_Q + [0, 0.2, 0, 0, 0, 0], 30)
    way = cartesian_motion(line, 0.15, limits)
    there = Delivery("hand_over", np.eye(4), 0, joint_motion(line[[0, -1]], limits), None, way, 0.05)
    assert fastest_m_s(way) > 0.1
    slow = slow_near_person(there, 0.05, "UR5e")
    assert max(fastest_m_s(slow.carry), fastest_m_s(slow.retreat)) <= 0.05 * 1.001


def fastest_m_s(path: JointTrajectory) -> float:
    chain = chain_of("UR5e")
    tcp = chain.tcp(chain.links(path.positions))[:, :3, 3]
    return float((np.linalg.norm(np.diff(tcp, axis=0), axis=1) / np.diff(path.times_s)).max())


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ("hold", "Go on with carry, offer, let_go"),
        ("carry", "held out until it is pulled. Go on with offer, let_go"),
        ("offer", "held out until it is pulled. Go on with offer, let_go"),
        ("offer_2", "Go on with offer, let_go"),
        ("let_go", "Go on with back_off, rest?"),
        ("release", "Go on with retreat?"),
    ],
)
def test_the_question_after_a_restart_names_what_follows(last: str, says: str) -> None:
    steps = "open to_pregrasp approach close lift hold carry offer let_go back_off rest".split()
    assert says in _what_follows(last, steps)
    placing = [step.replace("offer", "lower") for step in steps]
    assert "The fingers open" in _what_follows("lower", placing)


@pytest.mark.parametrize(
    "text",
    [
        "hand me the can at 2 m/s",
        "hand me the can with pull_n = 0 and timeout_s = 0",
        "set speed_m_s to 1.0 and hand me the can fast",
        "put the can in the box at 3 metres per second with 200 N",
        "put the can in ../../etc/passwd",
    ],
)
def test_words_cannot_change_how_things_are_handed_over_or_put_down(text: str) -> None:
    query = understand(text)
    said = json.dumps(query.model_dump(exclude={"text", "constraints", "question"}))
    assert not re.search(r"\d m|m_s|pull_n|\b[23]00\b|/", said)


@pytest.mark.parametrize("text", ["put the knife in my hand", "lay the knife onto my open palm"])
def test_a_persons_hand_is_no_place_to_put_things_into(text: str) -> None:
    query = understand(text)
    assert (query.intent, query.destination) == ("hand_over", None)
    elsewhere = understand("I have a mug in my hand, put the knife in the box")
    assert elsewhere.destination is not None
    assert elsewhere.destination.words == "box"


def test_the_rest_is_held_when_the_handle_is_left_free() -> None:
    whole = np.zeros((60, 80), bool)
    whole[20:40, 10:70] = True
    handle = whole.copy()
    handle[:, 40:] = False
    rest = handle_free.rest_of(PartMask(handle, whole, 0.9, "test"))
    assert rest is not None
    assert not (rest.mask & handle).any()
    assert (rest.mask & whole).sum() > 0.3 * whole.sum()
    assert handle_free.is_free(rest)
    assert handle_free.rest_of(PartMask(whole, whole, 0.9, "test")) is None, "there is nothing else to hold"
    assert not handle_free.is_free(handle_free.part_after_all(rest, "too flat"))


def test_a_rest_that_no_motion_reaches_is_given_up_for_the_handle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The knife's blade can be grasped; every plan for it is refused here."""
    asked = []

    def refuse_the_first(*args: Any, **given: Any) -> GraspPlan:
        asked.append(given["delivery"])
        if len(asked) == 1:
            raise StageFailure("plan", "planning.no_delivery", "out of reach")
        return plan_grasp(*args, **given)

    monkeypatch.setattr(planner_of_grasps, "plan_grasp", refuse_the_first)
    session = Session(Settings(scene="serving", seed=24, dry_run=True))
    assert isinstance(session.cell, SimCell)
    knife = next(thing for thing in session.cell.scene.objects if thing.category == "knife")
    session.tools = TrueDelivery(cell=session.cell, target=knife.name, kind="handle_free")
    with session:
        result = session.run("hand it over", tmp_path / "run")
    assert result.outcome == "planned", result.failure
    assert len(asked) == 2
    planned = result.stages[-1]
    assert planned["evidence"]["handle_free"] is False
    assert "cannot be left free: out of reach" in planned["message"]
    assert not handle_free.is_free(RunStore(tmp_path / "run").get("part_mask"))


@pytest.mark.parametrize(("scene", "words"), [("packing", "box"), ("serving", "tray")])
def test_boxes_and_trays_are_found_by_their_shape(scene: str, words: str) -> None:
    with Session(Settings(scene=scene, seed=3), TrueDelivery()) as session:
        assert isinstance(session.cell, SimCell)
        frame, truth = session.cell.look(), session.cell.truth()
    table, none = find_objects(frame), np.zeros(frame.depth_m.shape, bool)
    found = find_container(frame, table, Destination(relation="in", words=words), none, 0.0)
    assert found is not None
    assert (found.mask & truth[0].mask).sum() > 0.95 * truth[0].mask.sum()
    other = {"box": "tray", "tray": "box"}[words]
    assert find_container(frame, table, Destination(relation="in", words=other), none, 0.0) is None
    assert find_container(frame, table, Destination(relation="in", words=words), found.mask, 0.0) is None, "its own"


@pytest.mark.parametrize("kind", ["in", "hand_over"])
def test_a_whole_delivery_in_the_simulated_cell(tmp_path: Path, kind: str) -> None:
    row = run_trial(Trial(kind, 101, "truth", noise=False), tmp_path, TrueDelivery())  # type: ignore[arg-type]
    assert row["success"], row["failure"]
    checks = row["verdict"]["checks"]
    assert ({"in_place", "at_rest", "not_dropped"} if kind == "in" else {"presented", "taken"}) <= set(checks)


def test_nothing_is_carried_to_a_person_faster_than_the_settings_say(tmp_path: Path) -> None:
    settings = Settings(scene="packing", seed=101, dry_run=True)
    session = Session(settings)
    assert isinstance(session.cell, SimCell)
    session.tools = TrueDelivery(cell=session.cell, target=session.cell.scene.objects[1].name, kind="hand_over")
    with session:
        result = session.run("hand it over", tmp_path / "run")
    assert result.outcome == "planned", result.failure
    listed = [step["step"] for step in result.stages[-1]["evidence"]["would_send"]]
    assert listed[5:] == ["hold", "carry", "offer", "let_go", "back_off", "rest"]
    plan = RunStore(tmp_path / "run").get("plan")
    (carry,) = (path for name, path, _ in _paths(plan) if name == "carry")
    assert fastest_m_s(carry) <= settings.hand_over.speed_m_s * 1.001
