"""LLaVA and SAM put together as the model that training begins with."""

import json

import pytest
import torch
from tiny_vlm import write_tiny_vlm

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import open_checkpoint
from affordagent.finetune.vlm.start import make_base
from affordagent.finetune.vlm.weights import TORCH, read_weights, write_weights

SAM = "model.visual_model."


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A LLaVA that knows <im_start> and <im_end> but not the tokens of masks, a SAM file, a tower, all weights."""
    root = tmp_path_factory.mktemp("parts")
    ckpt, tower = write_tiny_vlm(root / "whole")
    weights = read_weights(ckpt)
    added = json.loads((ckpt / "added_tokens.json").read_text())
    words = min(added.values())
    llava = root / "llava"
    llava.mkdir()
    (llava / "tokenizer.model").write_bytes((ckpt / "tokenizer.model").read_bytes())
    (llava / "added_tokens.json").write_text(json.dumps({"<im_start>": words, "<im_end>": words + 1}))
    config = json.loads((ckpt / "config.json").read_text())
    (llava / "config.json").write_text(json.dumps(config | {"architectures": ["LlavaLlamaForCausalLM"]}))
    kept = {k: w for k, w in weights.items() if not k.startswith((SAM, "model.text_hidden_fcs"))}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        kept[name] = kept[name][: words + 2].clone()
    write_weights(kept, llava, TORCH)
    torch.save({k.removeprefix(SAM): w.clone() for k, w in weights.items() if k.startswith(SAM)}, root / "sam.pth")
    return llava, root / "sam.pth", tower, weights, words


def test_the_base_opens_and_holds_what_was_given(parts, tmp_path):
    llava, sam, tower, weights, words = parts
    make_base(llava, sam, tmp_path / "base", dtype="fp32")
    opened = open_checkpoint(tmp_path / "base", tower)  # checks every name and size
    assert opened.tokens.added == {"<im_start>": words, "<im_end>": words + 1, "[SEG]": words + 2, "[AFF]": words + 3}
    assert opened.config["out_dim"] == 32
    for name, weight in opened.weights.items():
        if "text_hidden_fcs" in name:
            assert 0 < weight.abs().max() <= 32**-0.5
        elif name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(weight[: words + 2], weights[name][: words + 2])
            assert len(weight) == words + 4
            assert 0.005 < weight[words + 2 :].std() < 0.06
        else:
            assert torch.equal(weight, weights[name]), name


def test_new_weights_come_from_the_seed(parts, tmp_path):
    llava, sam, *_ = parts
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_base(llava, sam, tmp_path / name, seed=seed)
    a, b, c = (read_weights(tmp_path / name)["model.text_hidden_fcs.0.2.weight"] for name in "abc")
    assert a.dtype == torch.bfloat16
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_other_files_are_refused(parts, tmp_path):
    llava, sam, *_ = parts
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(AffordAgentError, match="is not SAM's own file"):
        make_base(llava, tmp_path / "other.pth", tmp_path / "out")
    with pytest.raises(AffordAgentError, match="cannot read|has no tokenizer.model"):
        make_base(tmp_path, sam, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(AffordAgentError, match="is not empty"):
        make_base(llava, sam, llava)
