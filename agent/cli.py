"""The command line: run, understand, scenes, doctor, report, graph."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent import cli_data, cli_eval, cli_vlm
from affordagent.core.errors import AffordAgentError, StageFailure

if TYPE_CHECKING:
    from affordagent.core.types import StageRecord

EPILOG = """exit codes of `run`: 0 success or planned, 1 failure, 2 bad usage, 3 refused, 4 needs clarification"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="affordagent", description="Say what you want; the robot picks the right object by the right part."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="carry out one command", epilog=EPILOG)
    run.add_argument("text", help='what you want, e.g. "I need something to drive a nail into the wall"')
    run.add_argument("--cell", help="sim (default) or frame:PREFIX for PREFIX_color.png, _depth.png, _camera.json")
    run.add_argument("--scene", help="scene of the simulated cell (default bench); `affordagent scenes` lists them")
    run.add_argument("--seed", type=int, help="seed of the scene and of the planner (default 0)")
    run.add_argument("--noise", action="store_true", default=None, help="RealSense-like noise in the simulated camera")
    run.add_argument("--vlm", help="who grounds: mini (default), folder of an AffordanceVLM, or http://HOST:PORT")
    run.add_argument("--vision-tower", type=Path, help="folder of the CLIP tower, for a published AffordanceVLM")
    run.add_argument("--out", type=Path, help="run folder (default: a new one under runs/)")
    run.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml when it is there)")
    run.add_argument("--confirm", action="store_true", default=None, help="ask before simulated motion too")
    run.add_argument("--yes", action="store_true", help="answer yes when asked before motion")
    run.add_argument("--no-report", action="store_true", help="leave out report.html and the video")
    run.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
    run.set_defaults(handler=_run)

    understand = commands.add_parser("understand", help="print what a text means, without a scene")
    understand.add_argument("text", nargs="?", help="the text")
    understand.add_argument("--file", type=Path, help="a text a line; one JSON object a line comes out")
    understand.add_argument("--json", action="store_true", help="print JSON")
    understand.set_defaults(handler=_understand)

    scenes = commands.add_parser("scenes", help="list the scenes of the simulated cell")
    scenes.set_defaults(handler=_scenes)

    report = commands.add_parser("report", help="make report.html anew from a run folder")
    report.add_argument("run_dir", type=Path)
    report.set_defaults(handler=_report)

    doctor = commands.add_parser("doctor", help="what is installed, what is missing, and the mend")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(handler=_doctor)

    graph = commands.add_parser("graph", help="print the pipeline as a mermaid diagram")
    graph.set_defaults(handler=_graph)

    for group in (cli_vlm, cli_eval, cli_data):
        group.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks are small: more threads only cost
    args = build_parser().parse_args(argv)
    try:
        return args.handler(args)
    except AffordAgentError as error:
        print(f"affordagent: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"affordagent: {error}; `affordagent doctor` says what is missing and what to type", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("affordagent: stopped", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from affordagent.agent.session import Session, run_folder
    from affordagent.agent.settings import Settings

    console = Console(stderr=True, highlight=False)
    changes = {k: getattr(args, k) for k in ("cell", "scene", "seed", "noise", "vlm", "vision_tower", "confirm")}
    settings = Settings.load(args.settings, **changes)
    folder = args.out or run_folder(Path("runs"), args.text)
    if (folder / "events.jsonl").exists():
        raise AffordAgentError(f"{folder} already holds a run; choose another --out")
    console.print(f"[bold]{_short(args.text)}[/bold]", markup=True)
    session = Session(settings, record=not args.no_report)
    with console.status("loading models, opening the cell") as status, session:

        def on_record(record: StageRecord) -> None:
            mark = {"ok": "[green]✓[/green]", "failed": "[red]✗[/red]"}.get(record.status, "[yellow]•[/yellow]")
            console.print(f" {mark} {record.stage:<10} {record.duration_s:6.2f} s  ", end="")
            console.print(record.message, markup=False)

        def ask(question: dict[str, Any]) -> bool:
            if args.yes or not sys.stdin.isatty():
                return args.yes
            status.stop()
            return input(f"{question['question']} [y/N] ").strip().lower() in ("y", "yes")

        result = session.run(args.text, folder, on_stage=status.update, on_record=on_record, ask=ask)
        if not args.no_report:
            status.update("writing the report")
            from affordagent.agent.report import VIDEO, write_report

            session.cell.save_video(folder / VIDEO)
            write_report(folder)
    if args.json:
        print(json.dumps(result.as_json()))
    else:
        print(f"{result.outcome}: {(result.failure or result.stages[-1])['message']}")
        print(
            f"run folder: {result.run_dir}" + ("" if args.no_report else f"\nreport: {result.run_dir / 'report.html'}")
        )
    return result.exit_code


def _short(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def _understand(args: argparse.Namespace) -> int:
    from affordagent.agent.language.understand import understand

    if (args.text is None) == (args.file is None):
        raise AffordAgentError("give one text, or --file with a text a line")
    if args.text is not None:
        answer = _answer(understand, args.text)
        print(json.dumps(answer) if args.json else _as_text(answer))
        return 1 if "error" in answer else 0
    try:
        lines = args.file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AffordAgentError(f"cannot read {args.file}: {error}") from error
    for line in lines:
        if line.strip():
            print(json.dumps(_answer(understand, line)), flush=True)
    return 0


def _answer(understand: Any, text: str) -> dict[str, Any]:
    """The query as JSON; a text that cannot be understood gives its typed failure instead."""
    try:
        return understand(text).model_dump()
    except StageFailure as failure:
        return {"text": text, "error": {"stage": failure.stage, "code": failure.code, "message": failure.message}}


def _as_text(answer: dict[str, Any]) -> str:
    return "\n".join(f"{key:<20} {_cell(value)}" for key, value in answer.items())


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{v['name']} {v['score']:.2f}" if isinstance(v, dict) else str(v) for v in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
    return "-" if value is None else str(value)


def _scenes(args: argparse.Namespace) -> int:
    from affordagent.robot.sim.scene import SCENES

    for name, recipe in SCENES.items():
        print(f"{name:<12} {recipe.description}")
    return 0


def _report(args: argparse.Namespace) -> int:
    from affordagent.agent.report import write_report

    print(write_report(args.run_dir))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from affordagent.agent.doctor import examine, print_findings

    findings = examine()
    if args.json:
        print(json.dumps([f.as_json() for f in findings]))
    else:
        print_findings(findings)
    return 0 if all(f.ok or f.optional for f in findings) else 1


def _graph(args: argparse.Namespace) -> int:
    from affordagent.agent.studio import mermaid

    print(mermaid())
    return 0


if __name__ == "__main__":
    sys.exit(main())
