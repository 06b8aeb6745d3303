"""Where an arm is, read without commanding it: a person moves it, with the pendant or by hand."""

from __future__ import annotations

import time

import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import rigid
from affordagent.robot.calibration.views import Pose
from affordagent.robot.interface import ArmState
from affordagent.robot.ur5.link import Link, WorkerLost
from affordagent.robot.ur5.state import Board, UrState

FIRST_STATE_S = 3.0
_POLL_S = 0.02


class ArmWatch:
    """`with ArmWatch(host) as watch:` reads the controller; no program is uploaded, so that free drive and the pendant
    keep working, in local and in remote control.

    Raises:
        StageFailure: ("execute", "execution.comms"): nobody answers at the host.
        AffordAgentError: by `with`: ur_rtde is not installed.
    """

    def __init__(self, host: str, stale_after_s: float = 0.5) -> None:
        self._host, self._stale_after_s = host, stale_after_s
        self._board: Board | None = None
        self._link: Link | None = None

    def __enter__(self) -> ArmWatch:
        self._board = Board()
        try:
            self._link = Link(self._host, self._board, outputs=False)
        except WorkerLost as error:
            self.__exit__()
            raise self._lost(str(error)) from error
        return self

    def __exit__(self, *exc: object) -> None:
        if self._link is not None:
            self._link.close()
        if self._board is not None:
            self._board.close()
        self._link = self._board = None

    def pose(self) -> Pose:
        """Where the arm rests.

        Raises:
            StageFailure: ("look", "camera.moving"): it moves; ("execute", "execution.comms"): nothing new is heard.
        """
        state = self._state()
        if not state.at_rest:
            raise StageFailure("look", "camera.moving", "the arm moves: let it come to rest, then try again")
        T = rigid(Rotation.from_rotvec(state.tcp_pose[3:]).as_matrix(), state.tcp_pose[:3])
        return Pose(state.q, T, time.time() - state.age_s)

    def read(self) -> ArmState:
        """As `pose`, for a camera that the arm carries; the gripper is not asked."""
        pose = self.pose()
        return ArmState(pose.positions, float("nan"), pose.stamp_s)

    def _state(self) -> UrState:
        if self._link is None:
            raise self._lost("not connected")
        end_s = time.monotonic() + FIRST_STATE_S
        while time.monotonic() < end_s:
            state = self._link.state()
            if state is not None and np.isfinite(state.q).all() and state.age_s <= self._stale_after_s:
                return state
            if not self._link.alive:
                break
            time.sleep(_POLL_S)
        raise self._lost(f"nothing new for more than {self._stale_after_s} s")

    def _lost(self, why: str) -> StageFailure:
        return StageFailure(
            "execute",
            "execution.comms",
            f"the controller at {self._host} is not heard of: {why}. Check that it is switched on, its address and "
            "cable, and that RTDE is not disabled under Settings, Security, Services",
        )
