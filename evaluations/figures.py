"""A figure of the benchmark, and what all benchmarks are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affordagent.finetune.mini_train import CONFIGS, TrainConfig
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT


@dataclass(frozen=True)
class Figure:
    """least, most: what is promised of the value, None = nothing. parts: what it was made of."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None
    parts: dict[str, Any] | None = None

    @property
    def met(self) -> bool | None:
        if self.least is None and self.most is None:
            return None
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)


@dataclass(frozen=True)
class Bench:
    """data: a rendered set; scratch: a folder to write to; vlm: a checkpoint in the published format, if there is one;
    repeats: of what is timed in rounds; queries: of the mini; config: of its training. full: the figures as they are
    reported, on scenes kept for that; otherwise a few scenes of development. rival: grasp network to compare with, as
    in the setting `grasps`."""

    data: Path
    scratch: Path
    vlm: Path | None = None
    repeats: int = 6
    queries: int = 20
    checkpoint: Path = SHIPPED_CHECKPOINT
    config: TrainConfig = CONFIGS["base"]
    full: bool = False
    rival: str | None = None
