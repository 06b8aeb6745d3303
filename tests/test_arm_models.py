"""The models of all six arms: where their links are, their inverse, their checks and a plan for each."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from test_motion import BAR, box, cloud, top_down

from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Grasp
from affordagent.robot.arms import ARMS, ArmName, flange_pose
from affordagent.robot.interface import LOOK_Q, READY_Q
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.link_spheres import link_spheres
from affordagent.robot.model import VISUAL_GROUP, arm_spec
from affordagent.robot.safety import SafeArm
from affordagent.tools.motion.collision import CollisionWorld, sphere_centres
from affordagent.tools.motion.plan_grasp import plan_grasp

T_FLANGE_TCP_M = 0.1638
NOTHING = np.zeros((0, 3))


@pytest.fixture(params=list(ARMS), scope="module")
def arm(request: pytest.FixtureRequest) -> ArmKinematics:
    return ArmKinematics(request.param)


def test_agrees_with_the_denavit_hartenberg_parameters(arm: ArmKinematics) -> None:
    q = np.random.default_rng(1).uniform(-3, 3, (40, 6))
    chain = arm.chain.tcp(arm.chain.links(q))
    for one, T_base_tcp in zip(q, chain, strict=True):
        flange = flange_pose(arm.arm, one)
        np.testing.assert_allclose(arm.forward(one), T_base_tcp, atol=1e-9)
        assert np.linalg.norm(T_base_tcp[:3, 3] - flange[:3, 3] - T_FLANGE_TCP_M * flange[:3, 2]) < 0.0015
        np.testing.assert_allclose(T_base_tcp[:3, 2], flange[:3, 2], atol=1e-9)


def test_jacobians_of_the_chain_are_those_of_the_model(arm: ArmKinematics) -> None:
    q = np.random.default_rng(2).uniform(-3, 3, (10, 6))
    for one, jacobian in zip(q, arm.chain.jacobians(arm.chain.links(q)), strict=True):
        np.testing.assert_allclose(jacobian, arm.jacobian(one), atol=1e-9)


def test_inverse_finds_its_way_back(arm: ArmKinematics) -> None:
    for q in np.random.default_rng(3).uniform(-3, 3, (20, 6)):
        if arm.manipulability(q) > 0.05:
            found = arm.inverse(arm.forward(q), q)
            assert found
            np.testing.assert_allclose(found[0], q, atol=1e-3)


def test_spheres_cover_what_is_drawn(arm: ArmKinematics) -> None:
    drawn = arm_spec(1200, arm.arm).compile()
    data = mujoco.MjData(drawn)
    mujoco.mj_kinematics(drawn, data)
    centres = sphere_centres(arm, np.zeros(6), 0.085)
    for link in ("upper_arm", "forearm", "wrist_1", "wrist_2", "wrist_3"):
        body = drawn.body(f"{link}_link").id
        for g in np.flatnonzero((drawn.geom_bodyid == body) & (drawn.geom_group == VISUAL_GROUP)):
            mesh = drawn.mesh(drawn.geom_dataid[g])
            vertices = drawn.mesh_vert[mesh.vertadr[0] :][: mesh.vertnum[0]]
            vertices = vertices @ data.geom_xmat[g].reshape(3, 3).T + data.geom_xpos[g]
            gaps_m = np.linalg.norm(vertices[:, None] - centres, axis=2) - link_spheres(arm.arm).radius_m
            assert gaps_m.min(axis=1).max() < 0.02  # a UR5e: 0.01


def test_stands_free_where_it_looks_and_where_it_is_ready(arm: ArmKinematics) -> None:
    wide = MotionLimits(workspace_min_m=(-1.5, -1.5, -0.1), workspace_max_m=(1.5, 1.5, 2.0))
    world = CollisionWorld(arm, wide, NOTHING, NOTHING, 0.0, LOOK_Q)
    assert world.hit(READY_Q, 0.085) is None
    assert world.hit(LOOK_Q, 0.085) is None


def test_reaches_as_far_as_its_data_sheet_says(arm: ArmKinematics) -> None:
    assert arm.max_reach_m == pytest.approx(ARMS[arm.arm].reach_m, abs=0.1)


@pytest.mark.parametrize(("model", "x_m"), [("UR3e", 0.35), ("UR5", 0.5), ("UR10e", 0.8)])
def test_a_plan_is_made_for_the_arm_and_passes_its_checks(model: ArmName, x_m: float) -> None:
    limits = MotionLimits(workspace_min_m=(-0.8, -1.4, -0.05), workspace_max_m=(1.4, 1.4, 1.6))
    bar = BAR + [x_m - 0.5, 0, 0]
    wall = box([x_m - 0.2, -0.3, 0.0], [x_m + 0.2, -0.26, 0.15], 0.01)
    grasp = Grasp(top_down(x_m, 0.0, 0.015), 0.03, 0.9)
    plan = plan_grasp([grasp], cloud(bar, wall), LOOK_Q, limits=limits, arm=model)
    kinematics = ArmKinematics(model)
    np.testing.assert_allclose(kinematics.forward(plan.lift.positions[0])[:3, 3], grasp.T_base_tcp[:3, 3], atol=1e-4)
    safe = SafeArm(None, limits, kinematics)  # type: ignore[arg-type]  # nothing is sent
    for motion, width_m in ((plan.to_pregrasp, plan.opening_m), (plan.approach, plan.opening_m), (plan.lift, 0.028)):
        assert safe.check(motion, width_m) is None


def test_coarse_meshes_stretch_alike() -> None:
    for model in (arm_spec(faces, "UR10").compile() for faces in (None, 300)):
        of_forearm = [g for g in range(model.ngeom) if model.body(model.geom_bodyid[g]).name == "forearm_link"]
        ends = [model.geom_pos[g] + model.geom_rbound[g] for g in of_forearm]
        assert 0.4 < np.max(ends) < 0.9


def test_settings_name_the_arm() -> None:
    assert Settings.load(None, cell="ur5:192.168.1.2", ur5={"model": "UR10e"}).arm_model == "UR10e"
    assert Settings.load(None, ur5={"model": "UR10e"}).arm_model == "UR5e"  # the simulated one
    with pytest.raises(AffordAgentError, match=r"joint_speed_rad_s = 2.5 .* UR10e's 2.09"):
        Settings.load(None, cell="ur5:192.168.1.2", ur5={"model": "UR10e"}, limits={"joint_speed_rad_s": 2.5})
