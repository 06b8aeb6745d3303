"""The published model below float32: quantised, tried before use, refused where it is blank."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.predictor import VlmPredictor
from affordagent.finetune.vlm.tiny import write_tiny_vlm

REFERENCE = Path(__file__).parents[1].parent / "shared" / "data" / "affordancevlm_tiny"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference outputs at {REFERENCE}")


def case(name: str) -> tuple[np.ndarray, dict, dict]:
    rows = json.loads((REFERENCE / "reference" / "reference.json").read_text())["cases"]
    row = next(r for r in rows if r["id"] == name)
    image = np.array(Image.open(REFERENCE / "inputs" / row["image"]).convert("RGB"))
    return image, row, dict(np.load(REFERENCE / "reference" / f"{name}.npz"))


@needs_reference
@pytest.mark.parametrize(
    ("options", "furthest"),
    [({"dtype": "bf16"}, 0.08), ({"load_in": "8bit"}, 0.02), ({"load_in": "4bit", "dtype": "bf16"}, 0.12)],
)
def test_reduced_precision_says_the_same(options, furthest):
    if "load_in" in options:
        pytest.importorskip("bitsandbytes")
    image, row, expected = case("a0")
    answer = VlmPredictor(REFERENCE / "ckpt", **options).answer(image, row["question"])
    assert np.array_equal(answer.output_ids, expected["output_ids"])
    assert answer.mask_logits.dtype == np.float32
    assert 0 < np.abs(answer.mask_logits - expected["pred_masks"]).max() < furthest
    overlap = (answer.masks & (expected["pred_masks"] > 0)).sum() / (answer.masks | (expected["pred_masks"] > 0)).sum()
    assert overlap > 0.9


def test_only_the_language_models_layers_are_quantised(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    network = VlmPredictor(*write_tiny_vlm(tmp_path), load_in="4bit").network
    quantised = {name for name, m in network.named_modules() if isinstance(m, bitsandbytes.nn.Linear4bit)}
    assert len(quantised) == 2 * 7
    assert all(name.startswith("model.layers.") for name in quantised)


def test_bitsandbytes_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AffordAgentError, match=r"pip install 'affordagent\[quantized\]'"):
        VlmPredictor(*write_tiny_vlm(tmp_path), load_in="8bit")


def test_self_test_refuses_blank_masks(tmp_path):
    predictor = VlmPredictor(*write_tiny_vlm(tmp_path), dtype="bf16")  # passes
    head = predictor.network.model.visual_model.mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    head.weight.zero_()
    head.bias.zero_()
    with pytest.raises(AffordAgentError, match="bfloat16 answers with blank masks; try dtype fp32"):
        predictor.self_test()
    head.bias[0] = torch.nan
    with pytest.raises(AffordAgentError, match="not finite"):
        predictor.self_test()


@pytest.mark.parametrize(("option", "value"), [("dtype", "int8"), ("device", "abacus"), ("device", "cuda:7")])
def test_unknown_precision_or_device(tmp_path, option, value):
    with pytest.raises(AffordAgentError, match=value):
        VlmPredictor(tmp_path, **{option: value})
