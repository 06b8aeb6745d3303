"""The hand alone in a simulated scene: good grasps succeed, bad ones fail for the right reason, always the same way."""

from __future__ import annotations

import numpy as np
import pytest

from affordagent.core.geometry import Array, rigid
from affordagent.robot.sim.hand import NOMINAL, Conditions, HandScene
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import TEST_SEEDS, arrange

OPENING_M = 0.05


@pytest.fixture(scope="module")
def hand() -> HandScene:
    objects = [library.make(c, TEST_SEEDS.start + 3) for c in ("hammer", "can")]
    return HandScene(arrange(objects, np.random.default_rng(4), "pair", 4))


@pytest.fixture(scope="module")
def good(hand: HandScene) -> Array:
    """Straight down across the hammer's handle, near its centre of mass; (4, 4)."""
    T = hand.before["hammer_0"]
    meshes = [v.mesh for v in hand.scene.object("hammer_0").obj.visuals if v.part == "handle"]
    points = np.concatenate([m.vertices for m in meshes]) @ T[:3, :3].T + T[:3, 3]
    flat = points[:, :2] - points[:, :2].mean(0)
    along = np.linalg.svd(flat, full_matrices=False)[2][0]
    com = hand.data.body("hammer_0").xipos
    reach = flat @ along
    at = np.clip((com[:2] - points[:, :2].mean(0)) @ along, reach.min() + 0.02, reach.max() - 0.02)
    closing, down = np.array([-along[1], along[0], 0.0]), np.array([0.0, 0.0, -1.0])
    centre = np.append(points[:, :2].mean(0) + at * along, 0.0)
    centre[2] = max(0.0125, points[:, 2].max() - 0.02)  # the closed tips stay 2.5 mm above the table
    return rigid(np.stack([np.cross(closing, down), closing, down], axis=1), centre)


def shifted(T: Array, *shift_m: float) -> Array:
    return T @ rigid(np.eye(3), shift_m)


def test_a_good_grasp_succeeds_strictly(hand: HandScene, good: Array) -> None:
    verdict = hand.try_grasp("hammer_0", "handle", good, OPENING_M)
    assert verdict.success, verdict
    assert verdict.measured["slip_m"] < 0.002
    assert verdict.measured["lift_m"] == pytest.approx(0.2, abs=0.005)


def test_bad_grasps_fail_for_the_right_reason(hand: HandScene, good: Array) -> None:
    wrong_part = hand.try_grasp("hammer_0", "head", good, OPENING_M)
    assert wrong_part.code == "grounding.wrong_part"
    beside = hand.try_grasp("hammer_0", "handle", shifted(good, 0.0, 0.09, 0.0), OPENING_M)
    assert beside.code == "execution.no_contact"
    too_deep = hand.try_grasp("hammer_0", "handle", shifted(good, 0.0, 0.0, 0.03), OPENING_M)
    assert not too_deep.success
    assert too_deep.measured["table_force_n"] > 20
    soaped = Conditions(pad_friction=0.02)
    slippery = hand.try_grasp("hammer_0", "handle", shifted(good, 0.0, 0.0, -0.012), OPENING_M, soaped)
    assert slippery.code in ("execution.slip", "execution.drop")


def test_conditions_last_for_one_trial(hand: HandScene, good: Array) -> None:
    """Whatever was tried before: the same grasp under the same conditions gives the same numbers."""
    first = hand.try_grasp("hammer_0", "handle", good, OPENING_M)
    mass = hand.model.body("hammer_0").mass.copy()
    for rng in (np.random.default_rng(seed) for seed in range(2)):
        hand.try_grasp("hammer_0", "handle", good, OPENING_M, Conditions.draw(rng))
    assert hand.model.body("hammer_0").mass == mass
    assert hand.try_grasp("hammer_0", "handle", good, OPENING_M, NOMINAL) == first


def test_a_neighbour_in_the_way_is_noticed(hand: HandScene) -> None:
    can = hand.before["can_1"][:3, 3]
    level = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    verdict = hand.try_grasp("hammer_0", "handle", rigid(level, can + [0.03, 0.0, 0.07]), 0.02)
    assert not verdict.checks["nothing_knocked"]
    assert verdict.measured["others_moved_m"] > 0.02


def test_errors_are_of_the_size_that_is_said() -> None:
    rng = np.random.default_rng(0)
    drawn = [Conditions.draw(rng) for _ in range(400)]
    shift = np.linalg.norm([c.shift_m for c in drawn], axis=1)
    turn = np.linalg.norm([c.turn_rad for c in drawn], axis=1)
    assert np.sqrt(np.mean(shift**2)) == pytest.approx(0.002, rel=0.1)
    assert np.sqrt(np.mean(turn**2)) == pytest.approx(np.radians(2), rel=0.1)
    friction = [c.pad_friction for c in drawn]
    assert min(friction) >= 0.5
    assert max(friction) <= 0.9


def test_the_hand_waits_out_of_sight(hand: HandScene) -> None:
    assert hand.before["tcp"][2, 3] > 1.0
    assert hand.qpos.shape == (hand.model.nq,)
