"""The learned scorer: outcomes are kept and read again, training learns what can be, the shipped one is whole."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_grasping import bar, cloud_of

from affordagent.core.errors import AffordAgentError
from affordagent.evaluations import grasp_outcomes
from affordagent.evaluations.grasp_outcomes import spread_choice
from affordagent.finetune import grasp_scorer
from affordagent.finetune.grasp_scorer import (
    Ensemble,
    Perceptron,
    Standardiser,
    Table,
    auc,
    folds,
    logits_of,
    measure,
    reliability,
    train_network,
)
from affordagent.tools.grasping import ranking, scorer
from affordagent.tools.grasping.propose import consider


def table(rows: int = 50, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6))
    success = (features[:, 0] * features[:, 1] > 0).astype(float)  # nothing linear can tell
    group = np.repeat(np.arange(rows // 5), 5).astype(str)
    return Table(
        features, tuple("abcdef"), rng.uniform(0.1, 1, (rows, 3)), rng.random(rows), success, group, group, group
    )


def test_training_learns_50_rows_by_heart() -> None:
    data = table()
    x = Standardiser.of(data.features)(data.features)
    net = train_network(x, data, Perceptron(x.shape[1], hidden=48, dropout=0.0), seed=0, epochs=150)
    learned = logits_of([net], x)
    assert auc(learned, data.success) > 0.95
    assert np.mean((learned > 0) == (data.success > 0)) > 0.85


def test_the_saved_networks_give_the_same_in_numpy(tmp_path: Path) -> None:
    data = table()
    ensemble = Ensemble.fit(data, members=2)
    path = tmp_path / "scorer.safetensors"
    grasp_scorer.save(ensemble.nets, ensemble.scale, data.names, {"outcomes": 50}, path)
    loaded = scorer.load(path)
    assert loaded.names == data.names
    np.testing.assert_allclose(loaded.probability(data.features), 1 / (1 + np.exp(-ensemble(data))), atol=1e-5)
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_no_scorer_is_said(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match="is no grasp scorer"):
        scorer.load(tmp_path / "nothing.safetensors")
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"no tensors at all")
    with pytest.raises(AffordAgentError, match="is no grasp scorer"):
        scorer.load(other)


def test_the_shipped_scorer_is_the_one_that_was_measured() -> None:
    record = json.loads(scorer.WEIGHTS.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(scorer.WEIGHTS.read_bytes()).hexdigest()
    assert scorer.WEIGHTS.stat().st_size < 400_000
    assert all(int(name.rsplit("-", 1)[1]) < 1000 for name in record["scenes"])  # development scenes only


def test_each_grasp_gets_a_chance() -> None:
    view = consider(cloud_of(bar()))
    scorer.load()
    started = time.process_time()
    chance = scorer.load()(view)
    assert time.process_time() - started < 0.2  # a loose bound: some 20 ms for hundreds of grasps
    assert chance.shape == (len(view.grasps),)
    assert ((chance >= 0) & (chance <= 1)).all()
    assert set(scorer.load().names) == set(scorer.features(view))


def test_a_hand_turned_half_is_the_same_grasp() -> None:
    view = consider(cloud_of(bar()))
    turned = replace(view.grasps, T_base_tcp=view.grasps.T_base_tcp @ np.diag([-1.0, -1.0, 1.0, 1.0]))
    other = replace(view, grasps=turned, touch=ranking.touch(turned, view.part, view.rest, view.gripper))
    for name, values in scorer.features(view).items():
        np.testing.assert_allclose(scorer.features(other)[name], values, atol=1e-6, err_msg=name)


def test_measures_of_judges() -> None:
    success = np.array([1.0, 0, 1, 0])
    assert auc(np.array([4.0, 1, 3, 2]), success) == 1
    assert auc(np.ones(4), success) == 0.5
    data = table()
    assert measure(data, data.success)["auc_within"] == 1
    assert measure(data, -data.success)["top1"] < measure(data, data.success)["top1"]
    assert reliability(np.array([0.05, 0.95, 0.95, 0.05]), success)["ece"] == pytest.approx(0.45)


def test_folds_keep_together_what_belongs_together() -> None:
    kinds = np.array([f"scene {i % 13}" for i in range(200)])
    fold = folds(kinds)
    assert all(len(set(fold[kinds == k])) == 1 for k in set(kinds))
    assert set(fold) == set(range(5))


@given(st.integers(1, 300), st.integers(0, 5))
def test_grasps_of_every_rank_are_tried(ranked: int, seed: int) -> None:
    ranks = spread_choice(ranked, np.random.default_rng(seed))
    assert ranks == sorted(set(ranks))
    assert ranks[: min(4, ranked)] == list(range(min(4, ranked)))
    assert ranks[-1] < ranked
    assert len(ranks) == min(ranked, 14)


def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards that are there are left alone; a half-written one is made anew."""
    made = []

    def outcomes(name: str, seed: int) -> dict[str, np.ndarray]:
        made.append(seed)
        return {"scene": np.array(f"{name}-{seed}")}

    monkeypatch.setattr(grasp_outcomes, "outcomes", outcomes)
    grasp_outcomes.generate(tmp_path, "mixed", range(2))
    (tmp_path / "mixed-2.part").write_bytes(b"half")
    grasp_outcomes.generate(tmp_path, "mixed", range(4))
    assert made == [0, 1, 2, 3]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"mixed-{i}.npz" for i in range(4)]


@pytest.mark.slow
def test_outcomes_are_made_and_read_again(tmp_path: Path) -> None:
    grasp_outcomes.generate(tmp_path, "mixed", range(900, 901))
    grasp_outcomes.tabulate(tmp_path, tmp_path / "table.npz")
    read = grasp_scorer.read_table(tmp_path / "table.npz")
    assert 30 <= len(read) <= 70
    assert 0.2 < read.success.mean() < 1
    assert np.isfinite(read.features).all()
    with np.load(tmp_path / "mixed-900.npz") as shard:  # what was kept gives the same score as when it was made
        np.testing.assert_allclose(np.sort(read.score), np.sort(shard["score"]), atol=2e-3)
