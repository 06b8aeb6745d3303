"""`affordagent run` and `affordagent resume`: one command carried out, or a run that was cut off brought to an end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.core.errors import AffordAgentError

if TYPE_CHECKING:
    from rich.console import Console

    from affordagent.agent.results import RunResult
    from affordagent.agent.session import Session
    from affordagent.agent.settings import Settings
    from affordagent.core.types import StageRecord

EPILOG = (
    "exit codes: 0 success or planned, 1 failure, 2 bad usage or no connection, 3 refused, 4 needs clarification, "
    "130 stopped (Ctrl-C stops the arm first)"
)
CELL_HELP = (
    "sim (default), ur5:HOST for a UR arm or `affordagent emulator` at that address, or frame:PREFIX for "
    "PREFIX_color.png, _depth.png, _camera.json"
)

LANGUAGE_HELP = (
    "who reads the command: offline (default, English), or URL,MODEL of an OpenAI-compatible server such as "
    "http://127.0.0.1:11434/v1,qwen3, its key in AFFORDAGENT_LLM_KEY"
)


def add(commands: Any) -> None:
    run = commands.add_parser("run", help="carry out one command", epilog=EPILOG)
    run.add_argument("text", help='what you want, e.g. "I need something to drive a nail into the wall"')
    run.add_argument("--cell", help=CELL_HELP)
    run.add_argument("--scene", help="scene of the simulated cell (default bench); `affordagent scenes` lists them")
    run.add_argument("--seed", type=int, help="seed of the scene and of the planner (default 0)")
    run.add_argument("--noise", action="store_true", default=None, help="RealSense-like noise in the simulated camera")
    run.add_argument("--vlm", help="who grounds: mini (default), folder of an AffordanceVLM, or http://HOST:PORT")
    run.add_argument("--vision-tower", type=Path, help="folder of the CLIP tower, for a published AffordanceVLM")
    run.add_argument("--fallback", help="who gives the second opinion: tabletop (default) or one of docs/perception.md")
    run.add_argument("--grasps", help="who proposes grasps: antipodal (default), contact-graspnet:FILE, npy:FILE, ...")
    run.add_argument("--language", help=LANGUAGE_HELP)
    run.add_argument("--speed", type=float, help="share of the settings' speed limits to move at, above 0, at most 1")
    run.add_argument("--dry-run", action="store_true", default=None, help="everything but motion: ends as planned")
    run.add_argument("--rerun", action="store_true", default=None, help="write trace.rrd too (extra: rerun)")
    run.add_argument("--out", type=Path, help="run folder (default: a new one under runs/)")
    run.add_argument("--confirm", action="store_true", default=None, help="ask before simulated motion too")
    _add_common(run)
    run.set_defaults(handler=_run)

    resume = commands.add_parser(
        "resume", help="go on with a run whose process died, or give it up", description=_resume.__doc__, epilog=EPILOG
    )
    resume.add_argument("run_dir", type=Path, help="the run's folder")
    resume.add_argument("--abandon", action="store_true", help="give it up: nothing is sent to the arm")
    _add_common(resume)
    resume.set_defaults(handler=_resume)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml if there)")
    parser.add_argument("--yes", action="store_true", help="answer yes when asked before motion")
    parser.add_argument("--no-report", action="store_true", help="leave out report.html and the video")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")


def _run(args: argparse.Namespace) -> int:
    from affordagent.agent.session import run_folder
    from affordagent.agent.settings import Settings
    from affordagent.core.run_store import EVENTS_FILE

    tools = ("vlm", "vision_tower", "fallback", "grasps", "language")
    names = ("cell", "scene", "seed", "noise", *tools, "confirm", "dry_run", "speed", "rerun")
    settings = Settings.load(args.settings, **{name: getattr(args, name) for name in names})
    folder = args.out or run_folder(Path("runs"), args.text)
    if (folder / EVENTS_FILE).exists():
        raise AffordAgentError(f"{folder} already holds a run; choose another --out")
    console = _console()
    console.print(f"[bold]{_short(args.text)}[/bold]", markup=True)
    with _session(settings, args, console) as (session, hooks):
        result = session.run(args.text, folder, **hooks)
        _report(result, args, session)
    return _show(result, args)


def _resume(args: argparse.Namespace) -> int:
    """Says what the run's folder holds, then goes on or gives up. A motion that has begun is never sent again; before
    any further motion the question is asked again. Limits come from today's settings file."""
    from affordagent.agent.resume import abandon, given_up, read_run, settings_to_resume, why_lost

    console = _console()
    left = read_run(args.run_dir)
    if left.ended is not None:
        console.print("this run has ended; nothing is done")
        return _show(left.ended, args)
    settings = settings_to_resume(left, args.settings)
    console.print(f"[bold]{_short(left.command)}[/bold]", markup=True)
    lost = "given up on request" if args.abandon else why_lost(left)
    if lost is not None:
        result = abandon(left, given_up(left, lost), settings)
        _report(result, args)
        return _show(result, args)
    with _session(settings, args, console) as (session, hooks):
        result = session.resume(args.run_dir, **hooks, say=lambda line: console.print(f" • {line}", markup=False))
        _report(result, args, session)
    return _show(result, args)


