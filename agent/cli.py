"""The command line: understand, scenes, doctor, graph, and the groups of commands in `cli_*.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent import (
    cli_annotate,
    cli_calibrate,
    cli_chat,
    cli_commands,
    cli_data,
    cli_emulator,
    cli_eval,
    cli_explain,
    cli_grasps,
    cli_mcp,
    cli_report,
    cli_rerun,
    cli_robot,
    cli_run,
    cli_vlm,
    cli_web,
)
from affordagent.core.errors import AffordAgentError, StageFailure

if TYPE_CHECKING:
    from affordagent.agent.language.llm import Reader


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="affordagent", description="Say what you want; the robot picks the right object by the right part."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    understand = commands.add_parser("understand", help="print what a text means, without a scene")
    understand.add_argument("text", nargs="?", help="the text")
    understand.add_argument("--file", type=Path, help="a text a line; one JSON object a line comes out")
    understand.add_argument("--json", action="store_true", help="print JSON")
    understand.add_argument("--language", help=cli_run.LANGUAGE_HELP)
    understand.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml if there)")
    understand.set_defaults(handler=_understand)

    scenes = commands.add_parser("scenes", help="list the scenes of the simulated cell")
    scenes.set_defaults(handler=_scenes)

    doctor = commands.add_parser("doctor", help="what is installed, what is missing, and the mend")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(handler=_doctor)

    graph = commands.add_parser("graph", help="print the pipeline as a mermaid diagram")
    graph.set_defaults(handler=_graph)

    groups = (cli_run, cli_report, cli_grasps, cli_robot, cli_vlm, cli_eval, cli_commands, cli_data, cli_calibrate)
    for group in (*groups, cli_explain, cli_rerun, cli_chat, cli_web, cli_mcp, cli_emulator, cli_annotate):
        group.add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the networks are small: more threads only cost
    args = build_parser().parse_args(argv)
    try:
        return args.handler(args)
    except AffordAgentError as error:
        print(f"affordagent: {error}", file=sys.stderr)
        for step in error.evidence.get("steps", []) if isinstance(error, StageFailure) else []:
            print(f"  - {step}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"affordagent: {error}; `affordagent doctor` says what is missing and what to type", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("affordagent: stopped", file=sys.stderr)
        return 130


def _understand(args: argparse.Namespace) -> int:
    from affordagent.agent.language.llm import open_reader
    from affordagent.agent.settings import Settings

    if (args.text is None) == (args.file is None):
        raise AffordAgentError("give one text, or --file with a text a line")
    settings = Settings.load(args.settings, language=args.language)
    reader = open_reader(settings.language, settings.language_within_s)
    if args.text is not None:
        answer = _answer(reader, args.text)
        print(json.dumps(answer) if args.json else _as_text(answer))
        return 1 if "error" in answer else 0
    try:
        lines = args.file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AffordAgentError(f"cannot read {args.file}: {error}") from error
    for line in lines:
        if line.strip():
            print(json.dumps(_answer(reader, line)), flush=True)
    return 0


def _answer(reader: Reader, text: str) -> dict[str, Any]:
    """The query as JSON; a text that cannot be understood gives its typed failure instead."""
    try:
        return reader(text, None).model_dump()
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
