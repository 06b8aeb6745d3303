"""What people would say: pictures of scenes with a thing to ask for, and their answers, kept as commands.

Nothing about a person is kept but a random id that the page draws: no name, no address, no time.
"""

from __future__ import annotations

import io
import json
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ImageDraw

from affordagent.agent.pictures import OBJECT_RGB, overlay
from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import append_line
from affordagent.core.types import PartMask, RgbdFrame, box_of
from affordagent.evaluations.commands.command import Command, CommandGold, as_object, read_commands
from affordagent.evaluations.commands.importing import slug
from affordagent.evaluations.commands.quality import copy_of, plain, text_faults
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.sim.view import TrueObject

Asking = Literal["thing", "part", "need"]
ASKINGS: tuple[Asking, ...] = ("thing", "part", "need")
FRAME_PX = 8  # between a thing and the frame round it
LEAST_VISIBLE_PX = 150  # less of a thing is not seen well enough to ask for it


@dataclass(frozen=True)
class Task:
    """One thing to ask for. asking: "thing" = it is framed; "part" = and the part to hold marked; "need" = it is only
    told what is to be done, in the words `need`. picture: a JPEG file."""

    id: str
    scene: str
    gold: CommandGold
    asking: Asking
    need: str
    picture: bytes

    @property
    def group(self) -> str:
        """Commands that mean the same: whatever was asked, the same thing (by the same part, where one is marked)."""
        return slug(" ".join((self.scene, *self.gold.objects, self.gold.part or "")))


def make_tasks(
    name: str,
    seeds: Sequence[int],
    askings: Collection[Asking] = ASKINGS,
    on_scene: Callable[[int], None] = lambda seed: None,
) -> list[Task]:
    """Every thing that is seen well enough in the scenes `name` of `seeds`, asked for in one way after another.

    Raises:
        AffordAgentError: no such scene, or nothing to ask for in any of them.
    """
    tasks: list[Task] = []
    for seed in seeds:
        tasks += _tasks_of(name, seed, [asking for asking in ASKINGS if asking in askings])
        on_scene(seed)
    if not tasks:
        raise AffordAgentError(f"nothing to ask for in scene {name} with seeds {list(seeds)}; choose others")
    return tasks


def _tasks_of(name: str, seed: int, askings: Sequence[Asking]) -> list[Task]:
    tasks = []
    with SimCell(sample_scene(name, seed)) as cell:
        frame = cell.look()
        things = [thing for thing in cell.truth() if thing.mask.sum() >= LEAST_VISIBLE_PX]
        kinds = Counter(thing.category for thing in things)
        for index, thing in enumerate(things):
            need = _needs().get(thing.category, "") if kinds[thing.category] == 1 else ""
            possible = {"thing": True, "part": thing.part != "body", "need": bool(need)}
            turn = (seed + index) % len(askings)
            asking = next((a for a in (*askings[turn:], *askings[:turn]) if possible[a]), None)
            if asking is not None:
                part = thing.part if asking == "part" else None
                gold = CommandGold(categories=(thing.category,), objects=(thing.name,), part=part)
                words = need if asking == "need" else ""
                picture = _picture(frame, thing, asking)
                tasks.append(Task(f"{name}-{seed}-{thing.name}", f"{name}:{seed}", gold, asking, words, picture))
    return tasks


def _picture(frame: RgbdFrame, thing: TrueObject, asking: Asking) -> bytes:
    """A JPEG: the thing in a green frame, its part in magenta, or nothing marked."""
    part = PartMask(thing.part_mask, thing.mask, 1.0, "truth") if asking == "part" else None
    picture = overlay(frame, None, part)
    if asking != "need":
        x0, y0, x1, y1 = box_of(thing.mask)
        around = (x0 - FRAME_PX, y0 - FRAME_PX, x1 + FRAME_PX, y1 + FRAME_PX)
        ImageDraw.Draw(picture).rounded_rectangle(around, FRAME_PX, outline=OBJECT_RGB, width=3)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()


@cache
def _needs() -> dict[str, str]:
    """What may be told of a person who wants a thing of this category, without its name."""
    path = files("affordagent.evaluations").joinpath("commands/needs.json")
    return json.loads(path.read_text(encoding="utf-8"))


class Answers:
    """The file of answers. Each is on the disk before it is acknowledged; what is there already is gone on with.

    Raises:
        AffordAgentError: the file is there and is no file of commands, or cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            _mend_end(file)
        except OSError as error:
            raise AffordAgentError(f"cannot write {file}: {error}; give another --out") from error
        known = read_commands(file)
        self._ids = {(command.writer or "", _task_of(command)): command.id for command in known}
        self._counts = Counter(task for _, task in self._ids)

    def add(self, task: Task, writer: str, text: str, language: str) -> str:
        """Keep an answer and return its id; sent twice, the first counts.

        Raises:
            AffordAgentError: the text is not fit, said so that the writer can mend it.
        """
        text = " ".join(text.split())
        faults = list(text_faults(text, language))
        if task.need and copy_of(plain(text), [plain(task.need)]) is not None:
            faults.append("copied: say it in your own words")
        if faults:
            raise AffordAgentError("; ".join(faults))
        with self._lock:
            key = (writer, task.id)
            if key not in self._ids:
                command = Command(
                    id=f"c-{secrets.token_hex(6)}",
                    text=text,
                    scene=task.scene,
                    gold=task.gold,
                    group=task.group,
                    writer=writer,
                    language=language,
                    notes=f"asked: {task.asking}",
                )
                append_line(self.file, as_object(command))
                self._ids[key] = command.id
                self._counts[task.id] += 1
            return self._ids[key]

    def next_task(self, tasks: Sequence[Task], writer: str, skipped: Collection[str] = ()) -> Task | None:
        """One that the writer has not answered yet, of those with the fewest answers; None = all are done."""
        rest = [task for task in tasks if (writer, task.id) not in self._ids and task.id not in skipped]
        if not rest:
            return None
        order = np.random.default_rng(list(writer.encode())).permutation(len(tasks))  # writers differ
        place = {task.id: int(at) for task, at in zip(tasks, order, strict=True)}
        return min(rest, key=lambda task: (self._counts[task.id], place[task.id]))

    def done(self, writer: str, tasks: Iterable[Task]) -> int:
        """How many of the tasks the writer has answered."""
        return sum((writer, task.id) in self._ids for task in tasks)


def _mend_end(file: Path) -> None:
    """Finish the last line: a kill may have cut it off. What is no whole object was never acknowledged and goes."""
    data = file.read_bytes()
    kept, newline, last = data.rpartition(b"\n")
    if not last:
        return
    try:
        json.loads(last)
    except ValueError:
        with file.open("r+b") as opened:
            opened.truncate(len(kept) + len(newline))
    else:
        with file.open("ab") as opened:
            opened.write(b"\n")


def _task_of(command: Command) -> str:
    """The id of the task that a command answers."""
    thing = command.gold.objects[0] if isinstance(command.gold, CommandGold) and command.gold.objects else ""
    return f"{(command.scene or '').replace(':', '-')}-{thing}"
