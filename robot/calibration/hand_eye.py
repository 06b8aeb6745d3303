"""Hand-eye calibration: where the camera is on the flange (eye in hand), or in the base frame (eye to hand).

Both are one problem. With G the pose of the flange in the base frame (eye in hand) or its inverse (eye to hand), C the
board in the camera, X the camera on its mount and Y the board on the other side, every view says G X C = Y. Pairs of
views give A X = X B, solved in closed form (Park and Martin, "Robot sensor calibration: solving AX = XB on the
Euclidean group", 1994); X and Y are then refined together by the reprojection of the corners (Strobl and Hirzinger,
"Optimal hand-eye calibration", 2006, without their weights).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, rigid, rotation_angle, transform_points

Kind = Literal["eye_in_hand", "eye_to_hand"]

MIN_VIEWS = 8
MIN_ROTATION_DEG = 15.0  # about each of two axes
MAX_RMS_PX = 1.0
MAX_CONSISTENCY_MM = 5.0
MAX_OUTLIER_SHARE = 1 / 3
HOPELESS_PX = 10.0
_OUTLIER_RATIO = 3.0  # times the middle view's error
_LOSS_PX = 1.0
_SUBSETS, _SUBSET = 60, 4
_MOST_STEPS = 60  # 10 are typical


@dataclass(frozen=True)
class View:
    """One picture of the board. T_base_flange: by the joints. points_m: (n, 3) corners in the board frame, pixels:
    (n, 2) where they were seen, T_camera_board: the pose they give by themselves."""

    name: str
    T_base_flange: Array
    points_m: Array
    pixels: Array
    T_camera_board: Array


@dataclass(frozen=True)
class HandEye:
    """What the views say.

    T_mount_camera: T_flange_camera (eye in hand) or T_base_camera (eye to hand). T_fixed_board: the board in the base
    frame or on the flange. views: those used, residuals_px: (n, 2) seen minus reprojected, for each. outliers: name ->
    rms in pixels of the views left out. off_mm, off_deg: for each view, how far it sees the board from where the others
    put it. spread_mm, spread_deg: standard deviation of the camera's pose by leaving one view out in turn (jackknife).
    rotation_deg: (3,) range of the flange's rotations about their main axes, largest first.
    """

    kind: Kind
    T_mount_camera: Array
    T_fixed_board: Array
    views: list[View]
    residuals_px: list[Array]
    outliers: dict[str, float]
    off_mm: Array
    off_deg: Array
    spread_mm: float
    spread_deg: float
    rotation_deg: Array

    @property
    def rms_px(self) -> float:
        return _rms(np.concatenate(self.residuals_px))

    @property
    def max_px(self) -> float:
        return float(np.linalg.norm(np.concatenate(self.residuals_px), axis=1).max())

    @property
    def view_rms_px(self) -> Array:
        """(views,) rms of each view."""
        return np.array([_rms(residual) for residual in self.residuals_px])

    @property
    def consistency_mm(self) -> float:
        return float(np.sqrt((self.off_mm**2).mean()))

    @property
    def consistency_deg(self) -> float:
        return float(np.sqrt((self.off_deg**2).mean()))

    def T_camera_board(self, view: View) -> Array:
        """Where the whole solution puts the board in a view."""
        return _T_camera_board(self.T_mount_camera, self.T_fixed_board, carrier(view, self.kind)[None])[0]


def carrier(view: View, kind: Kind) -> Array:
    """G of the view: T_base_flange, or its inverse."""
    return view.T_base_flange if kind == "eye_in_hand" else invert(view.T_base_flange)


def solve_ax_xb(A: Array, B: Array) -> Array:
    """The rigid X (4, 4) with A X = X B in the least-squares sense, for (n, 4, 4) motions A and B.

    At least two of the motions must turn about different axes.
    """
    alpha, beta = (Rotation.from_matrix(T[:, :3, :3]).as_rotvec() for T in (A, B))
    U, _, Vt = np.linalg.svd(alpha.T @ beta)
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    rows = (A[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    shift, *_ = np.linalg.lstsq(rows, (B[:, :3, 3] @ R.T - A[:, :3, 3]).ravel(), rcond=None)
    return rigid(R, shift)


def rotation_range_deg(rotations: Array) -> Array:
    """(n, 3, 3) rotations -> (3,) range about each of their main axes, degrees, largest first."""
    turns = Rotation.from_matrix(rotations)
    off = (turns.mean().inv() * turns).as_rotvec()
    off -= off.mean(0)
    _, _, axes = np.linalg.svd(off)
    return np.sort(np.degrees(np.ptp(off @ axes.T, axis=0)))[::-1]


def solve(views: list[View], kind: Kind, camera: CameraIntrinsics, centre_m: Array) -> HandEye:
    """The calibration by these views; those that do not fit the others are found, named and left out.

    centre_m: (3,) middle of the board in its frame, where distances are measured.

    Raises:
        StageFailure: ("look", "calibration.poor"): too few views, too little rotation, or too many that do not fit.
    """
    check_views(views)
    used, outliers = list(views), dict[str, float]()
    X, Y = _start(used, kind, centre_m)
    while True:
        X, Y = _refine(used, kind, camera, X, Y)
        residuals = _residuals(used, kind, camera, X, Y)
        rms = np.array([_rms(residual) for residual in residuals])
        worst, middle = int(np.argmax(rms)), float(np.median(rms))
        if middle > HOPELESS_PX or len(outliers) > MAX_OUTLIER_SHARE * len(views):
            raise poor(
                f"the views do not agree on an {kind.replace('_', '-')} calibration: {middle:.1f} px off in the "
                f"middle, {len(outliers)} of {len(views)} far from the others. The board or the camera moved between "
                "the pictures, the board is not fixed where this kind needs it, or the arm is another model"
            )
        if rms[worst] <= max(_OUTLIER_RATIO * middle, _LOSS_PX):
            break
        outliers[used[worst].name] = float(rms[worst])
        del used[worst]
    check_views(used)
    off, poses = _leave_one_out(used, kind, camera, X, Y, centre_m)
    shifts = np.array([T[:3, 3] for T in poses]) - X[:3, 3]
    turns = np.array([Rotation.from_matrix(X[:3, :3].T @ T[:3, :3]).as_rotvec() for T in poses])
    return HandEye(
        kind=kind,
        T_mount_camera=X,
        T_fixed_board=Y,
        views=used,
        residuals_px=residuals,
        outliers=outliers,
        off_mm=off[:, 0] * 1000,
        off_deg=np.degrees(off[:, 1]),
        spread_mm=1000 * _jackknife(shifts),
        spread_deg=float(np.degrees(_jackknife(turns))),
        rotation_deg=rotation_range_deg(np.array([view.T_base_flange[:3, :3] for view in used])),
    )


def check_views(views: list[View]) -> None:
    """
    Raises:
        StageFailure: ("look", "calibration.poor"): too few, or too little rotation between them.
    """
    if len(views) < MIN_VIEWS:
        raise poor(
            f"{len(views)} views of the board can be used, at least {MIN_VIEWS} are needed: collect more, 15 to 20"
        )
    turned = rotation_range_deg(np.array([view.T_base_flange[:3, :3] for view in views]))
    if turned[1] < MIN_ROTATION_DEG:
        raise poor(
            f"the flange turned by {turned[0]:.0f}, {turned[1]:.0f} and {turned[2]:.0f} degrees about its main axes; "
            f"at least {MIN_ROTATION_DEG:.0f} about two of them are needed: collect views with the wrist tilted to all "
            "sides by 20 to 30 degrees"
        )


def poor(message: str) -> StageFailure:
    return StageFailure("look", "calibration.poor", message)


def _start(views: list[View], kind: Kind, centre_m: Array) -> tuple[Array, Array]:
    """Closed form by the four views that the middle one agrees with best: wrong views cannot pull it away."""
    G = np.array([carrier(view, kind) for view in views])
    C = np.array([view.T_camera_board for view in views])
    rng = np.random.default_rng(0)
    subsets = [rng.choice(len(views), _SUBSET, replace=False) for _ in range(_SUBSETS)]
    best, least = (np.eye(4), np.eye(4)), np.inf
    for chosen in [np.arange(len(views)), *subsets]:
        first, second = np.array(list(combinations(chosen, 2))).T
        X = solve_ax_xb(invert(G[second]) @ G[first], C[second] @ invert(C[first]))
        seen = G @ X @ C
        spots = seen[:, :3, :3] @ centre_m + seen[:, :3, 3]
        off_m = np.linalg.norm(spots - np.median(spots, axis=0), axis=1)
        if np.median(off_m) < least:
            best, least = (X, seen[int(np.argmin(off_m))]), float(np.median(off_m))
    return best


def _T_camera_board(X: Array, Y: Array, G: Array) -> Array:
    return invert(X) @ invert(G) @ Y


@dataclass(frozen=True)
class _Problem:
    """All corners of all views in one piece: the view of each, where it is on the board, where it was seen."""

    G: Array
    view: Array
    points_m: Array
    pixels: Array
    camera: CameraIntrinsics
    lengths: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, views: list[View], kind: Kind, camera: CameraIntrinsics) -> _Problem:
        lengths = [len(view.pixels) for view in views]
        return cls(
            np.array([carrier(view, kind) for view in views]),
            np.repeat(np.arange(len(views)), lengths),
            np.concatenate([view.points_m for view in views]),
            np.concatenate([view.pixels for view in views]),
            camera,
            lengths,
        )

    def residuals(self, X: Array, Y: Array) -> Array:
        """(n, 2) seen minus reprojected, pixels."""
        T = _T_camera_board(X, Y, self.G)[self.view]
        points = np.einsum("nij,nj->ni", T[:, :3, :3], self.points_m) + T[:, :3, 3]
        points[:, 2] = np.maximum(points[:, 2], 1e-3)  # behind the camera: very wrong, but a number
        return self.pixels - self.camera.project(points)


def _unpack(parameters: Array) -> tuple[Array, Array]:
    R = Rotation.from_rotvec(parameters.reshape(4, 3)[::2]).as_matrix()
    return rigid(R[0], parameters[3:6]), rigid(R[1], parameters[9:12])


def _refine(views: list[View], kind: Kind, camera: CameraIntrinsics, X: Array, Y: Array) -> tuple[Array, Array]:
    problem = _Problem.of(views, kind, camera)
    start = np.concatenate([[*Rotation.from_matrix(T[:3, :3]).as_rotvec(), *T[:3, 3]] for T in (X, Y)])
    found = least_squares(
        lambda p: problem.residuals(*_unpack(p)).ravel(),
        start,
        loss="soft_l1",
        f_scale=_LOSS_PX,
        x_scale="jac",
        max_nfev=_MOST_STEPS,
    )
    return _unpack(found.x)


def _residuals(views: list[View], kind: Kind, camera: CameraIntrinsics, X: Array, Y: Array) -> list[Array]:
    problem = _Problem.of(views, kind, camera)
    return np.split(problem.residuals(X, Y), np.cumsum(problem.lengths)[:-1])


def _leave_one_out(
    views: list[View], kind: Kind, camera: CameraIntrinsics, X: Array, Y: Array, centre_m: Array
) -> tuple[Array, list[Array]]:
    """(n, 2) metres and radians between where each view sees the board and where the others put it, and the camera's
    pose without each."""
    off, poses = [], []
    for i, view in enumerate(views):
        X_i, Y_i = _refine(views[:i] + views[i + 1 :], kind, camera, X, Y)
        seen = carrier(view, kind) @ X_i @ view.T_camera_board
        gap_m = transform_points(seen, centre_m[None]) - transform_points(Y_i, centre_m[None])
        off.append((float(np.linalg.norm(gap_m)), rotation_angle(seen[:3, :3].T @ Y_i[:3, :3])))
        poses.append(X_i)
    return np.array(off), poses


def _jackknife(values: Array) -> float:
    """Standard deviation of an estimate by its (n, 3) values with one datum left out in turn (Tukey 1958)."""
    n = len(values)
    return float(np.sqrt((n - 1) / n * ((values - values.mean(0)) ** 2).sum()))


def _rms(residual: Array) -> float:
    return float(np.sqrt((residual**2).sum(1).mean()))
