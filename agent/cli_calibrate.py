"""`affordagent calibrate`: the board, the views, the solution, and the checks with the arm."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError, StageFailure

if TYPE_CHECKING:
    from affordagent.agent.settings import Settings
    from affordagent.robot.calibration.board import Board
    from affordagent.robot.calibration.solving import Solved

TIP_M = (0.0, 0.0, 0.1734)  # of the closed fingers of a 2F-85 in the flange frame: 9.6 mm past the tcp

KINEMATICS_HINT_MM = 1.0  # from here on it is worth saying


def add(commands: Any) -> None:
    """Add the command to the parser's `commands`."""
    calibrate = commands.add_parser("calibrate", help="where the camera is: board, views, solution, checks")
    steps = calibrate.add_subparsers(dest="step", required=True, metavar="STEP")

    board = steps.add_parser("board", help="a ChArUco board to print, at true size")
    board.add_argument("--out", type=Path, default=Path("board.pdf"), help=".pdf or .png (default %(default)s)")
    board.add_argument("--paper", choices=("a4", "a3", "letter"), default="a4")
    _add_board(board)
    board.set_defaults(handler=_board)

    collect = steps.add_parser("collect", help="take views: you move the arm, this takes picture and joints")
    _add_cell(collect)
    collect.add_argument("--out", type=Path, required=True, help="folder of the views; an existing one is gone on with")
    _add_board(collect)
    collect.set_defaults(handler=_collect)

    solve = steps.add_parser("solve", help="the calibration by the views")
    solve.add_argument("folder", type=Path, help="folder of the views")
    kind = solve.add_mutually_exclusive_group()
    for name, text in (("eye_in_hand", "the camera sits on the flange"), ("eye_to_hand", "the camera stands still")):
        flag = "--" + name.replace("_", "-")
        kind.add_argument(flag, dest="kind", action="store_const", const=name, help=f"{text} (default: what fits)")
    solve.add_argument("--intrinsics", action="store_true", help="estimate focal lengths and centre too")
    solve.add_argument(
        "--out", type=Path, default=Path("calibration.json"), help="default %(default)s; a picture beside it"
    )
    solve.set_defaults(handler=_solve)

    check = steps.add_parser("check", help="touch the board's corners: is the camera where the calibration says?")
    _add_cell(check)
    _add_board(check)
    _add_tip(check)
    check.add_argument("--no-touch", action="store_true", help="only compare the controller's tcp with ours")
    check.set_defaults(handler=_check)

    tcp = steps.add_parser("tcp", help="where the tip is on the flange: touch one point from four sides or more")
    _add_cell(tcp)
    _add_tip(tcp)
    tcp.set_defaults(handler=_tcp)


def _add_cell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cell", help="ur5:HOST (default: cell of the settings)")
    parser.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml)")


def _add_board(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--squares", default="5x7", help="columns x rows (default %(default)s)")
    parser.add_argument(
        "--square-mm", type=float, default=35.0, help="side of a square as measured (default %(default)s)"
    )
    parser.add_argument("--marker-mm", type=float, default=26.0, help="side of a marker (default %(default)s)")
    parser.add_argument("--dictionary", default="DICT_4X4_50", help="of cv2.aruco (default %(default)s)")


def _add_tip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tip-mm", type=float, nargs=3, metavar=("X", "Y", "Z"), default=[1000 * v for v in TIP_M],
        help="the tip in the flange frame (default %(default)s: closed fingers of a 2F-85)",
    )  # fmt: skip


def _board_of(args: argparse.Namespace) -> Board:
    from affordagent.robot.calibration.board import Board

    columns, _, rows = args.squares.lower().partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise AffordAgentError(f"--squares {args.squares}: must be columns x rows, such as 5x7")
    try:
        return Board(int(columns), int(rows), args.square_mm / 1000, args.marker_mm / 1000, args.dictionary)
    except ValueError as error:
        raise AffordAgentError(f"no such board: {error}") from error


def _settings_of(args: argparse.Namespace) -> tuple[Settings, str]:
    """The settings and the controller's host."""
    from affordagent.agent.settings import Settings

    settings = Settings.load(args.settings, cell=args.cell)
    kind, _, host = settings.cell.partition(":")
    if kind != "ur5" or not host:
        raise AffordAgentError(f"cell = {settings.cell}: a calibration needs a real arm, --cell ur5:HOST")
    return settings, host


