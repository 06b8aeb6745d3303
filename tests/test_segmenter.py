"""SAM 2 from boxes and points, from the hub's weights and from Meta's own checkpoints."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
from test_grounded_sam2 import SIZE, Rogue, picture
from tiny_grounded_sam2 import write_sam2

from affordagent.core.errors import AffordAgentError
from affordagent.tools.segmenter import STEM, Prompt, Segmenter, config_of, read_pt

PROMPTS = [
    Prompt((40, 30, 100, 90)),
    Prompt(point=(50, 50)),
    Prompt((40, 30, 100, 90), (90, 60)),
    Prompt((5, 5, 30, 30)),
]


def stem_of(width: int, blocks: int, newer: bool) -> dict[str, torch.Tensor]:
    """What tells Meta's checkpoints apart."""
    weights = {STEM: torch.zeros(width, 3, 7, 7)}
    weights |= {f"image_encoder.trunk.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(blocks)}
    return weights | ({"obj_ptr_tpos_proj.weight": torch.zeros(1)} if newer else {})


def test_prompts_of_all_kinds_in_their_order(tmp_path):
    segmenter = Segmenter(str(write_sam2(tmp_path / "sam2")))
    masks, iou = segmenter.segment(picture(), PROMPTS)
    assert masks.shape == (4, *SIZE)
    assert ((iou > 0) & (iou < 1)).all()
    for i, prompt in enumerate(PROMPTS):
        alone, quality = segmenter.segment(picture(), [prompt])
        assert (alone[0] == masks[i]).mean() > 0.999
        assert quality[0] == pytest.approx(iou[i], abs=1e-4)
    assert (masks[0] != masks[2]).any()  # the point says more than the box


@pytest.mark.parametrize(
    ("width", "blocks", "newer", "config"),
    [
        (96, 12, True, "configs/sam2.1/sam2.1_hiera_t.yaml"),
        (96, 16, False, "configs/sam2/sam2_hiera_s.yaml"),
        (112, 24, True, "configs/sam2.1/sam2.1_hiera_b+.yaml"),
        (144, 48, False, "configs/sam2/sam2_hiera_l.yaml"),
    ],
)
def test_the_weights_say_which_model_they_are_of(tmp_path, width, blocks, newer, config):
    torch.save({"model": stem_of(width, blocks, newer)}, tmp_path / "renamed.pt")
    assert config_of(read_pt(tmp_path / "renamed.pt"), tmp_path / "renamed.pt") == config


def test_what_is_no_checkpoint_of_sam2_is_refused(tmp_path, monkeypatch):
    (tmp_path / "rogue.pt").write_bytes(pickle.dumps({"model": Rogue()}))
    torch.save({"model": stem_of(64, 12, True)}, tmp_path / "small.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save({"model": stem_of(96, 12, True)}, tmp_path / "right.pt")
    for name, complaint in (
        ("none.pt", "hf download facebook/sam2.1-hiera-tiny"),
        ("rogue.pt", "would run code"),
        ("small.pt", "width 64 with 12 blocks is none of Meta's"),
        ("tensor.pt", "no checkpoint of SAM 2"),
    ):
        with pytest.raises(AffordAgentError, match=complaint):
            Segmenter(str(tmp_path / name))
    for module in ("sam2", "sam2.build_sam"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AffordAgentError, match=r"affordagent\[sam2\]"):
        Segmenter(str(tmp_path / "right.pt"))


@pytest.mark.slow
def test_metas_own_checkpoint(tmp_path):
    """The full tiny model with random weights: Meta publishes no smaller one, and its predictor takes no other size."""
    pytest.importorskip("sam2", reason="Meta's code is not installed: the extra sam2")
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    torch.manual_seed(0)
    model = build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": model.state_dict()}, path)
    masks, iou = Segmenter(str(path)).segment(picture(), PROMPTS)
    assert masks.shape == (4, *SIZE)
    assert masks.dtype == bool
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(picture())
    alone, quality, _ = predictor.predict(box=np.array(PROMPTS[0].box), multimask_output=False)
    assert ((alone[0] > 0) == masks[0]).mean() > 0.999
    assert quality[0] == pytest.approx(iou[0], abs=1e-4)
    alone, quality, _ = predictor.predict(np.array([PROMPTS[1].point]), np.array([1]), multimask_output=True)
    assert ((alone[quality.argmax()] > 0) == masks[1]).mean() > 0.999
    weights = model.state_dict()
    weights.pop("sam_mask_decoder.iou_token.weight")
    torch.save({"model": weights}, path)
    with pytest.raises(AffordAgentError, match="iou_token"):
        Segmenter(str(path))
