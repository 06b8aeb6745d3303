"""Ablations of the mini: the variants differ in what they should, and a run goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_affordance_set import write_fake_set

from affordagent.core.errors import AffordAgentError
from affordagent.evaluations import ablations
from affordagent.evaluations.ablations import MEASURES, VARIANTS, finished, run, scenes_of, score, table, values
from affordagent.finetune.mini_data import list_rows
from affordagent.finetune.mini_model import MiniAffordanceVLM
from affordagent.finetune.mini_texts import STYLES, TextPool
from affordagent.finetune.mini_train import CONFIGS, Trainer, ask
from affordagent.finetune.phrases import phrases

torch.set_num_threads(1)
DEBUG = CONFIGS["debug"]
SMALL = {
    "base": DEBUG,
    "one query": replace(DEBUG, model=replace(DEBUG.model, queries=1)),
    "half": replace(DEBUG, every=2),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list:
    folder = tmp_path_factory.mktemp("set")
    write_fake_set(folder, 4)
    return list_rows(folder)


def test_variants_differ_from_the_base_in_one_thing() -> None:
    base = vars(VARIANTS["base"])
    for name, config in VARIANTS.items():
        changed = [field for field in base if getattr(config, field) != base[field]]
        assert len(changed) == (name != "base"), name


def test_one_query_is_told_by_words_what_to_outline(rows: list) -> None:
    torch.manual_seed(0)
    net = MiniAffordanceVLM(SMALL["one query"].model).eval()
    two = MiniAffordanceVLM(DEBUG.model)
    assert net.queries.shape[0] == 1
    assert sum(p.numel() for p in net.parameters()) < sum(p.numel() for p in two.parameters())
    scene = scenes_of(rows, 64)[0]
    features = net.encode(scene.image, scene.geometry)
    words = ["the mug", "the hammer", "the ball"]
    logits, match = ask(net, features, words, torch.tensor([0, 1, 2]), 2)
    assert logits.shape == (2, 2, 16, 16)
    assert match.shape == (3,)
    assert not torch.allclose(logits[:, 0], logits[:, 1])
    Trainer(SMALL["one query"], Path()).train_step(rows, 0.0)


def test_text_styles_follow_their_shares() -> None:
    functional = {text for texts in phrases()["train"].values() for text in texts}
    rng = np.random.default_rng(0)
    names = [TextPool((1.0, 0.0, 0.0)).draw(rng, "mug", "red", "handle").words for _ in range(60)]
    uses = [TextPool((0.0, 0.0, 1.0)).draw(rng, "mug", "red", "handle").words for _ in range(60)]
    assert not functional.intersection(names)
    assert functional.intersection(uses)


def test_what_is_asked_does_not_depend_on_the_variant(rows: list) -> None:
    for one, other in zip(scenes_of(rows, 64), scenes_of(rows, 64), strict=True):
        assert [q.texts for q in one.questions] == [q.texts for q in other.questions]
        assert torch.equal(one.image, other.image)
    net = MiniAffordanceVLM(DEBUG.model).eval()
    answers = score(net, scenes_of(rows, 64))
    assert set(answers) == set(STYLES)
    for style in STYLES:
        assert len(answers[style]["iou"]) == len(answers[style]["right"]) > 0
        assert all(0 <= iou <= 1 for iou in answers[style]["iou"])


def test_a_run_goes_on_where_it_stopped(
    rows: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ablations.jsonl"
    run(SMALL, [0], 2, rows, rows, out)
    lines = finished(out)
    assert [(line["variant"], line["seed"]) for line in lines] == [(name, 0) for name in SMALL]
    assert [line["pictures"] for line in lines] == [4, 4, 2]
    out.write_text("\n".join(json.dumps(line) for line in lines if line["variant"] != "one query") + "\n")
    trained = []
    train = ablations.train
    monkeypatch.setattr(ablations, "train", lambda config, *rest: trained.append(config) or train(config, *rest))
    run(SMALL, [0], 2, rows, rows, out)
    assert trained == [SMALL["one query"]]
    again = finished(out)[-1]
    assert again["answers"] == lines[1]["answers"]  # the same seed, the same network
    text = "\n".join(table(finished(out)))
    assert text.count("| one query | 1 |") == len(STYLES)
    with pytest.raises(AffordAgentError, match="another --out"):
        run(SMALL, [1], 3, rows, rows, out)


def test_gains_are_paired_by_question() -> None:
    base = {"picture": [0, 0, 1], "right": [1, 0, 1], "iou": [0.5, 0.4, 0.3], "thin": [1, 0, 1]}
    better = base | {"iou": [0.6, 0.5, 0.4]}
    lines = [
        {"variant": name, "seed": 0, "answers": dict.fromkeys(STYLES, answers)}
        for name, answers in (("base", base), ("better", better))
    ]
    assert [round(float(values(base, m)[0].mean()), 3) for m in MEASURES] == [0.667, 0.4, 0.4, 0.267]
    row = next(line for line in table(lines) if line.startswith("| better"))
    assert "+0.100 [+0.100, +0.100]" in row
