"""LLaVA and SAM put together to what training begins with."""

import json

import pytest
import torch

from affordagent.agent.cli import main
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.checkpoint import load_network, open_checkpoint
from affordagent.finetune.vlm.start import put_together
from affordagent.finetune.vlm.tiny import write_tiny_vlm
from affordagent.finetune.vlm.weights import read_weights, write_weights

SAM = "model.visual_model."


@pytest.fixture
def parts(tmp_path):
    """(LLaVA's folder, SAM's file, tower), taken out of a whole model; LLaVA knows <im_start> and <im_end> alone."""
    ckpt, tower = write_tiny_vlm(tmp_path)
    whole = {k: w.clone() for k, w in read_weights(ckpt).items()}
    added = json.loads((ckpt / "added_tokens.json").read_text())
    words = min(added.values())
    (ckpt / "added_tokens.json").write_text(json.dumps({"<im_start>": words, "<im_end>": words + 1}))
    torch.save({k.removeprefix(SAM): w for k, w in whole.items() if k.startswith(SAM)}, tmp_path / "sam.pth")
    llava = {k: w for k, w in whole.items() if not k.startswith((SAM, "model.text_hidden_fcs"))}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        llava[name] = llava[name][: words + 2].half()
    (ckpt / "pytorch_model.bin").unlink()
    write_weights(llava, ckpt, "pytorch_model.bin")
    return ckpt, tmp_path / "sam.pth", tower


def test_parts_make_a_model_that_can_be_trained(parts, tmp_path):
    llava, sam, tower = parts
    assert main(["start-vlm", "--llava", str(llava), "--sam", str(sam), "--out", str(tmp_path / "new")]) == 0
    opened = open_checkpoint(tmp_path / "new", tower)
    added = opened.tokens.added
    assert sorted(added, key=added.__getitem__) == ["<im_start>", "<im_end>", "[SEG]", "[AFF]"]
    assert opened.shape.llama.vocab_size == len(opened.tokens)
    before, after = read_weights(llava), opened.weights
    assert torch.equal(after["lm_head.weight"][:-2], before["lm_head.weight"])
    assert 0 < after["lm_head.weight"][-2:].float().std() < 0.1
    whole = torch.load(sam, weights_only=True)
    assert all(torch.equal(after[SAM + k], w) for k, w in whole.items())
    network = load_network(opened, torch.float32, torch.device("cpu"))
    assert network.model.text_hidden_fcs[0][2].weight.shape == (32, 32)
    put_together(llava, sam, tmp_path / "again")
    again = read_weights(tmp_path / "again")
    assert all(torch.equal(again[k], w) for k, w in after.items())


def test_parts_that_are_not(parts, tmp_path):
    llava, sam, tower = parts
    with pytest.raises(AffordAgentError, match="not empty"):
        put_together(llava, sam, llava)
    with pytest.raises(AffordAgentError, match="not a Segment Anything checkpoint"):
        put_together(llava, tower / "pytorch_model.bin", tmp_path / "new")
    with pytest.raises(AffordAgentError, match="cannot be read"):
        put_together(llava, tmp_path / "none.pth", tmp_path / "new")
    with pytest.raises(AffordAgentError, match="lacks lm_head.weight"):
        put_together(tower, sam, tmp_path / "new")
    assert not (tmp_path / "new").exists()
