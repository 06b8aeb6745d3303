"""Natural commands with what they mean: one JSON object a line.

    {"id": "dev-mug-1", "text": "cn u reach me that mug, its handle pls", "scene": null,
     "gold": {"categories": ["mug"], "part": "handle"}, "group": "mug-by-handle", "style": "natural",
     "writer": "v03", "language": "en", "notes": ""}

`gold` is what should be grasped; null = nothing should (a question, a thing that is not there, stop, unsafe);
"ambiguous" = the right answer is a question. Empty lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from affordagent.core.errors import AffordAgentError
from affordagent.robot.sim.scene import SCENES, PlacedObject, Scene

Style = Literal["template", "easy", "hard", "natural"]
Expected = Literal["grasp", "ask", "refuse"]
Split = Literal["dev", "test"]

SHIPPED: tuple[Split, ...] = ("dev", "test")
MAX_TEXT = 500  # characters; nobody says more to a robot in one breath

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=60, pattern=r"^\S(.*\S)?$")]
_MENDS = {
    "id": "letters, digits, '.', '_' and '-', at most 64",
    "text": f"1 to {MAX_TEXT} characters",
    "scene": "NAME:SEED of a simulated scene, frame:PREFIX, or null",
    "gold": 'an object with "categories" or "objects", null, or "ambiguous"',
    "group": "letters, digits, '.', '_' and '-', at most 64",
    "style": "template, easy, hard or natural",
    "writer": "an anonymous id of letters, digits, '.', '_' and '-', or null",
    "language": "a BCP 47 tag such as en, en-GB or de",
    "absent": "a list of categories",
    "notes": "a text",
}


class CommandGold(BaseModel):
    """What should be grasped; any thing that fits all that is given will do.

    categories: of `core.catalogue` or others; any of them. objects: names in the scene ("mug_2"); any of them. colour:
    the colour word of the thing, where the text tells two apart by it. part: to hold, None = any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    categories: tuple[_Word, ...] = ()
    objects: tuple[_Word, ...] = ()
    colour: _Word | None = None
    part: _Word | None = None

    @model_validator(mode="after")
    def _names_something(self) -> CommandGold:
        if not (self.categories or self.objects):
            raise ValueError("give categories or objects, or make the gold null when nothing should be grasped")
        return self

    def fits(self, thing: PlacedObject) -> bool:
        return (
            (not self.categories or thing.category in self.categories)
            and (not self.objects or thing.name in self.objects)
            and self.colour in (None, thing.obj.colour)
        )

    def names_in(self, scene: Scene) -> frozenset[str]:
        """Names of the scene's objects that will do."""
        return frozenset(thing.name for thing in scene.objects if self.fits(thing))


