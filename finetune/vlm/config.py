"""Named, frozen settings of a training run. `published` is what the published training script does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from affordagent.core.errors import AffordAgentError

# How often a group of data sets is drawn, then a set within it. A set that is not named has the rate 1.
GROUP_RATES: Mapping[str, float] = {
    "semantic": 3,
    "referring": 1,
    "vqa": 1,
    "reasoning": 1,
    "affordance": 9,
    "reasoning-affordance": 3,
}
SET_RATES: Mapping[str, Mapping[str, float]] = {
    "affordance": {"handal": 2, "openx": 2, "egoobjects": 4, "graspnet": 2, "rlbench": 1},
    "reasoning-affordance": {"handal hard": 1, "egoobjects easy": 1, "egoobjects hard": 1},
}


@dataclass(frozen=True)
class TrainConfig:
    """Sizes, rates and weights of a run; the defaults are those of the published training.

    micro_batch: pictures that a process reads at once; accumulate: how many micro-batches make a step of it.
    questions: at most so many about one picture of the general sets. max_length: tokens of a conversation, the picture
    as 256. precision: "bf16" (frozen weights are stored so, trained ones in float32) or "fp32". workers: loader
    processes of each process. save_steps, val_steps: how often to checkpoint and to validate.
    """

    name: str
    seed: int = 0
    epochs: int = 10
    steps_per_epoch: int = 500
    micro_batch: int = 2
    accumulate: int = 20
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 100
    clip_norm: float = 1.0
    lora_rank: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    ce_weight: float = 1.0
    bce_weight: float = 2.0
    dice_weight: float = 0.5
    questions: int = 3
    max_length: int = 512
    precision: str = "bf16"
    gradient_checkpointing: bool = True
    workers: int = 4
    save_steps: int = 100
    group_rates: Mapping[str, float] = field(default_factory=lambda: dict(GROUP_RATES))
    set_rates: Mapping[str, Mapping[str, float]] = field(
        default_factory=lambda: {group: dict(rates) for group, rates in SET_RATES.items()}
    )

    @property
    def steps(self) -> int:
        """Steps of the optimiser in the whole run."""
        return self.epochs * self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """Of the step with this number, from 0: linear warm-up, then linearly to 0 behind the last step."""
        warm = (step + 1) / max(1, self.warmup_steps)
        rest = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * max(0.0, min(1.0, warm, rest))

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"betas": list(self.betas)}


PUBLISHED = TrainConfig("published")
CONFIGS: Mapping[str, TrainConfig] = {
    config.name: config
    for config in (
        PUBLISHED,  # 40 pictures a GPU and step; the script was run on 8 GPUs
        replace(PUBLISHED, name="paper", learning_rate=2e-5, micro_batch=1, accumulate=5),  # 40 on 8 GPUs together
        replace(
            PUBLISHED,
            name="debug",
            epochs=2,
            steps_per_epoch=2,
            micro_batch=1,
            accumulate=2,
            warmup_steps=1,
            precision="fp32",
            gradient_checkpointing=False,
            workers=0,
            save_steps=1,
        ),
    )
}


def config_named(name: str) -> TrainConfig:
    """One of CONFIGS.

    Raises:
        AffordAgentError: no such name.
    """
    if name not in CONFIGS:
        raise AffordAgentError(f"config '{name}' is not known; one of {', '.join(CONFIGS)}")
    return CONFIGS[name]
