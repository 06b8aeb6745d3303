"""What an evaluation keeps of each trial.

    OUT/evaluation.json      suite, settings by name, versions, seeds: what was asked for
    OUT/trials.jsonl         a row a trial, appended as it ends; what is lost at a kill is what was in flight
    OUT/attributions.jsonl   an attribution a trial, by key (`core.causes.Attribution` and "key")
    OUT/trials.parquet       both together, a row a trial, for pandas, Polars and DuckDB; nested fields as JSON text
    OUT/runs/KEY/            the trial's run folder, see `core.run_store`

A row is a flat dict with the fields of `Row`; further fields are kept as they are.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import TypedDict  # typing's own cannot be a pydantic field before Python 3.12

EVALUATION, TRIALS, ATTRIBUTIONS, TABLE, RUNS = (
    "evaluation.json",
    "trials.jsonl",
    "attributions.jsonl",
    "trials.parquet",
    "runs",
)


class FaultRecord(TypedDict):
    """An injected fault. cause: one of `core.causes.CAUSES`. size in the unit that its name says."""

    cause: str
    name: str
    size: float | None


class Row(TypedDict):
    """One trial. success: by the truth, of what was expected; for "ask" and "refuse" the outcome decides. sensed_*:
    what the cell's sensors alone say. style: template, easy, hard, natural. distance: from the training texts, 0 to 1.
    group: commands that mean the same share it. seen: the category has training pictures. masks: "model", or "truth"
    where words and mask came from the simulator. depth_sigma_m: noise of the depth alone, at the middle of the table.
    thickness_m: of the part to hold. cpu_s: by stage, and to "open" the cell. attribution: of `attributions.jsonl`,
    None where there is none."""

    key: str
    suite: str
    setting: str
    scene: str
    seed: int
    repeat: int
    noise: bool
    depth_sigma_m: float | None
    masks: str
    command_id: str
    group: str
    text: str
    style: str
    writer: str | None
    language: str
    distance: float | None
    target: str | None
    category: str | None
    part: str | None
    seen: bool
    thickness_m: float | None
    expected: Literal["grasp", "ask", "refuse"]
    outcome: str
    success: bool
    sensed_success: bool | None
    sensed_code: str | None
    failure_stage: str | None
    failure_code: str | None
    failure_message: str | None
    tool: str | None
    confidence: float | None
    fault: FaultRecord | None
    checks: dict[str, bool]
    measured: dict[str, float]
    cpu_s: dict[str, float]
    wall_s: float
    run: str
    attribution: dict[str, Any] | None
