"""Commands in other forms, read from the user's disk; neither set comes with the package, for their licences.

{"commands": [{"id": 1, "text", "gold", "accept": [...], "hard", "note"}]}      accept: categories; empty = nothing
{"questions": [{"verb", "command", "candidates": [...], "answer"}]}             which of the candidates serves
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.commands.command import Command, CommandGold


def read_list(path: Path) -> list[Command]:
    """The commands of a .json file in either form.

    Raises:
        AffordAgentError: the file cannot be read or has another form.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if "commands" in data:
            return [_from_command(path.stem, item) for item in data["commands"]]
        return [_from_question(path.stem, number, item) for number, item in enumerate(data["questions"], 1)]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise AffordAgentError(
            f"cannot read {path} as commands: {error!r}; it needs a list `commands` or `questions`, or be JSONL"
        ) from error


def _from_command(name: str, item: dict[str, Any]) -> Command:
    """An open request for clarification is told by its note; a generic word ("pliers") means all it may mean."""
    note = item.get("note", "")
    nothing = "ambiguous" if "clarification" in note else None
    accepted = set(item["accept"])
    known = [kind.name for kind in catalogue().values() if accepted & {kind.name, *kind.generic}]
    categories = (*known, *sorted(accepted - set(known) - {g for kind in catalogue().values() for g in kind.generic}))
    said = " ".join(filter(None, ("unnamed" if item.get("hard") else "", note)))
    identity = f"{name}-{item['id']}"
    gold = CommandGold(categories=categories) if categories else nothing
    return Command(id=identity, text=item["text"], gold=gold, group=identity, notes=said)  # type: ignore[arg-type]


def _from_question(name: str, number: int, item: dict[str, Any]) -> Command:
    """The other candidates are no part of a command: the scene would have to hold all five."""
    identity = f"{name}-{number}"
    gold = CommandGold(categories=(item["answer"],))
    return Command(id=identity, text=item["command"], gold=gold, group=f"{name}-{item['verb']}", style="hard")
