"""The suites of trials: what each asks, as a plain table.

A suite's trials come in rounds, a scene or an attempt each, with all conditions in every round: an evaluation that is
cut short has seen all of them equally often.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.commands.command import Command, CommandGold, as_object, read_commands
from affordagent.evaluations.runner.trial import AROUND, Trial, thickness_m
from affordagent.finetune.phrases import Style
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.scene import TEST_SEEDS, sample_scene, scene_categories

DEPTH_SIGMAS_M = (0.0, 0.0025, 0.005, 0.01, 0.02)
THIN = ("utensil", "combination wrench", "spatula", "toothbrush", "ladle", "adjustable wrench")
THIN_M = (0.008, 0.012)  # "a 1 cm handle"
THINGS = 20
SEARCHED_SCENES = 500  # in which a command's thing is looked for
SPREAD = 400  # scenes from the first one on, among which the search for each group of commands begins


@dataclass(frozen=True)
class Asked:
    """What a suite is asked for. rounds: how many scenes or attempts. scenes: names, see `affordagent scenes`. changes:
    of the default settings, by the name of the setting. commands: file of a commands suite."""

    rounds: int
    first_seed: int = 0
    repeats: int = 1
    scenes: tuple[str, ...] = ("mixed",)
    styles: tuple[Style, ...] = ("template", "hard")
    masks: Literal["model", "truth"] = "model"
    noise: bool = False
    sigmas_m: tuple[float, ...] = DEPTH_SIGMAS_M
    things: int = THINGS
    commands: Path | None = None
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})

    @property
    def seeds(self) -> range:
        return range(self.first_seed, self.first_seed + self.rounds)

    def as_json(self) -> dict[str, Any]:
        """All but the settings, JSON's own types; the file of commands by its name and contents."""
        fields = {name: value for name, value in asdict(self).items() if name != "changes"}
        if self.commands is not None:
            texts = json.dumps([as_object(command) for command in read_commands(self.commands)])
            fields["commands"] = f"{self.commands.name} sha256:{hashlib.sha256(texts.encode()).hexdigest()[:16]}"
        return fields


def styles(asked: Asked) -> Iterator[Trial]:
    """Template against hard instructions: the same scenes, the same targets."""
    for repeat, seed, scene in itertools.product(range(asked.repeats), asked.seeds, asked.scenes):
        for style, (setting, changes) in itertools.product(asked.styles, asked.changes.items()):
            yield _generated("styles", asked, scene, seed, style, setting, changes, repeat)


def objects(asked: Asked) -> Iterator[Trial]:
    """Things of seen and unseen categories by turns, each the target in as many scenes as there are rounds, among five
    others; shapes that no training used."""
    known, unseen = list(library.CATEGORIES), list(library.HELD_OUT)
    turns = [c for pair in itertools.zip_longest(known, unseen) for c in pair if c is not None]
    if asked.things > len(turns):
        raise AffordAgentError(f"--things {asked.things}: there are {len(turns)}")
    around = [f"{AROUND}:{c}:{TEST_SEEDS.start + asked.first_seed}" for c in turns[: asked.things]]
    for repeat, seed, scene in itertools.product(range(asked.repeats), asked.seeds, around):
        for setting, changes in asked.changes.items():
            yield _generated("objects", asked, scene, seed, asked.styles[0], setting, changes, repeat)


def depth(asked: Asked) -> Iterator[Trial]:
    """Things with a handle of 1 cm, seen with more and more noise of the depth; a setting for each level."""
    instances = {c: f"{AROUND}:{c}:{thin_instance(c, asked.first_seed)}" for c in THIN}
    for repeat, seed in itertools.product(range(asked.repeats), asked.seeds):
        scene = instances[THIN[seed % len(THIN)]]
        for sigma_m, (name, changes) in itertools.product(asked.sigmas_m, asked.changes.items()):
            setting = f"sigma {1e3 * sigma_m:g} mm" + ("" if name == "default" else f", {name}")
            yield _generated("depth", asked, scene, seed, asked.styles[0], setting, changes, repeat, sigma_m)


