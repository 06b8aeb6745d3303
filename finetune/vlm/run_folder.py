"""The folder of a training run: what it is of, its checkpoints, its best weights.

    run.json                       settings, base model and data; a resumed run must agree with it
    checkpoints/step_000100/       weights.safetensors (what is trained), position.json, and accelerate's files
    best.safetensors, best.json    trained weights of the best validation
    logs/                          TensorBoard

A checkpoint is written beside its place and renamed, so one that is there is whole. weights.safetensors hold no code.
Accelerate's own files (optimiser, random numbers) are opened as plain tensors and numbers; DeepSpeed's are pickles that
DeepSpeed executes, so resume only from a folder of your own.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import write_json

RUN, CHECKPOINTS, WEIGHTS, POSITION = "run.json", "checkpoints", "weights.safetensors", "position.json"
PATHS = "paths"  # of the facts: where things were, which may move
BEST, BEST_FACTS, LOGS = "best.safetensors", "best.json", "logs"


@dataclass(frozen=True)
class Position:
    """How far a run is. step: of the optimiser; drawn: samples that were read, all processes together."""

    step: int = 0
    drawn: int = 0
    best_giou: float | None = None


@dataclass(frozen=True)
class RunFolder:
    path: Path

    def start(self, facts: dict[str, Any], resume: bool) -> None:
        """Make it the folder of a run with these facts, or check that it is.

        Raises:
            AffordAgentError: it holds a run and `resume` is not asked for; or one of other facts; or there is nothing
                to resume.
        """
        file = self.path / RUN
        if not file.is_file():
            if resume:
                raise AffordAgentError(f"{self.path} holds no run to resume: there is no {RUN}; leave out --resume")
            if self.path.exists() and any(self.path.iterdir()):
                raise AffordAgentError(f"{self.path} is not empty and holds no run; name a new folder")
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(file, facts)
            return
        if not resume:
            raise AffordAgentError(f"{self.path} holds a run; add --resume to go on with it, or name a new folder")
        theirs, mine = self.facts(), json.loads(json.dumps(facts))
        keys = (mine.keys() | theirs.keys()) - {PATHS}
        differing = sorted(key for key in keys if mine.get(key) != theirs.get(key))
        if differing:
            facts_differ = "; ".join(f"{key} was {theirs.get(key)}, is {mine.get(key)}" for key in differing)
            raise AffordAgentError(f"{self.path} holds another run ({facts_differ}): name a new folder")

    def facts(self) -> dict[str, Any]:
        """The contents of run.json.

        Raises:
            AffordAgentError: none there, or broken.
        """
        try:
            return json.loads((self.path / RUN).read_text())
        except (OSError, ValueError) as error:
            raise AffordAgentError(f"{self.path} is not the folder of a training run: {error}") from error

    def newest(self) -> Path | None:
        """The newest whole checkpoint."""
        folders = [p for p in (self.path / CHECKPOINTS).glob("step_*") if p.suffix != ".part"]
        return max(folders, default=None)

    def draft(self, step: int) -> Path:
        """Where the checkpoint behind so many steps is written, before `keep` puts it in its place."""
        return self.path / CHECKPOINTS / f"step_{step:06d}.part"

    def keep(self, draft: Path, weights: dict[str, Tensor], position: Position) -> None:
        """The draft becomes the newest checkpoint, and older ones go."""
        save_file(weights, draft / WEIGHTS, metadata={"format": "pt"})
        write_json(draft / POSITION, asdict(position))
        place = draft.with_suffix("")
        if place.exists():  # written before by a run that was resumed from an older one
            shutil.rmtree(place)
        os.replace(draft, place)
        for other in (self.path / CHECKPOINTS).iterdir():
            if other != place:
                shutil.rmtree(other)

    def keep_best(self, weights: dict[str, Tensor], position: Position) -> None:
        draft = self.path / f"{BEST}.part"
        save_file(weights, draft, metadata={"format": "pt"})
        os.replace(draft, self.path / BEST)
        write_json(self.path / BEST_FACTS, asdict(position))

    def weights_to_export(self) -> tuple[dict[str, Tensor], str]:
        """The best weights, or the newest where there was no validation, and where they came from.

        Raises:
            AffordAgentError: the run has made no checkpoint yet.
        """
        if (self.path / BEST).is_file():
            return read_trained(self.path / BEST), BEST
        newest = self.newest()
        if newest is None:
            raise AffordAgentError(f"{self.path} has no checkpoint yet; train until the first is written")
        return read_trained(newest / WEIGHTS), f"{newest.name}/{WEIGHTS}"


def read_position(checkpoint: Path) -> Position:
    return Position(**json.loads((checkpoint / POSITION).read_text()))


def read_trained(file: Path) -> dict[str, Tensor]:
    """
    Raises:
        AffordAgentError: missing or broken.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise AffordAgentError(f"{file} cannot be read: {error}") from error
