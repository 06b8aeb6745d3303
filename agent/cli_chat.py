"""`affordagent chat`: talk to the robot in the terminal, turn by turn."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from affordagent.agent.settings import Settings
    from affordagent.agent.talk.conversation import Event

EPILOG = """
"the other one", "no, by the handle", "put it back", "put it in the box", "give it to me" and "again" refer to what was
said before. Ctrl-C stops the arm; at the prompt it ends the talk. docs/talking.md has more.
"""
ASK_WHICH = 0.5  # a talk asks which of two things is meant, where the settings do not say otherwise


def add(commands: Any) -> None:
    chat = commands.add_parser("chat", help="talk to the robot, turn by turn", epilog=EPILOG)
    add_flags(chat)
    chat.set_defaults(handler=_chat)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What a talk can be told on the command line, in the terminal and on the page."""
    parser.add_argument("--cell", help="sim (default), frame:PREFIX or ur5:HOST")
    parser.add_argument("--scene", help="of the simulated cell, see `affordagent scenes`")
    parser.add_argument("--seed", type=int, help="of the simulated scene (default 0)")
    parser.add_argument(
        "--noise", action="store_true", default=None, help="depth noise and holes in the simulated camera"
    )
    parser.add_argument("--language", help="offline (default), or URL,MODEL of an OpenAI-compatible server")
    parser.add_argument("--confirm", action="store_true", default=None, help="ask before simulated motion too")
    parser.add_argument("--talk", default="talk", help="name of the talk; one of that name goes on (default talk)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs and talks (default runs)")
    parser.add_argument("--settings", type=Path, help="TOML settings file (default: ./affordagent.toml if there)")


def talk_settings(args: argparse.Namespace) -> Settings:
    """The settings of a talk, from the file and the flags."""
    from affordagent.agent.settings import Settings

    names = ("cell", "scene", "seed", "noise", "language", "confirm")
    settings = Settings.load(args.settings, **{name: getattr(args, name) for name in names})
    return settings if settings.ask_which is not None else settings.model_copy(update={"ask_which": ASK_WHICH})


def _chat(args: argparse.Namespace) -> int:
    from rich.console import Console

    from affordagent.agent.session import Session
    from affordagent.agent.talk.conversation import Conversation, read_talk

    settings = talk_settings(args)
    console = Console(highlight=False)
    for turn in read_talk(args.runs, args.talk)[-6:]:
        console.print(f"{turn['who']}: {turn['text']}", style="dim", markup=False)

    def answer(question: dict[str, Any]) -> str:
        console.print(question["question"], style="bold yellow", markup=False)
        return _read(console) or "no"

    console.print("loading ...", style="dim")
    with Session(settings) as session:
        talk = Conversation(session, args.runs, args.talk, tell=lambda e: _show(console, e), answer=answer)
        console.print("Tell me what you want, in your own words. An empty line ends the talk.", style="dim")
        while text := _read(console):
            talk.say(text)
    return 0


def _read(console: Console) -> str:
    """A line of the person's; empty at the end of the input, and on Ctrl-C."""
    try:
        return console.input("[bold]> [/bold]").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return ""


def _show(console: Console, event: Event) -> None:
    if event.kind == "record" and event.data["status"] == "ok":
        console.print(f"  {event.data['stage']:<11}{event.text}", style="dim", markup=False)
    elif event.kind in ("say", "ask"):
        console.print(event.text, style="bold cyan" if event.kind == "ask" else "cyan", markup=False)
        for number, choice in enumerate(event.data.get("choices", []), 1):
            console.print(f"  {number}. {choice['label']}", style="cyan", markup=False)
    elif event.kind == "run":
        console.print(f"  {event.run}", style="dim", markup=False)
