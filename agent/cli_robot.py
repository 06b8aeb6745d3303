"""`affordagent arm`, `recover` and `home`: how a real arm is, and how it becomes ready again."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError, StageFailure

if TYPE_CHECKING:
    from affordagent.agent.settings import Settings
    from affordagent.robot.gripper import Gripper
    from affordagent.robot.interface import ArmState
    from affordagent.robot.ur5.cell import Ur5Cell
    from affordagent.robot.ur5.recovery import Diagnosis
    from affordagent.robot.ur5.status import Status

MOST_STEPS = 8  # of one recovery
HOME_SPEED = 0.1
READY, NOT_READY, DECLINED = 0, 1, 3
EPILOG = "exit codes: 0 ready, 1 a person is needed (the steps are printed), 2 bad usage or no connection, 3 declined"


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    arm = commands.add_parser(
        "arm", help="how a real arm, its gripper and its controller are; commands nothing", epilog=EPILOG
    )
    arm.add_argument("--json", action="store_true", help="print one JSON object")
    arm.set_defaults(handler=_arm)
    recover = commands.add_parser(
        "recover",
        help="what keeps a real arm from moving, and the steps out of it, each asked for",
        description="Unlocks, switches on, releases brakes and activates the gripper: one step at a time, each after a "
        "yes. Moves nothing but the gripper's fingers. Look at the arm while you answer.",
        epilog=EPILOG,
    )
    recover.add_argument("--stroke", action="store_true", help="also measure the stroke of a Robotiq, for the settings")
    recover.add_argument("--open", action="store_true", help="also open the fingers: what they hold falls")
    recover.set_defaults(handler=_recover)
    home = commands.add_parser(
        "home",
        help="drive a real arm slowly to the posture in which it looks",
        description="Straight up where the hand is low, then a path that is checked against the table, the zones and "
        "what the camera sees. Looked at by `robot.safety` like every motion. What the hand holds is not checked.",
        epilog=EPILOG,
    )
    home.add_argument(
        "--speed", type=float, default=HOME_SPEED, help=f"share of the settings' speed limits (default {HOME_SPEED})"
    )
    home.set_defaults(handler=_home)
    for parser in (arm, recover, home):
        parser.add_argument("--cell", help="ur5:HOST (default: the settings' cell)")
        parser.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml if there)")
    for parser in (recover, home):
        parser.add_argument("--yes", action="store_true", help="answer yes to every question")


def _load(args: argparse.Namespace, **changes: object) -> tuple[Settings, str]:
    """The settings and the controller's host."""
    from affordagent.agent.settings import Settings

    settings = Settings.load(args.settings, cell=args.cell, **changes)
    kind, _, host = settings.cell.partition(":")
    if kind != "ur5" or not host:
        raise AffordAgentError(
            f"the cell is '{settings.cell}', must be ur5:HOST: give --cell, or set it in the settings"
        )
    return settings, host


def _ask(args: argparse.Namespace, question: str) -> bool:
    if args.yes:
        print(f"{question} yes (--yes)")
        return True
    if not sys.stdin.isatty():
        print(f"{question} no: nobody to ask (--yes answers yes to all)")
        return False
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


def _tell(diagnosis: Diagnosis) -> None:
    print(f"{diagnosis.code}: {diagnosis.what}.\n  {diagnosis.safe}")
    for number, step in enumerate(diagnosis.steps, 1):
        print(f"  {number}. {step}")


# ---- arm ------------------------------------------------------------------------------------------------------------
def _arm(args: argparse.Namespace) -> int:
    from affordagent.robot.ur5.cell import T_FLANGE_TCP
    from affordagent.robot.ur5.status import read_status

    settings, host = _load(args)
    status = read_status(host, settings.ur5, _gripper(settings, host), T_FLANGE_TCP)
    if args.json:
        print(json.dumps(status.as_json()))
    else:
        _show(status)
    return NOT_READY if status.problems else READY