def ask(question: str) -> str:
    """A line from the terminal; its end counts as q."""
    try:
        return input(question)
    except EOFError:
        print(file=sys.stderr)
        return "q"


def _board(args: argparse.Namespace) -> int:
    board = _board_of(args)
    board.save_page(args.out, args.paper)
    print(f"{args.out}: {board.text}. Print at 100 % (no fitting to the page), measure the 100 mm line, glue it flat.")
    return 0


def _collect(args: argparse.Namespace) -> int:
    from affordagent.agent.calibrating import GOOD_VIEWS, collect
    from affordagent.robot.calibration.hand_eye import MIN_VIEWS
    from affordagent.robot.calibration.views import ViewFolder
    from affordagent.robot.calibration.watch import ArmWatch
    from affordagent.robot.cameras.camera import open_source

    settings, host = _settings_of(args)
    print(
        f"Move the arm by hand or pendant so that the whole board is seen, tilted to all sides; {GOOD_VIEWS} views. "
        "Nothing here moves it."
    )
    with ArmWatch(host, settings.ur5.stale_after_s) as arm, open_source(settings.camera, host) as camera:
        folder = ViewFolder.start(args.out, _board_of(args), settings.ur5.model, camera.serial)
        count = collect(folder, camera, arm, ask, print)
    enough = (
        f"next: affordagent calibrate solve {args.out}" if count >= MIN_VIEWS else f"at least {MIN_VIEWS} are needed"
    )
    print(f"{args.out} holds {count} views; {enough}")
    return 0


def _solve(args: argparse.Namespace) -> int:
    from affordagent.robot.calibration.hand_eye import poor
    from affordagent.robot.calibration.picture import save_picture
    from affordagent.robot.calibration.solving import calibrate
    from affordagent.robot.calibration.views import ViewFolder

    folder = ViewFolder.open(args.folder)
    solved = calibrate(folder, args.kind, args.intrinsics)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture = args.out.with_suffix(".png")
    save_picture(solved, folder, picture)
    for line in report(solved):
        print(line)
    print(f"picture: {picture}")
    faults = solved.calibration.residuals.faults
    if faults:
        arm_mm = solved.kinematics_mm
        arm = f"This arm differs by {arm_mm:.1f} mm from a nominal one: collect the views near where it is to work. "
        raise poor(
            f"not saved, too poor: {'; '.join(faults)}. Look at {picture}. "
            + (arm if arm_mm > KINEMATICS_HINT_MM else "")
            + f"Leave out bad views (delete their files in {args.folder}), mount board and camera firmly, collect 15 "
            "to 20 views tilted to all sides"
        )
    solved.calibration.save(args.out)
    print(f'saved: {args.out}. In the settings: [camera] calibration = "{args.out}"')
    return 0


def report(solved: Solved) -> list[str]:
    """What came of it, line by line."""
    c, r = solved.calibration, solved.calibration.residuals
    mount = "flange" if c.kind == "eye_in_hand" else "base"
    x, y, z = 1000 * c.T_mount_camera[:3, 3]
    lines = [
        f"{c.kind.replace('_', ' ')}" + (f" ({solved.compared})" if solved.compared else ""),
        f"camera in the {mount} frame: x {x:.1f}, y {y:.1f}, z {z:.1f} mm, +- {r.spread_mm:.2f} mm, {r.spread_deg:.3f} "
        "deg",
        f"reprojection: rms {r.rms_px:.2f} px, largest {r.max_px:.2f} px",
        f"consistency: {r.consistency_mm:.2f} mm, {r.consistency_deg:.2f} deg (each view by the others)",
        f"views: {r.views}; rotation about the main axes {', '.join(f'{v:.0f}' for v in r.rotation_deg)} deg",
    ]
    lines += [f"left out: {name}, {px:.1f} px off: the arm or the board moved?" for name, px in r.outliers.items()]
    lines += [f"not used: {name}: {why}" for name, why in solved.unusable.items()]
    if r.depth_offset_mm is not None and r.depth_scale is not None:
        lines.append(f"depth minus pose on the board: {r.depth_offset_mm:+.1f} mm, ratio {r.depth_scale:.4f}")
    if c.device is not None:
        lines.append(
            f"intrinsics: fx {c.camera.fx:.1f} ({c.device.fx:.1f}), fy {c.camera.fy:.1f} ({c.device.fy:.1f}), "
            f"cx {c.camera.cx:.1f} ({c.device.cx:.1f}), cy {c.camera.cy:.1f} ({c.device.cy:.1f}); in brackets the "
            "device's"
        )
    lines.append(f"the arm's own kinematics and ours differ by {solved.kinematics_mm:.1f} mm over the views")
    return lines


