"""The benchmark: every figure with both of its sides, on small sets."""

from __future__ import annotations

import importlib.util
import json

import pytest
from fake_affordance_set import write_fake_set

from affordagent.core.errors import AffordAgentError
from affordagent.evaluations import bench, bench_grasping, bench_overhead
from affordagent.evaluations.bench import checkpoint_size, machine, mini_training, query, rows_of_data
from affordagent.evaluations.bench_grasping import projection
from affordagent.evaluations.bench_query import GROUNDING, measure
from affordagent.evaluations.figures import Bench, Figure
from affordagent.finetune.mini_train import CONFIGS
from affordagent.finetune.vlm.tiny import write_tiny_vlm


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("bench")
    write_fake_set(folder / "set", 4)
    vlm, _ = write_tiny_vlm(folder / "vlm")
    return Bench(folder / "set", folder, vlm, repeats=2, queries=2, config=CONFIGS["debug"])


def test_ratio_has_both_sides(small: Bench) -> None:
    (figure,) = mini_training(small)
    parts = figure.parts
    assert figure.value == pytest.approx(parts["loader_samples_per_cpu_s"] / parts["step_samples_per_cpu_s"])
    assert len(parts["loader_cpu_s"]) == len(parts["step_cpu_s"]) == small.repeats
    assert figure.met is (figure.value >= 1)


def test_published_loader_needs_a_tokenizer(small: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rate, workers = bench.published_loader(small)
    assert rate.value > 0
    assert workers.value == pytest.approx(bench.SAMPLES_PER_GPU_S / rate.value)
    assert bench.published_loader(Bench(small.data, small.scratch)) == []
    assert "--vlm" in capsys.readouterr().out


def test_rows_and_checkpoint(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "PARQUET_ROWS", 500)
    assert [figure.unit for figure in rows_of_data(small)] == ["rows/CPU-s"] * 3
    (size,) = checkpoint_size(small)
    assert size.met
    assert size.value > 1


def test_queries_are_timed_by_step(small: Bench) -> None:
    figures = {figure.name: figure for figure in query(small)}
    total = figures["mini query, from depth to the part"]
    assert len(total.parts["each"]) == small.queries
    steps = [sum(times) for times in zip(*(total.parts["steps"][step] for step in GROUNDING), strict=True)]
    assert total.parts["each"] == pytest.approx(steps, abs=5e-4)
    assert figures["peak memory of the queries"].value >= figures["peak memory after loading"].value > 100


def test_projection_is_compared_with_open3d(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("open3d", reason="the benchmark's extra is not installed: pip install 'affordagent[bench]'")
    monkeypatch.setattr(bench_grasping, "PROJECTIONS", 3)
    figures = projection(small)
    ratios, differences = figures[::2], figures[1::2]
    assert [figure.met for figure in differences] == [True, True]
    for figure in ratios:
        assert figure.parts["points"] > 1000
        assert figure.value == pytest.approx(figure.parts["open3d_cpu_s"] / figure.parts["ours_cpu_s"])


def test_without_open3d_the_projection_says_so(
    small: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert projection(small) == []
    assert "affordagent[bench]" in capsys.readouterr().out


def test_too_few_pictures_are_refused(small: Bench) -> None:
    with pytest.raises(AffordAgentError, match="pictures to ask about"):
        measure(small.data, small.checkpoint, 1000)


def test_limits_are_judged_and_shown() -> None:
    figures = [Figure("fast", 2.0, "x", least=1.0), Figure("slow", 0.9, "CPU-s", most=0.6), Figure("free", 1.0, "MB")]
    assert [figure.met for figure in figures] == [True, False, None]
    shown = bench.table(figures).splitlines()
    assert shown[0].endswith(">= 1      ok")
    assert shown[1].endswith("MISSED")
    assert shown[2].endswith("MB")
    assert json.dumps(machine())


@pytest.mark.slow
def test_the_agents_share_is_of_one_run(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_overhead, "COMMANDS", bench_overhead.COMMANDS[:1])
    figures = {figure.name: figure for figure in bench_overhead.overhead(small)}
    (command,) = figures["a command, without the report"].parts["commands"]
    assert command["outcome"] == "success"
    whole = command["stages"] + command["put"] + command["around"]
    assert figures["graph, checkpoints, events: share of it"].value == pytest.approx(
        command["around"] / whole, abs=1e-3
    )
    assert 0 < figures["the agent in all: share of it"].value < 0.3
    assert 0 <= figures["first stage shown after a turn"].value < 30
