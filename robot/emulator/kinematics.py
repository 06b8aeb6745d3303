"""Kinematics for the controller's tick. Plain floats: on a 4x4 numpy takes longer than Python does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.arms import ALPHA_RAD, ARMS, ArmName

Rows = tuple[float, ...]  # the upper three rows of a rigid transform, row by row (12,)
IDENTITY: Rows = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_COS_ALPHA = tuple(float(round(math.cos(alpha))) for alpha in ALPHA_RAD)
_SIN_ALPHA = tuple(float(round(math.sin(alpha))) for alpha in ALPHA_RAD)
_DAMPING = 1e-8
_HALF_TURN_RAD = 1e-5  # nearer to half a turn than this, the axis comes from R + 1


def rows_of_pose(pose: Sequence[float]) -> Rows:
    """From Universal Robots' pose vector: metres and a rotation vector."""
    px, py, pz, rx, ry, rz = (float(value) for value in pose)
    angle = math.sqrt(rx * rx + ry * ry + rz * rz)
    if angle < 1e-12:
        return (1.0, 0.0, 0.0, px, 0.0, 1.0, 0.0, py, 0.0, 0.0, 1.0, pz)
    x, y, z = rx / angle, ry / angle, rz / angle
    c, s = math.cos(angle), math.sin(angle)
    k = 1.0 - c
    first = (c + x * x * k, x * y * k - z * s, x * z * k + y * s, px)
    second = (y * x * k + z * s, c + y * y * k, y * z * k - x * s, py)
    return (*first, *second, z * x * k - y * s, z * y * k + x * s, c + z * z * k, pz)