@contextmanager
def _session(
    settings: Settings, args: argparse.Namespace, console: Console
) -> Iterator[tuple[Session, dict[str, Any]]]:
    """An open session, and what it calls while it runs a command, as keyword arguments."""
    from affordagent.agent.session import Session
    from affordagent.agent.tracing import leaves_the_machine

    for line in leaves_the_machine(settings):
        console.print(line, style="yellow", markup=False)
    session = Session(settings, record=not args.no_report)
    with console.status("loading models, opening the cell") as status, session:

        def on_record(record: StageRecord) -> None:
            mark = {"ok": "[green]✓[/green]", "failed": "[red]✗[/red]"}.get(record.status, "[yellow]•[/yellow]")
            console.print(f" {mark} {record.stage:<10} {record.duration_s:6.2f} s  ", end="")
            console.print(record.message, markup=False)

        def ask(question: dict[str, Any]) -> bool:
            if args.yes:
                return True
            if not sys.stdin.isatty():
                console.print(
                    " • nobody to ask: this is no terminal, so the answer is no (--yes answers yes)", markup=False
                )
                return False
            status.stop()
            try:
                return input(f"{question['question']} [y/N] ").strip().lower() in ("y", "yes")
            except EOFError:  # Ctrl-D
                return False

        yield session, {"on_stage": status.update, "on_record": on_record, "ask": ask}


def _report(result: RunResult, args: argparse.Namespace, session: Session | None = None) -> None:
    """report.html and the video of a run that has ended."""
    from affordagent.agent.report import VIDEO, write_report
    from affordagent.agent.results import RESULT_FILE

    if args.no_report or not (result.run_dir / RESULT_FILE).is_file():
        return
    if session is not None:
        session.cell.save_video(result.run_dir / VIDEO)
    write_report(result.run_dir)


def _show(result: RunResult, args: argparse.Namespace) -> int:
    from affordagent.robot.ur5.recovery import steps_after

    if args.json:
        print(json.dumps(result.as_json()))
        return result.exit_code
    print(f"{result.outcome}: {(result.failure or result.stages[-1])['message']}")
    for step in steps_after(result.failure["code"]) if result.failure else ():
        print(f"  - {step}")
    if result.failure:
        print(f"what that means, and what helps: affordagent explain {result.failure['code']}")
    print(f"run folder: {result.run_dir}")
    report = result.run_dir / "report.html"
    if report.is_file():
        print(f"report: {report}")
    if (trace := result.run_dir / "trace.rrd").is_file():
        print(f"trace: {trace} (rerun {trace.name} shows it)")
    return result.exit_code


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _short(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