def _show(status: Status) -> None:
    from affordagent.robot.ur5.identity import TCP_OFF_M

    facts = status.as_json()
    print(f"controller   {status.model}, {status.version}")
    print(f"robot mode   {facts['robot_mode']}")
    print(f"safety mode  {facts['safety_mode']}")
    print(f"control      {'remote' if facts['remote_control'] else 'local'}")
    print(f"program      {facts['program']}")
    arm, gripper = facts["arm"], facts["gripper"]
    if arm is not None:
        off_mm, off_deg = 1e3 * arm["tcp_off_m"], math.degrees(arm["tcp_off_rad"])
        print(f"joints       {_numbers(arm['positions_rad'], 3)} rad, {arm['age_s']:.3f} s old")
        print(f"tcp          {_numbers(arm['tcp_by_controller'][:3], 4)} m by the controller")
        print(f"             {_numbers(arm['tcp_by_us_m'], 4)} m by us: {off_mm:.1f} mm and {off_deg:.1f} degrees off")
        if arm["tcp_off_m"] > TCP_OFF_M:
            print("             (the controller has another tcp set; our program sets ours when it starts)")
        print(f"tcp force    {_numbers(arm['tcp_force_n'], 1)} N")
        print(f"speed        {arm['speed_scaling']:.0%} of what is asked for (slider and limits)")
    if gripper is not None:
        width = "unknown" if gripper["width_m"] is None else f"{1e3 * gripper['width_m']:.1f} mm"
        holding = {None: "cannot tell", True: "yes", False: "no"}[gripper["holding"]]
        inactive = "" if gripper["active"] else "; not active yet: the first grip closes and opens it once"
        print(f"gripper      {width}, holding: {holding}{inactive}")
    print("ready" if not status.problems else "not ready")
    for problem in status.problems:
        _tell(problem)


def _numbers(values: list[float], digits: int) -> str:
    return " ".join(f"{value:+.{digits}f}" for value in values)


# ---- recover --------------------------------------------------------------------------------------------------------
def _recover(args: argparse.Namespace) -> int:
    from affordagent.robot.ur5.commander import Commander

    settings, host = _load(args)
    with Commander(host):
        code = _recover_arm(host, lambda question: _ask(args, question))
        if code == READY:
            code = _recover_gripper(_gripper(settings, host), args)
    if code == READY:
        print("ready: `affordagent home` brings the arm to the posture in which it looks, `affordagent run` moves it")
    return code


def _recover_arm(host: str, ask: Callable[[str], bool]) -> int:
    from affordagent.robot.ur5.dashboard import Dashboard
    from affordagent.robot.ur5.recovery import apply, read_condition, remedy_for

    for _ in range(MOST_STEPS):
        with Dashboard(host) as dashboard:
            condition = read_condition(dashboard)
        diagnosis = condition.diagnosis()
        if diagnosis is None:
            print(f"the arm is ready: {condition.robot_mode}, {condition.safety_mode}, remote control")
            return READY
        _tell(diagnosis)
        remedy = remedy_for(condition)
        if remedy is None:
            print("This needs a person at the robot: follow the steps, then run `affordagent recover` again")
            return NOT_READY
        if not ask(remedy.question):
            return DECLINED
        after = apply(host, remedy)
        print(f"  done: robot mode {after.robot_mode}, safety mode {after.safety_mode}")
    print(f"not ready after {MOST_STEPS} steps: it falls back each time. Look at the log on the pendant")
    return NOT_READY


def _gripper(settings: Settings, host: str) -> Gripper:
    """The gripper without the arm; one on a digital output cannot be asked anything, and is not commanded here."""
    from affordagent.robot.gripper import open_gripper

    config = settings.ur5
    return open_gripper(config.gripper, host, lambda pin, on: None, config.gripper_counts)


