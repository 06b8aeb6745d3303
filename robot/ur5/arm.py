"""`robot.interface.Arm` on a Universal Robots controller: `ur_rtde` in a child process, and a stop without it."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, check_rigid
from affordagent.core.types import JointTrajectory
from affordagent.robot.arms import ARMS
from affordagent.robot.gripper import Gripper, GripperState
from affordagent.robot.interface import ArmState, MotionResult
from affordagent.robot.motion_rules import malformed
from affordagent.robot.ur5.config import Ur5Config
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.fingers import FingerMove
from affordagent.robot.ur5.identity import as_ur_pose, check_model, check_tcp
from affordagent.robot.ur5.link import Link, WorkerLost
from affordagent.robot.ur5.recovery import Recovery, diagnose
from affordagent.robot.ur5.state import PAUSED, STOPPED, Board, UrState, fault_of

FINGERS_LEAVE_S = 5.0
PREPARE_S, OUTPUT_S = 15.0, 3.0
STOP_SEEN_S, STOP_REST_S = 0.2, 1.0
_WATCH_S, _LATE_S = 0.02, 0.2
_DASHBOARD_S = 0.5
CAUSE_S = 0.3  # in which the controller says why


class UrArm:
    """A UR3, UR5 or UR10, CB3 or e-Series. `with UrArm(...) as arm:` connects and always disconnects.

    What is guaranteed: commands raise nothing for what goes wrong on the way but answer with it, and when they return
    the arm is at rest or the controller is stopping it by itself. Nothing is sent on a state that is too old. When this
    process dies, the worker stops the arm; when the worker dies or the link breaks, the controller's watchdog stops it
    within 1 / watchdog_hz. After any failure `make_ready` and then the next command work, or `make_ready` says what a
    person must do. One thread commands; `stop` and `read` are for any thread.

    T_flange_tcp: (4, 4), set on the controller and checked against it. tcp_force_n: a motion ends when the force on the
    tcp exceeds it; None = not watched. gripper_force_n: of the fingers. The gripper is connected here and activated by
    the first `grip`. read_only: for a dry run; nothing is uploaded or mended, so that nothing can be sent, and the
    controller need not be in remote control.

    Raises:
        StageFailure: by `with`: ("execute", code) with execution.comms (nobody answers), execution.local_control,
            execution.program, execution.gripper, or calibration.tcp (the controller has another arm or tcp than the
            settings). An arm that is stopped or off is no failure yet: `make_ready` sees to it.
        AffordAgentError: by `with`: ur_rtde is not installed.
    """

    def __init__(
        self,
        host: str,
        config: Ur5Config,
        gripper: Gripper,
        T_flange_tcp: Array,
        tcp_force_n: float | None = None,
        gripper_force_n: float = 60.0,
        read_only: bool = False,
    ) -> None:
        self.host, self.config, self.gripper = host, config, gripper
        self.T_flange_tcp = check_rigid(T_flange_tcp, "T_flange_tcp")
        self.tcp_force_n, self.gripper_force_n = tcp_force_n, gripper_force_n
        self.read_only = read_only
        self.recovery = Recovery(host, config.unlocks)
        self._facts = ARMS[config.model]
        self._board: Board | None = None
        self._link: Link | None = None
        self._uploaded = False  # by the present worker
        self._fingers: GripperState | None = None
        self._move: FingerMove | None = None

    def __enter__(self) -> UrArm:
        self._board = Board()
        try:
            self._connect()
            fault = fault_of(self._state())
            if self.read_only or fault is None or fault[0] == "execution.program":  # else `make_ready` sees to it
                self.gripper.connect()
                if not self.read_only:
                    self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._move is not None:
            self._move.join(FINGERS_LEAVE_S)
            self._move = None
        self.gripper.close()
        link, board = self._link, self._board
        self._link = self._board = None
        if link is not None:
            link.close()
        if board is not None:
            board.close()

    # ---- the interface of an arm --------------------------------------------------------------------------------
    def make_ready(self) -> list[str]:
        """Forget a stop, open a lost connection again, and mend what `recovery.Recovery` may.

        Raises:
            StageFailure: ("execute", `execution.*`), ("execute", "calibration.tcp"): a person is needed;
                evidence["steps"] says what to do.
        """
        self._open_board().forget_stop()
        mended = []
        if not self._is_linked():
            self._connect()
            mended.append("opened the lost connection to the controller again")
        if self.read_only:
            return mended
        return mended + self.recovery.make_ready(self._state_to_mend, self._prepare)

    def read(self) -> ArmState:
        """The present state.

        Raises:
            StageFailure: ("execute", "execution.comms"): the last state is too old to act on; ("execute",
                "execution.gripper"): the gripper does not answer, or what is behind that, such as
                execution.power_off.
        """
        self._present_state()
        try:
            self._fingers = self.gripper.read()
        except StageFailure as failure:
            raise StageFailure("execute", *self._cause(failure.code, failure.message)) from failure
        return self._arm_state(self._present_state())

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        """Stream the trajectory and wait until the arm is at rest at its end.

        Codes: safety.malformed, execution.start_mismatch (nothing was sent), execution.stopped, execution.tracking,
        execution.force, execution.timeout (slower than 5 % of its speed for 3 s, or not at rest 2 s after its end),
        execution.gripper (its state cannot be read), or what keeps the arm from moving (`state.fault_of`), or
        execution.comms.
        """
        problem = malformed(np.asarray(trajectory.positions), np.asarray(trajectory.times_s))
        if problem is not None:
            return self._failed("safety.malformed", problem)
        blocked = self._blocked()
        if blocked is not None:
            return self._failed(*blocked)
        answer = self._ask(
            "follow",
            times_s=trajectory.times_s.tolist(),
            positions=trajectory.positions.tolist(),
            force_limit_n=self.tcp_force_n,
        )
        if not answer["reached"]:
            state = self._state()
            if not state.has_control and state.runtime_state != STOPPED:  # paused, with its servoing under way
                self._end_program()
            return self._failed(answer["code"], answer["message"], answer.get("max_error_rad", 0.0))
        self.recovery.succeeded()
        return self._reached(answer["max_error_rad"])

    def grip(self, width_m: float, phase: str) -> MotionResult:
        """Drive the fingers and watch the arm meanwhile. The gripper is activated first where it is not.

        Codes: execution.gripper (it does not answer, has a fault, or jams), safety.malformed, or those of `follow` that
        keep the arm from moving; then the fingers are stopped.
        """
        blocked = self._blocked()
        if blocked is not None:
            return self._failed(*blocked)
        if self._move is not None:
            self._move.join(FINGERS_LEAVE_S)  # one that was cancelled while the gripper did not answer
            if self._move.is_alive():
                return self._failed("execution.gripper", "the gripper still does not answer: check its URCap and cable")
        self._move = move = FingerMove(self.gripper, width_m, self.gripper_force_n)
        move.start()
        try:
            while blocked is None and move.is_alive():
                move.join(_WATCH_S)
                blocked = self._blocked()
        finally:
            move.cancel()
        if blocked is None and move.failure is not None:
            blocked = move.failure.code, move.failure.message
        if blocked is None and (move.state is None or move.state.moving):
            blocked = "execution.gripper", "whether the fingers moved is not known: look at them"
        self._fingers = move.state or self._fingers
        return MotionResult(True, self._arm_state(self._state())) if blocked is None else self._failed(*blocked)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        """By the controller's clock. Codes as of `grip`."""
        if not 0 <= duration_s < math.inf:
            return self._failed("safety.malformed", f"duration_s = {duration_s}, must be 0 or more and finite")
        end_s = self._state().stamp_s + duration_s
        while True:
            blocked = self._blocked()
            if blocked is not None:
                return self._failed(*blocked)
            if self._state().stamp_s >= end_s:
                return self._reached(0.0)
            time.sleep(_WATCH_S)

    def stop(self) -> None:
        """From any thread and at any time, also from a signal handler. Returns when the arm is at rest: the worker has
        at most 0.2 s to obey and 1 s to bring the arm to rest, then the dashboard server ends the program."""
        board, link = self._board, self._link
        if board is None:
            return
        board.ask_stop()
        if self.read_only:
            return
        asked_s = time.monotonic()
        while link is not None and link.alive:
            now_s, state = time.monotonic(), board.read()
            if board.stop_obeyed and state is not None and state.beat_s > asked_s and state.at_rest:
                return
            if now_s - asked_s > (STOP_REST_S if board.stop_obeyed else STOP_SEEN_S):
                break
            time.sleep(0.002)
        self._halt()

    def set_output(self, pin: int, on: bool) -> None:
        """Set a standard digital output, for a gripper that hangs on one. Only when the settings name such a gripper.

        Raises:
            StageFailure: ("execute", "execution.gripper"): the output could not be set.
        """
        answer = self._ask("output", within_s=OUTPUT_S, pin=pin, on=on)
        if not answer["reached"]:
            message = answer.get("message", f"the controller did not set output {pin}")
            raise StageFailure("execute", "execution.gripper", message)

    # ---- connecting ---------------------------------------------------------------------------------------------
    def _connect(self) -> None:
        if self._link is not None:
            self._link.end()
            self._link = None
        self._uploaded = False
        with Dashboard(self.host) as dashboard:
            if not self.read_only and not dashboard.is_remote():
                raise diagnose("execution.local_control").as_failure()
            check_model(self.config.model, dashboard)
        try:
            outputs = self.config.gripper.startswith("digital") and not self.read_only
            self._link = Link(self.host, self._open_board(), outputs, self.config.stale_after_s)
        except WorkerLost as error:
            raise diagnose("execution.comms", str(error)).as_failure(host=self.host) from error
        self._fresh_state()

    def _is_linked(self) -> bool:
        try:
            self._present_state()
        except StageFailure:
            return False
        return True

    def _prepare(self) -> None:
        """Our program on the controller, with tcp, payload and watchdog, and a check that both mean the same tcp. Each
        upload takes a new worker (see `Worker.prepare`)."""
        if self._uploaded:
            if self._state().runtime_state == PAUSED:  # ours: a safeguard or a person at the pendant paused it
                self._end_program()
            self._connect()
        self._uploaded = True
        answer = self._ask(
            "prepare",
            within_s=PREPARE_S,
            tcp=as_ur_pose(self.T_flange_tcp),
            payload_kg=self.config.payload_kg,
            cog_m=list(self.config.payload_cog_m),
            watchdog_hz=self.config.watchdog_hz,
            zero_force=self._facts.is_e_series,
        )
        if not answer["reached"]:
            raise diagnose(answer["code"], answer["message"]).as_failure()
        try:
            check_tcp(self.config.model, self.T_flange_tcp, self._fresh_state())
        except StageFailure:
            self._halt()  # or the next `make_ready` would find nothing wrong
            raise

    # ---- asking and watching ------------------------------------------------------------------------------------
    def _ask(self, op: str, within_s: float | None = None, **fields: Any) -> dict[str, Any]:
        """The worker's answer; when it is lost, the arm is stopped without it."""
        if self._link is None:
            code, message = _lost(self.host, "not connected")
            return {"reached": False, "code": code, "message": message}
        try:
            return self._link.ask(op, within_s=within_s, **fields)
        except WorkerLost as error:
            self._halt()
            code, message = _lost(self.host, str(error))
            if self._open_board().stop_asked:
                code, message = "execution.stopped", f"stopped on request, without the worker: {message}"
            return {"reached": False, "code": code, "message": message}
        except BaseException:  # Ctrl-C: the motion must not outlive the one who asked for it
            self.stop()
            raise

    def _halt(self) -> None:
        """End the program on the controller without the worker, and the worker, whose state is unknown."""
        self._end_program()
        if self._link is not None:
            self._link.kill()

    def _end_program(self) -> None:
        """Without the worker. The watchdog does the same where the dashboard server does not answer."""
        with contextlib.suppress(StageFailure), Dashboard(self.host, _DASHBOARD_S) as dashboard:
            dashboard.ask("stop")

    def _is_remote(self) -> bool:
        try:
            with Dashboard(self.host, _DASHBOARD_S) as dashboard:
                return dashboard.is_remote()
        except StageFailure:
            return True  # not known: what the state says stands

    def _blocked(self) -> tuple[str, str] | None:
        """Code and message of what keeps the arm from moving, None if nothing."""
        if self._open_board().stop_asked:
            return "execution.stopped", "stopped on request"
        try:
            return fault_of(self._present_state())
        except StageFailure as failure:
            return failure.code, failure.message

    def _present_state(self) -> UrState:
        """A state that is not too old. When it is, the worker gets a moment to write a newer one: on a computer that
        stood still for a while, we may have been the first to wake up."""
        limit_s, from_s = self.config.stale_after_s, time.monotonic()
        while True:
            state = self._state()
            if self._link is None or not self._link.alive:
                raise StageFailure("execute", *_lost(self.host, "the driver's process has ended"))
            if state.age_s <= limit_s:
                return state
            if time.monotonic() - from_s > _LATE_S:
                what = f"the last state is {state.age_s:.2f} s old, limit {limit_s} s"
                raise StageFailure("execute", *_lost(self.host, what))
            time.sleep(0.002)

    def _state_to_mend(self) -> UrState:
        """The present state for `make_ready`, whose failures tell a person what to do."""
        try:
            return self._present_state()
        except StageFailure as failure:
            raise diagnose(failure.code, failure.message).as_failure(host=self.host) from failure

    def _open_board(self) -> Board:
        if self._board is None:
            raise RuntimeError("the arm is not connected: use it in a with statement")
        return self._board

    def _state(self) -> UrState:
        state = self._open_board().read()
        if state is None:
            raise RuntimeError("the arm is not connected: use it in a with statement")
        return state

    def _fresh_state(self) -> UrState:
        """The first state of a new worker, or one taken from now on."""
        from_s = time.monotonic()
        while True:
            state = self._open_board().read()
            if state is not None and state.seen_s > from_s:
                return state
            if self._link is None or not self._link.alive or time.monotonic() - from_s > 2.0:
                raise diagnose("execution.comms", "no state comes").as_failure(host=self.host)
            time.sleep(0.002)

    # ---- answers ------------------------------------------------------------------------------------------------
    def _arm_state(self, state: UrState) -> ArmState:
        fingers = self._fingers
        return ArmState(
            positions=state.q,
            gripper_width_m=math.nan if fingers is None else fingers.width_m,
            stamp_s=state.stamp_s,
            age_s=state.age_s,
            holding=None if fingers is None else fingers.holding,
            tcp_force_n=state.tcp_force[:3] if self._facts.is_e_series else None,
        )

    def _reached(self, error_rad: float) -> MotionResult:
        try:
            self._fingers = self.gripper.read()
        except StageFailure as error:
            return self._failed(error.code, error.message, error_rad)
        return MotionResult(True, self._arm_state(self._state()), error_rad)

    def _failed(self, code: str, message: str, error_rad: float = 0.0) -> MotionResult:
        code, message = self._cause(code, message)
        return MotionResult(False, self._arm_state(self._state()), error_rad, code, message)

    def _cause(self, code: str, message: str) -> tuple[str, str]:
        """What is behind a failure: a program that ends and a gripper that does not answer may be the first sign of a
        stop, of the power, of the link, or of somebody at the pendant, which the controller tells a moment later."""
        if code not in ("execution.program", "execution.gripper"):
            return code, message
        end_s = time.monotonic() + CAUSE_S
        while time.monotonic() < end_s:
            blocked = self._blocked()
            if blocked is not None and blocked[0] != "execution.program":
                return blocked
            time.sleep(_WATCH_S)
        if code == "execution.program" and not self._is_remote():
            return "execution.local_control", "somebody took the arm over at the pendant (local control)"
        return code, message


def _lost(host: str, what: str) -> tuple[str, str]:
    return "execution.comms", f"the link to the controller at {host} is lost ({what}): check it, then try again"