def pose_of_rows(rows: Rows) -> list[float]:
    """Universal Robots' pose vector (6,): metres and a rotation vector."""
    a, b, c, px, d, e, f, py, g, h, i, pz = rows
    x, y, z = h - f, c - g, d - b  # the axis, times twice the sine
    sine = math.sqrt(x * x + y * y + z * z) / 2.0
    angle = math.atan2(sine, (a + e + i - 1.0) / 2.0)
    if math.pi - angle < _HALF_TURN_RAD:
        columns = ((a + 1, d, g), (b, e + 1, h), (c, f, i + 1))
        column = max(columns, key=lambda v: v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        scale = angle / math.sqrt(sum(v * v for v in column))
        return [px, py, pz, *(scale * v for v in column)]
    scale = 0.5 if sine < 1e-9 else angle / (2.0 * sine)
    return [px, py, pz, scale * x, scale * y, scale * z]


def compose(T_a_b: Rows, T_b_c: Rows) -> Rows:
    """T_a_c."""
    a, b, c, px, d, e, f, py, g, h, i, pz = T_a_b
    r = T_b_c
    return (
        a * r[0] + b * r[4] + c * r[8], a * r[1] + b * r[5] + c * r[9], a * r[2] + b * r[6] + c * r[10],
        a * r[3] + b * r[7] + c * r[11] + px,
        d * r[0] + e * r[4] + f * r[8], d * r[1] + e * r[5] + f * r[9], d * r[2] + e * r[6] + f * r[10],
        d * r[3] + e * r[7] + f * r[11] + py,
        g * r[0] + h * r[4] + i * r[8], g * r[1] + h * r[5] + i * r[9], g * r[2] + h * r[6] + i * r[10],
        g * r[3] + h * r[7] + i * r[11] + pz,
    )  # fmt: skip


def rotation_between(T_base_a: Rows, T_base_b: Rows) -> list[float]:
    """Rotation vector (3,), base frame, that turns a into b."""
    a, b = T_base_a, T_base_b
    turned = [
        sum(b[4 * row + k] * a[4 * column + k] for k in range(3)) for row in range(3) for column in range(3)
    ]  # R_b @ R_a.T
    rows = (*turned[0:3], 0.0, *turned[3:6], 0.0, *turned[6:9], 0.0)
    return pose_of_rows(rows)[3:]


@lru_cache(maxsize=8)  # within a tick the same joints are asked for several times
def _frames(a_m: tuple[float, ...], d_m: tuple[float, ...], q: tuple[float, ...]) -> tuple[Rows, ...]:
    rows = IDENTITY
    frames = [rows]
    for i in range(6):
        ct, st, ca, sa = math.cos(q[i]), math.sin(q[i]), _COS_ALPHA[i], _SIN_ALPHA[i]
        link: list[float] = []
        for k in (0, 4, 8):
            x, y, z, p = rows[k : k + 4]
            along, across = x * ct + y * st, y * ct - x * st
            link += (along, across * ca + z * sa, z * ca - across * sa, along * a_m[i] + z * d_m[i] + p)
        rows = tuple(link)
        frames.append(rows)
    return tuple(frames)


class Kinematics:
    """Of one arm with its tool. T_flange_tcp: the tool as rows, set by the program (`setTcp`)."""

    def __init__(self, arm: ArmName) -> None:
        self._a_m, self._d_m = ARMS[arm].a_m, ARMS[arm].d_m
        self.T_flange_tcp = IDENTITY

    def frames(self, q: Sequence[float]) -> tuple[Rows, ...]:
        """T_base_0 to T_base_6: the base, the six links; the last is the flange."""
        return _frames(self._a_m, self._d_m, tuple(q))

    def flange(self, q: Sequence[float]) -> Rows:
        """T_base_flange at joints (6,) rad."""
        return self.frames(q)[-1]

    def tcp(self, q: Sequence[float], T_flange_tcp: Rows | None = None) -> Rows:
        """T_base_tcp at joints (6,) rad."""
        return compose(self.flange(q), self.T_flange_tcp if T_flange_tcp is None else T_flange_tcp)

    def _columns(self, q: Sequence[float]) -> list[tuple[float, ...]]:
        """The six columns of the tcp's Jacobian: linear (m/rad), then angular."""
        frames = self.frames(q)
        x, y, z = compose(frames[-1], self.T_flange_tcp)[3::4]
        columns: list[tuple[float, ...]] = []
        for f in frames[:6]:
            zx, zy, zz = f[2::4]
            dx, dy, dz = x - f[3], y - f[7], z - f[11]
            columns.append((zy * dz - zz * dy, zz * dx - zx * dz, zx * dy - zy * dx, zx, zy, zz))
        return columns

    def jacobian(self, q: Sequence[float]) -> Array:
        """(6, 6) of the tcp, base frame."""
        return np.array(self._columns(q)).T

    def twist(self, q: Sequence[float], qd: Sequence[float]) -> list[float]:
        """Velocity of the tcp (6,): m/s and rad/s, base frame."""
        if not any(qd):
            return [0.0] * 6
        a, b, c, d, e, f = qd
        return [
            i * a + j * b + k * c + m * d + n * e + o * f for i, j, k, m, n, o in zip(*self._columns(q), strict=True)
        ]

    def inverse(self, T_base_tcp: Rows, near: Array, *, iterations: int = 60, tolerance: float = 1e-7) -> Array | None:
        """Joints (6,) that bring the tcp there, by Newton steps from `near`; None where that does not converge. The
        branch is that of `near`, so unlike a real controller's it gives up where another branch would be needed."""
        q = np.array(near, float)
        for _ in range(iterations):
            now = self.tcp(q.tolist())
            error = [T_base_tcp[k] - now[k] for k in (3, 7, 11)] + rotation_between(now, T_base_tcp)
            if math.sqrt(sum(e * e for e in error)) < tolerance:
                return q
            J = self.jacobian(q.tolist())
            dq = J.T @ np.linalg.solve(J @ J.T + _DAMPING * np.eye(6), np.array(error))
            largest = np.abs(dq).max()
            q = q + dq * min(1.0, 0.4 / largest if largest else 1.0)
        return None
