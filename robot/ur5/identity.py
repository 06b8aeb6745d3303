"""Is the arm the one that the settings name, and does its controller mean the same tcp as we?"""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, rigid, rotation_angle
from affordagent.robot.arms import ArmName, flange_pose
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.state import UrState

TCP_OFF_M, TCP_OFF_RAD = 0.010, math.radians(2)  # an arm's factory calibration is well within


def as_ur_pose(T: Array) -> list[float]:
    """(4, 4) -> x, y, z in metres and the rotation vector, as Universal Robots writes poses."""
    return [*T[:3, 3].tolist(), *Rotation.from_matrix(T[:3, :3]).as_rotvec().tolist()]


def tcp_off(model: ArmName, T_flange_tcp: Array, state: UrState) -> tuple[float, float]:
    """How far the controller's tcp is from ours: metres, rad."""
    ours = flange_pose(model, state.q) @ T_flange_tcp
    theirs = rigid(Rotation.from_rotvec(state.tcp_pose[3:]).as_matrix(), state.tcp_pose[:3])
    return float(np.linalg.norm(ours[:3, 3] - theirs[:3, 3])), rotation_angle(ours[:3, :3].T @ theirs[:3, :3])


def check_model(model: ArmName, dashboard: Dashboard) -> None:
    """By the controller's word, which leaves out whether it is an e-Series.

    Raises:
        StageFailure: ("execute", "calibration.tcp"): another size of arm.
    """
    says = dashboard.ask("get robot model")
    if says.upper().startswith("UR") and says.upper().rstrip("E") != model.upper().rstrip("E"):
        message = f"the controller drives a {says}, the settings say {model}"
        raise StageFailure("execute", "calibration.tcp", f"{message}: set [ur5] model", steps=_STEPS)


def check_tcp(model: ArmName, T_flange_tcp: Array, state: UrState) -> None:
    """By where the controller says its tcp is, after it was told ours.

    Raises:
        StageFailure: ("execute", "calibration.tcp"): too far off.
    """
    off_m, off_rad = tcp_off(model, T_flange_tcp, state)
    if off_m > TCP_OFF_M or off_rad > TCP_OFF_RAD:
        raise StageFailure(
            "execute",
            "calibration.tcp",
            f"the controller's tcp is {1e3 * off_m:.0f} mm and {math.degrees(off_rad):.1f} degrees from ours, limits "
            f"{1e3 * TCP_OFF_M:.0f} mm and {math.degrees(TCP_OFF_RAD):.0f} degrees: is the arm a {model}?",
            off_m=off_m,
            off_rad=off_rad,
            steps=_STEPS,
        )


_STEPS = ["Set [ur5] model in the settings to the arm that is there"]
