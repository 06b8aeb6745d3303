"""Training of AffordanceVLM on a tiny network: what learns, resuming, exporting."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.core.overlap import overlap
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import write_parquet
from affordagent.finetune.vlm import train_args
from affordagent.finetune.vlm.checkpoint import load_network, open_checkpoint
from affordagent.finetune.vlm.collate import TrainingExamples, collate
from affordagent.finetune.vlm.config import config_named
from affordagent.finetune.vlm.export import export, merged_network
from affordagent.finetune.vlm.lora import add_adapters_, trained_weights
from affordagent.finetune.vlm.losses import training_losses
from affordagent.finetune.vlm.mixture import Mixture
from affordagent.finetune.vlm.predictor import VlmPredictor
from affordagent.finetune.vlm.run_folder import WEIGHTS, RunFolder, read_position, read_trained
from affordagent.finetune.vlm.tiny import write_tiny_vlm
from affordagent.finetune.vlm.train import LOSSES, Task, train
from affordagent.finetune.vlm.validate import drawn, rows_to_validate

DEBUG = config_named("debug")
REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "affordancevlm_tiny"
LEARNS = ("lora_", "lm_head", "embed_tokens", "mask_decoder", "text_hidden_fcs")


def write_rows(folder: Path, count: int) -> Path:
    """Pictures with one bright block each, asked for by name."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        image = rng.integers(0, 70, (48, 64, 3), dtype=np.uint8)
        mask = np.zeros((48, 64), bool)
        top, left = 4 + 12 * (number % 2), 6 + 16 * number
        mask[top : top + 22, left : left + 26] = True
        image[mask] = (60, 90, 240)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        name = ("mug", "pan", "knife", "kettle")[number]
        text = f"What is the affordance map of {name} in this image?"
        rows.append(Sample(str(folder / f"{number}.png"), text, mask_rle=encode_rle(mask), category=name, source="own"))
    write_parquet(rows, folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_vlm(tmp_path_factory.mktemp("base"), global_blocks=())[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    return write_rows(tmp_path_factory.mktemp("data") / "set", 2)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, base, rows) -> Path:
    """The debug run from its first step to its last."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    position = train(Task(DEBUG, base, (rows,), out, val=(rows,)))
    assert (position.step, position.drawn) == (4, 8)
    return out


@pytest.fixture(scope="module")
def resumed(tmp_path_factory, base, rows) -> Path:
    """The same in two goes."""
    out = tmp_path_factory.mktemp("runs") / "resumed"
    task = Task(DEBUG, base, (rows,), out, val=(rows,))
    assert train(task, stop_after=2).step == 2
    assert train(task, resume=True).step == 4
    return out


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run / "logs")).Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_resumed_run_is_the_run_that_was_not_cut(straight, resumed):
    one, two = logged(straight), logged(resumed)
    assert one.keys() == two.keys()
    for name in [f"train/{part}" for part in LOSSES] + ["train/lr", "val/rows/giou", "val/rows/ciou"]:
        assert one[name] == two[name], name
    assert [step for step, _ in one["train/total"]] == [1, 2, 3, 4]
    assert [step for step, _ in one["val/rows/giou"]] == [2, 4]
    weights = [read_trained(RunFolder(run).newest() / WEIGHTS) for run in (straight, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert read_position(RunFolder(straight).newest()) == read_position(RunFolder(resumed).newest())


def test_the_log_holds_pictures_of_masks(straight):
    events = EventAccumulator(str(straight / "logs")).Reload()
    assert events.Tags()["images"] == ["val/rows/0", "val/rows/1"]
    picture = cv2.imdecode(np.frombuffer(events.Images("val/rows/0")[0].encoded_image_string, np.uint8), 1)
    assert picture.shape == (48, 64, 3)


def test_only_the_newest_checkpoint_stays_and_it_holds_what_is_trained(straight, base):
    folder = RunFolder(straight)
    assert [p.name for p in (straight / "checkpoints").iterdir()] == ["step_000004"]
    assert not list(straight.rglob("*.part"))
    weights = read_trained(folder.newest() / WEIGHTS)
    assert all(any(part in name for part in LEARNS) for name in weights)
    first = open_checkpoint(base).weights
    for name in ("lm_head.weight", "model.embed_tokens.weight", "model.text_hidden_fcs.0.0.weight"):
        assert not torch.equal(weights[name], first[name]), name


def test_a_draft_that_was_cut_is_not_taken_for_a_checkpoint(straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    (run / "checkpoints" / "step_000009.part").mkdir()
    assert RunFolder(run).newest().name == "step_000004"


def test_a_run_goes_on_only_as_it_began(straight, base, rows, tmp_path):
    task = Task(DEBUG, base, (rows,), straight, val=(rows,))
    with pytest.raises(AffordAgentError, match="holds a run; add --resume"):
        train(task)
    with pytest.raises(AffordAgentError, match="holds another run .config was .*learning_rate"):
        train(replace(task, config=replace(DEBUG, learning_rate=1.0)), resume=True)
    with pytest.raises(AffordAgentError, match="no run to resume"):
        train(replace(task, out=tmp_path / "new"), resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").touch()
    with pytest.raises(AffordAgentError, match="is not empty and holds no run"):
        train(replace(task, out=tmp_path / "full"))


@pytest.fixture
def network_and_batch(base, rows):
    from affordagent.finetune.data.table import read_samples

    opened = open_checkpoint(base)
    network = load_network(opened, torch.float32, torch.device("cpu"))
    examples = TrainingExamples(Mixture(read_samples(rows), {"affordance": 1}, {}, seed=0), opened.tokens, 512)
    return network, collate([examples[0], examples[1]], opened.tokens.unk)


def test_gradients_reach_what_is_trained_and_nothing_else(network_and_batch):
    network, batch = network_and_batch
    torch.manual_seed(0)
    add_adapters_(network, DEBUG)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == any(part in name for part in LEARNS), name
    adapted = {name.split(".lora_")[0] for name, _ in network.named_parameters() if "lora_" in name}
    assert adapted == {f"model.layers.{n}.self_attn.{q}_proj" for n in range(2) for q in "qv"}

    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
    for _ in range(2):  # LoRA's A moves once its B is not 0
        training_losses(network.train()(**batch.inputs()), batch.masks, DEBUG).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in network.named_parameters() if not torch.equal(p, before[name])}
    # the decoder guesses its own IoU and makes three more masks, which nothing is asked of
    idle = ("iou_prediction_head", "hypernetworks_mlps.1", "hypernetworks_mlps.2", "hypernetworks_mlps.3")
    expected = {n for n, p in network.named_parameters() if p.requires_grad and not any(part in n for part in idle)}
    assert moved == expected


def test_checkpointed_layers_give_the_same_gradients(network_and_batch):
    network, batch = network_and_batch
    add_adapters_(network, replace(DEBUG, lora_dropout=0.0))
    gradients = []
    for remember in (True, False):
        if not remember:
            network.model.gradient_checkpointing_enable({"use_reentrant": False})
        training_losses(network.train()(**batch.inputs()), batch.masks, DEBUG).total.backward()
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None})
        network.zero_grad()
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(g, gradients[1][n], atol=1e-6) for n, g in gradients[0].items())


@pytest.mark.parametrize("form", ["published", "safetensors"])
def test_an_exported_model_answers_as_the_merged_one(form, straight, base, rows, tmp_path):
    tower = base.parent / "vision_tower"
    assert export(straight, tmp_path / "model", form) == "best.safetensors"
    saved = VlmPredictor(tmp_path / "model", tower)
    merged = VlmPredictor(base, tower)
    merged.network = merged_network(straight)[0]
    image = cv2.imread(str(rows.parent / "0.png"))[..., ::-1].copy()
    question = "What is the affordance map of mug in this image?"
    one, two = (model.answer(image, question, max_new_tokens=6) for model in (saved, merged))
    assert np.array_equal(one.output_ids, two.output_ids)
    one, two, first = (
        model.teacher_forced(image, question, "It is [AFF].") for model in (saved, merged, VlmPredictor(base, tower))
    )
    assert np.array_equal(one.mask_logits, two.mask_logits)
    assert not np.allclose(one.mask_logits, first.mask_logits, atol=1e-3)  # it learned something


def test_merging_changes_nothing(straight, base, network_and_batch):
    from affordagent.finetune.vlm.lora import load_trained_, merge_adapters_

    network, batch = network_and_batch
    tuner = add_adapters_(network, DEBUG)
    load_trained_(network, RunFolder(straight).weights_to_export()[0])
    with torch.no_grad():
        apart = network.eval()(**batch.inputs())
        merged = merge_adapters_(tuner)
        together = merged(**batch.inputs())
    assert torch.allclose(apart.logits, together.logits, atol=1e-5)
    assert "lora_" not in "".join(merged.state_dict())
    assert len(trained_weights(merged.state_dict())) > 0


def test_export_needs_a_run_with_a_checkpoint(base, tmp_path, straight):
    with pytest.raises(AffordAgentError, match="is not the folder of a training run"):
        export(tmp_path, tmp_path / "out", "published")
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(straight / "run.json", run)
    with pytest.raises(AffordAgentError, match="has no checkpoint yet"):
        export(run, tmp_path / "out", "published")


def test_the_command_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(train_args, "PACKAGES", ("no_such_package",))
    command = ["train-vlm", "--base", "b", "--data", "d.parquet", "--out", str(tmp_path / "run")]
    assert main(command) == 2
    assert "training needs no_such_package: pip install 'affordagent[train]'" in capsys.readouterr().err


def test_rows_without_a_mask_are_not_validated():
    rows = [Sample("a", "q", mask="m"), Sample("b", "q"), Sample("c", "q", answer="x", kind="vqa")]
    assert rows_to_validate(rows) == rows[:1]


def test_a_drawing_shows_prediction_and_truth():
    image = np.zeros((40, 40, 3), np.uint8)
    predicted, truth = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    predicted[:8, :8] = truth[20:35, 20:35] = True
    out = drawn(image, predicted, truth)
    assert out[2, 2].tolist() == [22, 110, 49]
    assert out[20, 27].tolist() == [255, 220, 0]
    assert out[27, 27].tolist() == [0, 0, 0]
    assert not image.any()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_small_set_is_learned_by_heart(base, tmp_path, precision):
    rows = write_rows(tmp_path / "set", 2)
    config = replace(
        DEBUG, epochs=1, steps_per_epoch=60, micro_batch=2, accumulate=1, learning_rate=1e-2, warmup_steps=5,
        save_steps=60, precision=precision, gradient_checkpointing=precision == "bf16",
    )  # fmt: skip
    train(Task(config, base, (rows,), tmp_path / "run", val=(rows,)))
    log = logged(tmp_path / "run")
    for name, share in (("ce", 0.2), ("bce", 0.3), ("dice", 0.6)):  # words keep the doubt which of five answers it is
        values = [value for _, value in log[f"train/{name}"]]
        assert np.mean(values[-5:]) < share * np.mean(values[:5]), name
    network, opened, _ = merged_network(tmp_path / "run", dtype="fp32")
    predictor, before = VlmPredictor(base), VlmPredictor(base)
    predictor.network = network
    ious = {}
    for name, model in (("after", predictor), ("before", before)):
        ious[name] = []
        for number, thing in enumerate(("mug", "pan")):
            image = cv2.imread(str(tmp_path / "set" / f"{number}.png"))[..., ::-1].copy()
            answer = model.teacher_forced(image, f"What is the affordance map of {thing} in this image?", "[AFF].")
            ious[name].append(overlap(answer.masks[0], image[..., 0] > 200).iou)
    assert min(ious["after"]) > 0.7
    assert max(ious["before"]) < 0.4


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no tiny published checkpoint at {REFERENCE}")
def test_the_debug_run_trains_a_checkpoint_of_the_authors_code(rows, tmp_path):
    task = Task(DEBUG, REFERENCE / "ckpt", (rows,), tmp_path / "run")
    train(task, stop_after=2)
    train(task, resume=True, stop_after=1)
    export(tmp_path / "run", tmp_path / "model", "published")
    saved = VlmPredictor(tmp_path / "model", REFERENCE / "vision_tower")
    image = cv2.imread(str(rows.parent / "1.png"))[..., ::-1].copy()
    assert len(saved.teacher_forced(image, "What is it?", "It is [AFF].").masks) == 1
