"""Annotation on a Ray cluster, by Ray Data: actors that keep their models, each with a GPU where there are some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from affordagent.agent.annotating import Shard, answer
from affordagent.core.workers import ray_cluster


class Annotator:
    """An actor; the models are loaded with its first shard and kept."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"key": [answer(shard) for shard in batch["item"]]}


def answer_on_ray(shards: list[Shard], address: str, workers: int, on_result: Callable[[str], None]) -> None:
    """Answer the shards with `workers` actors. Ray Data hands an actor the next shard when it has room (backpressure);
    what the actors write must be on a disk that all nodes share.

    Raises:
        AffordAgentError: Ray is not installed, or the cluster cannot be reached.
    """
    if not shards:
        return
    with ray_cluster(address, workers) as ray:
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
        answered = data.from_items(shards, override_num_blocks=len(shards)).map_batches(
            Annotator, batch_size=1, concurrency=workers, num_gpus=gpus
        )
        for row in answered.iter_rows():
            on_result(str(row["key"]))