class Command(BaseModel):
    """One text and what it means.

    scene: "NAME:SEED" of a simulated scene, "frame:PREFIX" of a recorded frame, None = any scene that holds the gold
    and none of `absent`. group: commands that mean the same share it. writer: an anonymous id. language: BCP 47.
    absent: categories that must not be in the scene, or the gold would be another (they would serve as well, or are
    what is asked for and not there).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: _Id
    text: str = Field(min_length=1, max_length=MAX_TEXT)
    scene: str | None = None
    gold: CommandGold | Literal["ambiguous"] | None = Field(description="null: nothing should be grasped")
    group: _Id
    style: Style = "natural"
    writer: _Id | None = None
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{1,8})*$")
    absent: tuple[_Word, ...] = ()
    notes: str = ""

    @model_validator(mode="after")
    def _scene_exists(self) -> Command:
        if not self.text.strip():
            raise ValueError("the text is blank: leave the line out")
        if self.scene is None or self.scene.startswith("frame:"):
            return self
        name, _, seed = self.scene.partition(":")
        if name not in SCENES or not seed.isdecimal():
            raise ValueError(f"scene {self.scene!r} is none: {_MENDS['scene']}; scenes: {', '.join(SCENES)}")
        return self

    @property
    def expected(self) -> Expected:
        """What the robot should do."""
        if self.gold is None:
            return "refuse"
        return "ask" if self.gold == "ambiguous" else "grasp"

    @property
    def simulated(self) -> tuple[str, int] | None:
        """Name and seed of the simulated scene, None where there is none."""
        if self.scene is None or self.scene.startswith("frame:"):
            return None
        name, _, seed = self.scene.partition(":")
        return name, int(seed)

    def suits(self, scene: Scene) -> bool:
        """Whether the gold is right in this scene: it is there, and nothing of `absent` is."""
        if self.simulated is not None:
            return self.simulated == (scene.name, scene.seed)
        if self.scene is not None or any(thing.category in self.absent for thing in scene.objects):
            return False
        return not isinstance(self.gold, CommandGold) or bool(self.gold.names_in(scene))


def read_commands(path: Path) -> list[Command]:
    """The commands of a JSONL file, in its order. Also: the shipped sets under the names `dev` and `test`, and .json
    files with a list of commands or questions, see `foreign`.

    Raises:
        AffordAgentError: the file cannot be read, a line is wrong (names line and field), or an id comes twice.
    """
    if path.suffix == ".json":
        from affordagent.evaluations.commands.foreign import read_list

        return read_list(path)
    if str(path) in SHIPPED and not path.exists():
        path = shipped_file(str(path))
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: texts may hold U+2028 and the like
    except (OSError, UnicodeDecodeError) as error:
        raise AffordAgentError(f"cannot read {path}: {error}; give a UTF-8 file with a JSON object a line") from error
    found: dict[str, tuple[int, Command]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        command = _parsed(line, f"{path} line {number}")
        if command.id in found:
            first = found[command.id][0]
            raise AffordAgentError(f"{path} line {number}: id {command.id!r} is that of line {first} too: rename one")
        found[command.id] = number, command
    return [command for _, command in found.values()]


def _parsed(line: str, where: str) -> Command:
    try:
        return Command.model_validate(json.loads(line))
    except json.JSONDecodeError as error:
        raise AffordAgentError(f"{where} is no JSON object: {error}; write one object a line") from error
    except ValidationError as error:
        first_of = {problem["loc"][:1]: problem for problem in reversed(error.errors())}  # gold: not for each form
        raise AffordAgentError("; ".join(f"{where}: {_said(problem)}" for problem in first_of.values())) from error


def _said(problem: Any) -> str:
    """A field, what is wrong with it, and the mend."""
    path = [str(step) for step in problem["loc"] if not str(step).startswith(("function-after", "literal["))]
    name = path[0] if path else "command"
    mend = f"; must be {_MENDS[name]}" if name in _MENDS else ""
    if problem["type"] == "extra_forbidden":
        mend = f"; remove it or correct its name ({', '.join(Command.model_fields)})"
    given = "" if problem["type"] in ("missing", "value_error") else f" {str(problem['input'])[:60]!r}"
    return f"{'.'.join(path) or name}{given}: {problem['msg']}{mend}"


def write_commands(path: Path, commands: Iterable[Command]) -> None:
    """The commands as JSONL (UTF-8), fields at their defaults left out but for `gold`."""
    lines = (json.dumps(as_object(command), ensure_ascii=False) + "\n" for command in commands)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines), encoding="utf-8")


def as_object(command: Command) -> dict[str, Any]:
    """What a line holds."""
    return command.model_dump(mode="json", exclude_defaults=True)


def shipped_file(split: str) -> Path:
    """Where a set that comes with the package lies."""
    return Path(str(files("affordagent.evaluations").joinpath(f"commands/{split}.jsonl")))


def shipped_commands(split: Split) -> list[Command]:
    """The commands that come with the package: "dev" may be looked at and fitted to, "test" is for final reports."""
    return read_commands(shipped_file(split))
