"""The tasks, what is said, and the ways in which a block is slid.

After RLBench (James et al., RA-L 2020): the sentences are those of its task files, with their things called as here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from affordagent.robot.sim.task_scenes import TaskScene

TaskName = Literal["reach", "press", "slide", "pick", "close"]


@dataclass(frozen=True)
class Task:
    """rlbench: its name there. sentences: with {colour} of the thing and {goal} of what it is brought to."""

    name: TaskName
    rlbench: str
    sentences: tuple[str, ...]

    def sentence(self, scene: TaskScene, rng: np.random.Generator) -> str:
        text = str(rng.choice(self.sentences))
        return text.format(colour=scene.colour, goal=scene.goal_colour)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "reach",
            "reach_target",
            ("reach the {colour} ball", "touch the {colour} ball with the gripper", "reach the {colour} sphere"),
        ),
        Task(
            "press",
            "push_button",
            ("push the {colour} button", "push down the {colour} button", "press the {colour} button"),
        ),
        Task(
            "slide",
            "slide_block_to_target",
            (
                "slide the {colour} block to the {goal} target",
                "slide the {colour} block onto the {goal} target",
                "push the block until it is sitting on top of the {goal} target",
                "slide the block towards the {goal} target",
                "cover the {goal} target with the block by pushing the block in its direction",
            ),
        ),
        Task(
            "pick",
            "pick_up_cup",
            ("pick up the {colour} cup", "grasp the {colour} cup and lift it", "lift the {colour} cup"),
        ),
        Task(
            "close",
            "close_jar",
            (
                "close the {goal} jar",
                "screw on the {goal} jar lid",
                "grasping the lid, lift it from the table and use it to seal the {goal} jar",
                "pick up the lid from the table and put it on the {goal} jar",
            ),
        ),
    )
}


@dataclass(frozen=True)
class Way:
    """How a block is slid. strokes: at most, each after a look. opening_m: of the fingers that push. truth: "none" =
    everything from the picture; "masks" = the simulator's masks of block and target; "poses" = its footprint and
    middle. offset_m: the block is taken to be so much to one side of where it is, at each look."""

    strokes: int = 1
    opening_m: float = 0.0
    truth: Literal["none", "masks", "poses"] = "none"
    offset_m: float = 0.0


SPREAD_M = 0.03
WAYS: dict[str, Way] = {
    "default": Way(strokes=4),
    "one stroke": Way(),
    "one stroke, true masks": Way(truth="masks"),
    "one stroke, true poses": Way(truth="poses"),
    "one stroke, fingers apart": Way(opening_m=SPREAD_M),
    **{f"one stroke, {mm} mm off": Way(truth="poses", offset_m=mm / 1000) for mm in (6, 12, 18, 24)},
    "looked again, 12 mm off": Way(strokes=4, truth="poses", offset_m=0.012),
    "looked again, 18 mm off": Way(strokes=4, truth="poses", offset_m=0.018),
    "fingers apart, 12 mm off": Way(opening_m=SPREAD_M, truth="poses", offset_m=0.012),
}
