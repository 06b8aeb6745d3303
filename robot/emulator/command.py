"""The emulator's command line, for `affordagent emulator` and `python -m affordagent.robot.emulator`."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from affordagent.robot.arms import ArmName
    from affordagent.robot.emulator.controller import Controller
    from affordagent.robot.emulator.plant_interface import Plant

DEFAULT_SCENE = "bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default 127.0.0.1)")
    parser.add_argument("--model", default="UR5e", help="UR3, UR5, UR10 (CB3), UR3e, UR5e (default) or UR10e")
    parser.add_argument("--version", help="of PolyScope (default 5.11, or 3.15 for a CB3)")
    parser.add_argument("--scene", help=f"of the simulated cell behind it (default {DEFAULT_SCENE})")
    parser.add_argument("--seed", type=int, help="of the scene (default 0)")
    parser.add_argument("--plain", action="store_true", help="no simulated cell: an arm and fingers that do as told")
    parser.add_argument("--speedup", type=float, default=1.0, help="its clock runs so many times faster (default 1)")
    parser.add_argument("--off", action="store_true", help="begin with the arm switched off")
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)  # end when this process has gone


def serve(args: argparse.Namespace) -> int:
    """Run until Ctrl-C, the admin's `quit`, or the end of the parent process.

    Raises:
        AffordAgentError: an argument that cannot be, or a port that is taken.
    """
    from affordagent.robot.emulator.controller import Controller
    from affordagent.robot.emulator.server import Server, check_loopback

    check_loopback(args.host)
    if not 0.01 <= args.speedup <= 100:
        raise AffordAgentError(f"--speedup {args.speedup}: must be 0.01 to 100")
    arm = _arm(args.model)
    version = _version(args.version, arm)
    plant = _plant(args, arm)
    controller = Controller(arm, version, plant, powered=not args.off, say=lambda line: print(line, flush=True))
    server = Server(controller, args.host, args.speedup)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells have it ignored in the background
    try:
        print(_greeting(controller, args.host), flush=True)
        server.run(args.parent)
    except KeyboardInterrupt:
        print("the emulator ends", flush=True)
    finally:
        server.close()
    return 0


def _arm(name: str) -> ArmName:
    from affordagent.robot.arms import ARMS

    for arm in ARMS:
        if arm == name:
            return arm
    raise AffordAgentError(f"--model {name}: must be one of {', '.join(ARMS)}")


def _version(text: str | None, arm: ArmName) -> tuple[int, int, int, int]:
    from affordagent.robot.arms import ARMS

    is_e_series = ARMS[arm].is_e_series
    text = text or ("5.11" if is_e_series else "3.15")
    parts = text.split(".")
    if not 2 <= len(parts) <= 4 or not all(part.isdigit() for part in parts):
        raise AffordAgentError(f"--version {text}: must be like 5.11 or 5.11.5.1010327")
    major, minor, bugfix, build = [*map(int, parts), 0, 0][:4]
    if (major > 3) != is_e_series:
        raise AffordAgentError(f"--version {text}: a {arm} runs PolyScope {'5.x' if is_e_series else '3.x'}")
    return major, minor, bugfix, build


def _plant(args: argparse.Namespace, arm: ArmName) -> Plant:
    """The simulated cell, or the plain plant at LOOK_Q."""
    if args.plain:
        if args.scene is not None or args.seed is not None:
            raise AffordAgentError("--plain has no objects: leave out --scene and --seed")
        from affordagent.robot.emulator.plain_plant import PlainPlant
        from affordagent.robot.interface import LOOK_Q

        return PlainPlant(LOOK_Q)
    from affordagent.robot.emulator.plant import ScenePlant

    return ScenePlant(args.scene or DEFAULT_SCENE, args.seed or 0, arm)


def _greeting(controller: Controller, host: str) -> str:
    scene = controller.plant.scene
    behind = f"scene {scene['name']}, seed {scene['seed']}" if scene else "no objects (plain)"
    version = ".".join(str(number) for number in controller.version)
    lines = [
        f"a {controller.arm} with PolyScope {version} listens on {host}: {behind}. Ctrl-C ends it.",
        "It is an emulator: nothing here says how a real robot behaves (docs/emulator.md).",
    ]
    if scene:
        lines.append(
            f'In another terminal:  affordagent run "I need something to drive a nail" --cell ur5:{host} --yes'
        )
    return "\n".join(lines)
