"""The arguments of `affordagent train-vlm` and of `python -m affordagent.finetune.vlm.train`."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.config import CONFIGS

PACKAGES = ("accelerate", "peft", "tensorboard")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", choices=CONFIGS, default="published", help="named settings (default %(default)s)")
    parser.add_argument("--base", type=Path, required=True, help="folder of the AffordanceVLM to begin with")
    parser.add_argument("--vision-tower", type=Path, help="folder of the CLIP tower (default: beside the base)")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="rows to train on: .parquet or .csv")
    parser.add_argument("--val", type=Path, nargs="*", default=[], help="rows to choose the best weights by")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of --out")
    parser.add_argument("--stop-after", type=int, metavar="N", help="checkpoint and stop N steps from here")


def need_training_packages() -> None:
    """
    Raises:
        AffordAgentError: something of the extra `train` is not installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise AffordAgentError(f"training needs {', '.join(missing)}: pip install 'affordagent[train]'")
