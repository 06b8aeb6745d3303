"""Where something goes that the hand already holds, after an earlier command took it."""

from __future__ import annotations

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import Delivery, DeliveryGoal, GraspPlan, PartCloud
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.tools.motion.collision import CollisionWorld
from affordagent.tools.motion.plan_delivery import DeliveryPlanner
from affordagent.tools.motion.planner import SPARE_M


def plan_held(
    plan: GraspPlan,
    cloud: PartCloud,
    goal: DeliveryGoal,
    start_q: Array,
    *,
    limits: MotionLimits,
    arm: ArmName = "UR5e",
    seed: int = 0,
) -> Delivery:
    """The first move of the goal that can be carried out from where the arm is.

    plan: by which the object was taken. cloud: the scene as it was seen before that, the object still at its place.
    start_q: (6,) rad, the hand closed on the object.

    Raises:
        StageFailure: ("plan", "planning.no_delivery").
    """
    kinematics = ArmKinematics(arm)
    world = CollisionWorld(
        kinematics, limits, cloud.obstacles, cloud.object, cloud.table_z_m, plan.to_pregrasp.positions[0], SPARE_M
    )
    planner = DeliveryPlanner(world, limits, cloud, goal)
    T_base_tcp = kinematics.forward(plan.approach.positions[-1])  # as it was taken; the plan's grasp may be turned
    found = planner.plan(T_base_tcp, np.asarray(start_q, float), plan.grasp.width_m, plan.opening_m, seed)
    if found is None:
        no = planner.no
        raise StageFailure("plan", no.code, f"{no.message}; {no.mend}", no_delivery=dict(planner.reasons.most_common()))
    return found
