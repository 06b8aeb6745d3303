"""The arms of Universal Robots, as far as kinematics and limits need them.

Denavit-Hartenberg parameters: Universal Robots, "DH parameters for calculations of kinematics and dynamics"
(article 45257). Speeds, payload and reach: the data sheets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from affordagent.core.geometry import Array

ArmName = Literal["UR3", "UR5", "UR10", "UR3e", "UR5e", "UR10e"]
ALPHA_RAD = (np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0)  # of all six arms


@dataclass(frozen=True)
class ArmFacts:
    """a_m, d_m: (6,) DH lengths. joint_speed_rad_s: (6,) what the joints can do. payload_kg: gripper included.
    reach_m: of the flange from the base's axis. is_e_series: 500 Hz and a force sensor; otherwise CB3, 125 Hz."""

    a_m: tuple[float, ...]
    d_m: tuple[float, ...]
    joint_speed_rad_s: tuple[float, ...]
    payload_kg: float
    reach_m: float
    is_e_series: bool


_180, _120, _360 = np.pi, 2 * np.pi / 3, 2 * np.pi

ARMS: dict[ArmName, ArmFacts] = {
    "UR3": ArmFacts(
        (0, -0.24365, -0.21325, 0, 0, 0), (0.1519, 0, 0, 0.11235, 0.08535, 0.0819), (_180,) * 3 + (_360,) * 3, 3.0,
        0.5, False,
    ),
    "UR5": ArmFacts(
        (0, -0.425, -0.39225, 0, 0, 0), (0.089159, 0, 0, 0.10915, 0.09465, 0.0823), (_180,) * 6, 5.0, 0.85, False
    ),
    "UR10": ArmFacts(
        (0, -0.612, -0.5723, 0, 0, 0), (0.1273, 0, 0, 0.163941, 0.1157, 0.0922), (_120,) * 2 + (_180,) * 4, 10.0, 1.3,
        False,
    ),
    "UR3e": ArmFacts(
        (0, -0.24355, -0.2132, 0, 0, 0), (0.15185, 0, 0, 0.13105, 0.08535, 0.0921), (_180,) * 3 + (_360,) * 3, 3.0,
        0.5, True,
    ),
    "UR5e": ArmFacts(
        (0, -0.425, -0.3922, 0, 0, 0), (0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (_180,) * 6, 5.0, 0.85, True
    ),
    "UR10e": ArmFacts(
        (0, -0.6127, -0.57155, 0, 0, 0), (0.1807, 0, 0, 0.17415, 0.11985, 0.11655), (_120,) * 2 + (_180,) * 4, 12.5,
        1.3, True,
    ),
}  # fmt: skip


def flange_pose(model: ArmName, positions: Array) -> Array:
    """(6,) rad -> T_base_flange, z out of the flange, by the nominal Denavit-Hartenberg parameters. The controller adds
    its arm's own factory calibration, some tenths of a millimetre to a few millimetres."""
    T = np.eye(4)
    for theta, a, d, alpha in zip(positions, ARMS[model].a_m, ARMS[model].d_m, ALPHA_RAD, strict=True):
        (s, c), (sa, ca) = (np.sin(theta), np.cos(theta)), (np.sin(alpha), np.cos(alpha))
        T = T @ [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
    return T
