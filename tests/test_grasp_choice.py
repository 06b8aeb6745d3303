"""What the pads would meet, and what makes one grasp better than another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import PartCloud
from affordagent.robot.arms import ARMS
from affordagent.tools.grasping import ranking
from affordagent.tools.grasping.antipodal import Candidates
from affordagent.tools.grasping.closing import closed
from affordagent.tools.grasping.completion import Surface, turned_about
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.grasping.propose import completed, consider, propose, view_of

DOWN = np.diag([1.0, -1.0, -1.0])  # approach straight down, closing along the base's y
CAMERA = np.array([0.9, 0.05, 0.7])
NOTHING = np.zeros((0, 3))


def surface_of(mesh: trimesh.Trimesh, spacing_m: float = 0.002) -> Surface:
    points, face = trimesh.sample.sample_surface(mesh, int(mesh.area / spacing_m**2), seed=0)
    return Surface(np.asarray(points), np.asarray(mesh.face_normals[face]), np.ones(len(points), bool), spacing_m)


def hands(*origins: tuple[float, float, float], R: Array = DOWN, width_m: float = 0.04) -> Candidates:
    T = np.array([rigid(R, origin) for origin in origins])
    ones = np.ones(len(T))
    tilt = np.arccos(-T[:, 2, 2])
    return Candidates(T, width_m * ones, ones, tilt, 0.016 * ones)


def block(y_m: float = 0.03, turned: float = 0.0) -> trimesh.Trimesh:
    mesh = trimesh.creation.box((0.12, y_m, 0.06))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(turned, [0, 0, 1]))
    mesh.apply_translation((0.45, 0, 0.03))
    return mesh


def view(candidates: Candidates, mesh: trimesh.Trimesh, whole: Array | None = None) -> ranking.View:
    part = surface_of(mesh)
    cloud = PartCloud(part.points, part.normals, part.points if whole is None else whole, NOTHING, 0.0, CAMERA, 1.0)
    return view_of(candidates, np.full(len(candidates), 0.012), cloud, part)


def test_closing_centres_the_hand_and_measures_the_width() -> None:
    before = hands((0.45, 0.006, 0.05), (0.40, -0.01, 0.05))
    after = closed(before, surface_of(block()), ROBOTIQ_2F85)
    np.testing.assert_allclose(after.width_m, 0.03, atol=0.0005)
    np.testing.assert_allclose(after.T_base_tcp[:, 1, 3], 0.0, atol=0.0005)
    np.testing.assert_allclose(after.T_base_tcp[:, 0, 3], before.T_base_tcp[:, 0, 3], atol=1e-9)
    tips = [c.T_base_tcp[:, 2, 3] - ROBOTIQ_2F85.tip_past_tcp_m(c.width_m) for c in (before, after)]
    np.testing.assert_allclose(*tips, atol=5e-4, err_msg="the tips stay as deep as they were")
    assert (after.quality > 0.99).all()


def test_closing_askew_is_worse() -> None:
    """On a block that is turned the pads meet opposite corners, which would turn it further."""
    square, askew, worse = (
        closed(hands((0.45, 0, 0.05)), surface_of(block(0.02, np.radians(turn))), ROBOTIQ_2F85).quality[0]
        for turn in (0, 10, 30)
    )
    limit = np.cos(np.arctan(0.5))
    assert square > 0.99
    assert limit < askew < np.cos(np.radians(9))
    assert worse < limit


def test_closing_on_nothing_is_dropped() -> None:
    assert len(closed(hands((0.60, 0, 0.05)), surface_of(block()), ROBOTIQ_2F85)) == 0


def test_contacts_one_above_the_other_do_not_oppose() -> None:
    low, high = trimesh.creation.box((0.03, 0.01, 0.02)), trimesh.creation.box((0.03, 0.01, 0.02))
    low.apply_translation((0.45, -0.005, 0.05))
    high.apply_translation((0.45, 0.005, 0.085))
    after = closed(hands((0.45, 0, 0.065)), surface_of(trimesh.util.concatenate([low, high])), ROBOTIQ_2F85)
    assert after.quality[0] < np.cos(np.arctan(0.5))


def test_a_bowl_is_turned_about_its_axis_and_a_box_is_not() -> None:
    bowl = trimesh.creation.revolve(np.array([[0.0, 0.0], [0.03, 0.002], [0.05, 0.02], [0.058, 0.05]]))
    bowl.apply_translation((0.45, 0.1, 0))
    for mesh in (bowl, trimesh.creation.cylinder(0.03, 0.1).apply_translation((0.45, 0.1, 0.05))):
        surface = surface_of(mesh, 0.003)
        pole = turned_about(surface.points, surface.normals)
        assert pole is not None
        np.testing.assert_allclose(pole, [0.45, 0.1], atol=0.001)
    box = surface_of(block(0.08), 0.003)
    assert turned_about(box.points, box.normals) is None
    half = box.normals[:, 1] > 0.5  # one flat side says nothing about where an axis is
    assert turned_about(box.points[half], box.normals[half]) is None


def test_what_the_pads_meet_first_must_be_the_part() -> None:
    wide = block(0.04).apply_translation((0.09, 0, 0))  # the same object goes on wider beyond x = 0.48
    narrow = block(0.03).apply_translation((-0.03, 0, 0))
    both = np.concatenate([surface_of(narrow).points, surface_of(wide).points])
    candidates = replace(hands((0.42, 0, 0.05), (0.477, 0, 0.05)), width_m=np.full(2, 0.03))
    seen = view(candidates, narrow, both)
    assert seen.touch.purity[0] == 1.0
    assert seen.touch.purity[1] == 0.0
    assert ranking.trusted(seen).tolist() == [True, False]


def test_reachability() -> None:
    """Best in the middle of the table; nothing over the base or out of reach; pointing back to the base is worse."""
    reach_m = ARMS["UR5e"].reach_m
    seen = view(hands((0.45, 0, 0.05), (0.12, 0, 0.05), (reach_m + 0.2, 0, 0.05)), block())
    middle, over_base, far = ranking.reachability(seen)
    assert middle == 1.0
    assert over_base == 0.0
    assert far == 0.0
    assert ranking.reachability(replace(seen, arm="UR10e"))[2] > 0, "another arm reaches farther"
    c, s = np.cos(0.6), np.sin(0.6)
    lean = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    out, back = (ranking.reachability(view(hands((0.45, 0, 0.05), R=R @ DOWN), block()))[0] for R in (lean.T, lean))
    assert out > back


def test_a_handle_is_left_free() -> None:
    body, handle = block(0.03), block(0.03).apply_translation((0.12, 0, 0))
    both = np.concatenate([surface_of(body).points, surface_of(handle).points])
    near, far = ranking.free_handle(view(hands((0.50, 0, 0.05), (0.41, 0, 0.05)), body, both))
    assert near < far == 1.0


def cloud() -> PartCloud:
    """A bar of 16 cm, the half of which is the part; seen from all sides."""
    half = surface_of(block(0.025).apply_translation((-0.06, 0, 0)))
    rest = surface_of(block(0.025).apply_translation((0.06, 0, 0)))
    normals_seen = (half.normals @ (CAMERA - [0.45, 0, 0])) > 0
    points = half.points[normals_seen]
    whole = np.concatenate([points, rest.points])
    return PartCloud(points, half.normals[normals_seen], whole, NOTHING, 0.0, CAMERA, 1.0)


def test_a_handle_left_free_moves_the_grasps_away_from_it() -> None:
    free, plain = propose(cloud(), handle_free=True), propose(cloud())
    assert "free_handle" in free.terms
    assert "free_handle" not in plain.terms
    assert free[0].T_base_tcp[0, 3] <= plain[0].T_base_tcp[0, 3] + 1e-6
    assert set(propose(cloud(), handover=True).terms) == {*plain.terms, "room"}


def test_terms_are_named_and_bounded() -> None:
    grasps = propose(cloud())
    assert grasps.backend == "antipodal"
    assert set(grasps.terms) == {term.__name__ for term, _ in ranking.TERMS}
    assert all(((values >= 0) & (values <= 1)).all() for values in grasps.terms.values())


def test_trusted_grasps_alone_where_there_are_enough() -> None:
    seen = consider(cloud())
    trusted = ranking.trusted(seen)
    grasps = propose(cloud())
    kept = {tuple(T[:3, 3].round(6)) for T in seen.grasps.T_base_tcp[trusted]}
    assert len(grasps) >= 10
    assert all(tuple(g.T_base_tcp[:3, 3].round(6)) in kept for g in grasps)


def test_completed_is_closed() -> None:
    part = completed(cloud())
    assert (part.normals[:, 1] > 0.9).any()
    assert (part.normals[:, 1] < -0.9).any()


def test_suppression_by_distance_and_angle() -> None:
    """As graspnetAPI's: a grasp goes when a better one is near in both place and turn."""
    base = rigid(DOWN, (0.4, 0, 0.1))
    near, turned, half_turned, far = base.copy(), base.copy(), base.copy(), base.copy()
    near[0, 3] += 0.005
    c, s = np.cos(0.6), np.sin(0.6)
    turned[:3, :3] = DOWN @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    half_turned[:3, :3] = DOWN @ np.diag([-1, -1, 1])
    far[0, 3] += 0.02
    T = np.array([base, near, turned, half_turned, far])
    assert ranking.diverse(T, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 10) == [0, 2, 4]
    assert ranking.diverse(T, np.array([0.1, 0.8, 0.7, 0.6, 0.5]), 10) == [1, 2, 4]
    assert ranking.diverse(T, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), 2) == [0, 2]