def commands(asked: Asked) -> Iterator[Trial]:
    """Each command of a file in as many scenes as there are rounds, each with the thing that is meant; commands of one
    style are not together."""
    if asked.commands is None:
        raise AffordAgentError("the suite commands needs a file of commands")
    texts = _by_turns(read_commands(asked.commands))
    found = {command.id: suiting_scenes(command, asked) for command in texts}
    for repeat, number, command in itertools.product(range(asked.repeats), range(asked.rounds), texts):
        if number >= len(found[command.id]):
            continue  # it names one scene
        scene, seed = found[command.id][number]
        for setting, changes in asked.changes.items():
            yield Trial(
                suite="commands",
                setting=setting,
                changes=dict(changes),
                scene=scene,
                seed=seed,
                repeat=repeat,
                noise=asked.noise,
                masks=asked.masks,
                style=command.style,
                text=command.text,
                gold=command.gold if isinstance(command.gold, CommandGold) else None,
                expected=command.expected,
                absent_is_right=command.gold is None and bool(command.absent),
                command_id=command.id,
                group=command.group,
                writer=command.writer,
                language=command.language,
            )


SUITES: dict[str, Callable[[Asked], Iterator[Trial]]] = {
    "styles": styles,
    "objects": objects,
    "depth": depth,
    "commands": commands,
}


def _generated(
    suite: str,
    asked: Asked,
    scene: str,
    seed: int,
    style: Style,
    setting: str,
    changes: Mapping[str, Any],
    repeat: int,
    depth_sigma_m: float | None = None,
) -> Trial:
    """A trial whose text is drawn; the `seed`-th thing of the scene is meant."""
    return Trial(
        suite=suite,
        setting=setting,
        changes=dict(changes),
        scene=scene,
        seed=seed,
        repeat=repeat,
        noise=asked.noise,
        depth_sigma_m=depth_sigma_m,
        masks=asked.masks,
        target=seed,
        style=style,
        command_id=f"{style}-{scene}-{seed}",
        group=f"{scene}-{seed}",
    )


def thin_instance(category: str, first_seed: int) -> int:
    """The first instance from `first_seed` on whose part to hold is about 1 cm thick; no training used its shape.

    Raises:
        AffordAgentError: no such instance among 200.
    """
    start = TEST_SEEDS.start + first_seed
    for seed in range(start, start + 200):
        if THIN_M[0] <= thickness_m(library.make(category, seed)) <= THIN_M[1]:
            return seed
    raise AffordAgentError(f"no {category} from instance {start} on has a part of {THIN_M[0]} to {THIN_M[1]} m")


def suiting_scenes(command: Command, asked: Asked) -> list[tuple[str, int]]:
    """Name and seed of the first scenes, as many as there are rounds, in which the command's gold is right.

    Raises:
        AffordAgentError: the command is of a recorded frame, or no scene suits it.
    """
    if command.scene is not None:
        if command.simulated is None:
            raise AffordAgentError(f"command {command.id}: {command.scene} is not simulated, so nobody can judge it")
        return [command.simulated]
    wanted = command.gold if isinstance(command.gold, CommandGold) else None
    first = asked.first_seed + zlib.crc32(command.group.encode()) % SPREAD  # what means the same gets the same scenes
    searched = range(first, first + SEARCHED_SCENES)
    pairs = ((name, seed) for seed in searched for name in asked.scenes)
    found = list(itertools.islice((pair for pair in pairs if _suits(command, wanted, *pair)), asked.rounds))
    if not found:
        raise AffordAgentError(
            f"command {command.id}: none of {SEARCHED_SCENES} scenes of {', '.join(asked.scenes)} suits it; name the "
            "scene in the command, or others with --scene"
        )
    return found


def _suits(command: Command, wanted: CommandGold | None, name: str, seed: int) -> bool:
    """By the categories first, which is quick."""
    categories = scene_categories(name, seed)
    if set(command.absent) & set(categories):
        return False
    if wanted is None:
        return True
    if wanted.categories and not set(wanted.categories) & set(categories):
        return False
    return not (wanted.objects or wanted.colour) or command.suits(sample_scene(name, seed))


def _by_turns(texts: Sequence[Command]) -> list[Command]:
    """One of each style, then the second of each, and so on."""
    by_style: dict[str, list[Command]] = {}
    for command in texts:
        by_style.setdefault(command.style, []).append(command)
    return [c for turn in itertools.zip_longest(*by_style.values()) for c in turn if c is not None]
