"""`affordagent chat`: talk to the robot in the terminal, turn by turn."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent.web.text import shown

if TYPE_CHECKING:
    from rich.console import Console

    from affordagent.agent.settings import Settings
    from affordagent.agent.talk.conversation import Event

EPILOG = """
"the other one", "no, by the handle", "put it back", "put it in the box", "give it to me" and "again" refer to what was
said before. Ctrl-C stops the arm; at the prompt it ends the talk. docs/talking.md has more.
"""
LONGEST = 4000  # characters of a line
STAGES_SAID = {
    "read": "reading",
    "understand": "understanding",
    "look": "looking",
    "ground": "finding it",
    "lift": "measuring it",
    "propose": "choosing a grasp",
    "plan": "planning",
    "confirm": "asking",
    "execute": "moving",
    "verify": "checking",
}


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
    """The settings of a talk, from the file and the flags. Says on stderr what they send elsewhere."""
    from affordagent.agent.settings import ASK_WHICH, Settings
    from affordagent.agent.tracing import leaves_the_machine

    names = ("cell", "scene", "seed", "noise", "language", "confirm")
    settings = Settings.load(args.settings, **{name: getattr(args, name) for name in names})
    for line in leaves_the_machine(settings):
        print(line, file=sys.stderr)
    return settings if settings.ask_which is not None else settings.model_copy(update={"ask_which": ASK_WHICH})


def _chat(args: argparse.Namespace) -> int:
    from rich.console import Console

    from affordagent.agent.session import Session
    from affordagent.agent.talk.conversation import Conversation, read_talk

    settings = talk_settings(args)
    console = Console(highlight=False)
    screen = _Screen(console)
    for turn in read_talk(args.runs, args.talk)[-6:]:
        screen.print(f"{turn['who']}: {turn['text']}", "dim")

    def answer(question: dict[str, Any]) -> str:
        screen.print(question["question"], "bold yellow")
        return _read(console) or "no"

    console.print("loading ...", style="dim")
    with Session(settings) as session:
        talk = Conversation(session, args.runs, args.talk, tell=screen.show, answer=answer)
        console.print('Tell me what you want, in your own words; "help" says more. An empty line ends it.', style="dim")
        while text := _read(console):
            talk.say(text)
            screen.status.stop()
    return 0


def _read(console: Console) -> str:
    """A line of the person's; empty at the end of the input, and on Ctrl-C."""
    try:
        return console.input("[bold]> [/bold]").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return ""


class _Screen:
    """A talk in the terminal: what is under way in the last line, all else above it. Words of persons, models and files
    cannot steer the terminal: see `agent.web.text.shown`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.status = console.status("")

    def print(self, text: str, style: str) -> None:
        self.status.stop()
        self._console.print(shown(text, LONGEST), style=style, markup=False)

    def show(self, event: Event) -> None:
        if event.kind == "stage":
            self.status.update(f"[dim]{STAGES_SAID.get(event.text, event.text)} ...[/dim]")
            self.status.start()
        elif event.kind == "record" and event.data["status"] == "ok":
            self.print(f"  {event.data['stage']:<11}{event.text}", "dim")
        elif event.kind in ("say", "ask"):
            self.print(event.text, "bold cyan" if event.kind == "ask" else "cyan")
            for number, choice in enumerate(event.data.get("choices", []), 1):
                self.print(f"  {number}. {choice['label']}", "cyan")
        elif event.kind == "run":
            self.print(f"  {event.run}", "dim")