def _recover_gripper(gripper: Gripper, args: argparse.Namespace) -> int:
    from affordagent.robot.gripper import ROBOTIQ_FORCE_N, ROBOTIQ_STROKE_M, RobotiqGripper
    from affordagent.robot.ur5.recovery import diagnose
    from affordagent.robot.ur5.status import read_at_rest

    if not isinstance(gripper, RobotiqGripper):
        return READY
    try:
        state = read_at_rest(gripper)
        if state.fault is not None or not state.active:
            _tell(diagnose("execution.gripper", state.fault or "it is not activated"))
            if not _ask(args, "Its fingers will close and open, and what they hold falls. Activate the gripper?"):
                return DECLINED
            gripper.reset()
        print("the gripper is ready")
        if args.open:
            if not _ask(args, "What the fingers hold falls: hold it. Open them?"):
                return DECLINED
            gripper.move(ROBOTIQ_STROKE_M, ROBOTIQ_FORCE_N[0])
            print(f"the fingers stand at {1e3 * read_at_rest(gripper).width_m:.0f} mm")
        if args.stroke:
            if not _ask(args, "It opens and closes slowly, and what it holds falls. Is nothing between its fingers?"):
                return DECLINED
            print("in the settings, under [ur5]:  gripper_counts = [{}, {}]".format(*gripper.calibrate_stroke()))
        return READY
    except StageFailure as failure:
        _tell(diagnose("execution.gripper", failure.message))
        return NOT_READY
    finally:
        gripper.close()


# ---- home -----------------------------------------------------------------------------------------------------------
def _home(args: argparse.Namespace) -> int:
    from affordagent.robot.kinematics import ArmKinematics
    from affordagent.robot.safety import SafeArm
    from affordagent.robot.ur5.cell import Ur5Cell
    from affordagent.robot.ur5.commander import Commander
    from affordagent.robot.ur5.recovery import steps_after
    from affordagent.tools.motion.plan_home import plan_home

    settings, host = _load(args, speed=args.speed)
    limits = settings.limits.at_speed(settings.speed)
    with Commander(host), Ur5Cell(host, settings.ur5, settings.camera, settings.limits) as cell:
        arm = SafeArm(cell.arm, limits, ArmKinematics(settings.ur5.model))
        for mended in arm.make_ready():
            print(f"mended: {mended}")
        state = arm.read()
        points = _seen(cell, limits.table_z_m)
        motions = plan_home(state.positions, points, state.gripper_width_m, limits=limits, arm=settings.ur5.model)
        if not motions:
            print("the arm is in the look posture")
            return READY
        if _may_hold(state) and not _ask(args, f"The gripper {_held(state)}. It is carried along unchecked. Go on?"):
            return DECLINED
        duration_s = sum(motion.duration_s for motion in motions)
        if not _ask(args, f"{len(motions)} motions, {duration_s:.0f} s at {settings.speed:.0%} speed. Move the robot?"):
            return DECLINED
        arm.make_ready()  # the question may have stood for long
        for number, motion in enumerate(motions, 1):
            result = arm.follow(motion, f"home_{number}")
            if not result.reached:
                print(f"motion {number} of {len(motions)} ended early: {result.code}: {result.message}")
                for step in steps_after(result.code or ""):
                    print(f"  - {step}")
                return NOT_READY
    print("the arm is in the look posture")
    return READY


def _seen(cell: Ur5Cell, table_z_m: float) -> Any:
    """(N, 3) points in the base frame; none where there is no camera to look with, which is said."""
    import numpy as np

    from affordagent.tools.motion.plan_home import seen_points

    try:
        return seen_points(cell.look(), table_z_m)
    except AffordAgentError as error:
        print(f"no picture ({error}): only the table, the zones of the settings and the arm itself are looked out for")
        return np.empty((0, 3))


def _may_hold(state: ArmState) -> bool:
    from affordagent.robot.gripper import NOTHING_HELD_M, ROBOTIQ_STROKE_M

    return state.holding is not False and not (
        state.gripper_width_m < NOTHING_HELD_M or state.gripper_width_m > ROBOTIQ_STROKE_M - NOTHING_HELD_M
    )


def _held(state: ArmState) -> str:
    return "holds something" if state.holding else "may hold something: it cannot tell"