def _check(args: argparse.Namespace) -> int:
    import numpy as np

    from affordagent.agent.calibrating import (
        MAX_TCP_DEG,
        MAX_TCP_MM,
        MAX_TOUCH_MM,
        corners_in_base,
        mark_corners,
        tcp_difference,
        touch,
    )
    from affordagent.robot.calibration.watch import ArmWatch
    from affordagent.robot.cameras.camera import open_camera
    from affordagent.robot.ur5.cell import T_FLANGE_TCP

    settings, host = _settings_of(args)
    model, board, tip_m = settings.ur5.model, _board_of(args), np.array(args.tip_mm) / 1000
    with ArmWatch(host, settings.ur5.stale_after_s) as arm:
        poses = [arm.pose()]
        if not args.no_touch:
            with open_camera(settings.camera, host, arm, model) as camera:
                frame = camera.look()
            corners = corners_in_base(frame, board)
            mark_corners(frame, corners, Path("check.png"))
            print("check.png shows the corners to touch. Now move the arm; board and camera stay.")
            touches = touch(corners, arm, model, tip_m, ask, print)
            poses += touches.poses
    apart_mm, apart_deg, tool_m = tcp_difference(poses, model, T_FLANGE_TCP)
    print(f"the controller's tcp and ours are {apart_mm:.1f} mm and {apart_deg:.1f} deg apart")
    if not args.no_touch and touches.off_m:
        distances_mm = touches.distances_mm
        print(f"touched {len(distances_mm)} corners: {distances_mm.mean():.1f} mm off on average")
        if distances_mm.max() > MAX_TOUCH_MM:
            raise StageFailure(
                "look",
                "calibration.poor",
                f"the tip is up to {distances_mm.max():.1f} mm from where the camera sees the corners, limit "
                f"{MAX_TOUCH_MM:g} mm. All off alike: check the tip (`affordagent calibrate tcp`, --tip-mm) and the "
                "size of the printed squares; else calibrate the camera again",
            )
    if apart_mm > MAX_TCP_MM or apart_deg > MAX_TCP_DEG:
        x, y, z = 1000 * T_FLANGE_TCP[:3, 3]
        raise StageFailure(
            "look",
            "calibration.tcp",
            f"the controller goes by a tcp at {(np.round(1000 * tool_m, 1) + 0.0).tolist()} mm from the flange, limit "
            f"{MAX_TCP_MM:g} mm from ours: set x {x:.1f}, y {y:.1f}, z {z:.1f} mm and rz -1.571 rad under "
            "Installation, TCP, or correct [ur5] model",
        )
    return 0


def _tcp(args: argparse.Namespace) -> int:
    import numpy as np

    from affordagent.agent.calibrating import MAX_TOUCH_MM, measure_tip
    from affordagent.robot.calibration.watch import ArmWatch

    settings, host = _settings_of(args)
    print("Touch one sharp, fixed point with the tip from four sides or more, the tool tilted by 30 degrees each time.")
    with ArmWatch(host, settings.ur5.stale_after_s) as arm:
        tip = measure_tip(arm, settings.ur5.model, ask, print)
    x, y, z = 1000 * tip.position_m
    print(
        f"tip in the flange frame: x {x:.1f}, y {y:.1f}, z {z:.1f} mm; the touches agree to {tip.rms_mm:.2f} mm (rms)"
    )
    off_mm = float(np.linalg.norm(1000 * tip.position_m - args.tip_mm))
    print(f"expected {args.tip_mm}: {off_mm:.1f} mm off")
    if off_mm > MAX_TOUCH_MM:
        raise StageFailure(
            "look",
            "calibration.tcp",
            f"the tip is {off_mm:.1f} mm from where it is expected, limit {MAX_TOUCH_MM:g} mm: check how the gripper "
            "is mounted, or give the tip that you touch with as --tip-mm",
        )
    return 0
