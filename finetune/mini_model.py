"""A small AffordanceVLM: picture crop + words -> the part to hold.

EfficientNet-Lite0 sees the crop, frozen MiniLM reads the words. Two learned queries, [AFF] (the part) and [SEG] (the
whole object), look at both through a two-way transformer after SAM's mask decoder, and each becomes a filter over a
feature pyramid at stride 4. Geometry (the proposal's mask, height above the table, relative depth) enters the pyramid
by its own small stem and may be absent (all zeros). A CLIP-like head compares crops with words to pick the object.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from affordagent.core.embedded import lite0_weights

GEOMETRY_CHANNELS = 5  # proposal mask, height, relative depth, depth is valid, crop size
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1")


@dataclass(frozen=True)
class MiniConfig:
    """width: of the tokens; pyramid: channels at stride 4; depth: two-way blocks; embedding: of the pick head; queries:
    2 = [AFF] and [SEG], 1 = one for both (an ablation: the words alone say which of the two is meant)."""

    width: int = 160
    pyramid: int = 48
    depth: int = 2
    embedding: int = 128
    queries: int = 2

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Features:
    """Maps of B crops. f4, f8, f16, f32: the trunk's; g4, g8, g16: the geometry stem's, at the same strides."""

    f4: Tensor
    f8: Tensor
    f16: Tensor
    f32: Tensor
    g4: Tensor
    g8: Tensor
    g16: Tensor
    proposal16: Tensor  # (B, 1, h/16, w/16) share of the cell that the proposal covers


@dataclass(frozen=True)
class Decoded:
    """queries: (Q, 2, width) of [AFF] and [SEG], or (Q, 1, width); grid: (Q, width, h/16, w/16); match: (Q,) logit that
    the words mean the crop's object."""

    queries: Tensor
    grid: Tensor
    match: Tensor


def grid_positions(height: int, width: int, channels: int) -> Tensor:
    """(height * width, channels) sines and cosines of the cell centres; channels divisible by 4."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    rate = (2 ** torch.arange(channels // 4, dtype=torch.float32) * math.pi / 2).clamp(max=64)
    waves = [wave(axis[..., None] * rate) for axis in (y, x) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, -1).reshape(height * width, -1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, key_valid: Tensor | None = None) -> Tensor:
        """query (Q, n, width), key and value (Q, m, width), key_valid (Q, m) bool -> (Q, n, width)."""

        def split(x: Tensor) -> Tensor:
            return x.view(len(x), x.shape[1], self.heads, -1).transpose(1, 2)

        mask = None if key_valid is None else key_valid[:, None, None]
        q, k, v = split(self.q(query)), split(self.k(key)), split(self.v(value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).reshape(query.shape))


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and the picture, the picture attends to the tokens, then mixes locally."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attention, self.to_picture, self.to_tokens = (Attention(width) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.local = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, picture: Tensor, position: Tensor, valid: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        tokens = self.norms[0](tokens + self.self_attention(tokens, tokens, tokens, valid))
        key = picture + position
        tokens = self.norms[1](tokens + self.to_picture(tokens, key, picture))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        picture = self.norms[3](picture + self.to_tokens(key, tokens, tokens, valid))
        local = self.local(picture.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)
        return tokens, self.norms[4](picture + self.mix(F.gelu(local)))


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _fuse(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    return nn.Sequential(nn.GroupNorm(8, channels), nn.GELU(), conv, nn.GroupNorm(8, channels), nn.GELU())


class MiniAffordanceVLM(nn.Module):
    """See the module. Crops are square, their side divisible by 32."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: MiniConfig, pretrained: bool = True) -> None:
        """pretrained: start from the ImageNet weights; False when a checkpoint is loaded next."""
        super().__init__()
        self.config = config
        width, c4 = config.width, config.pyramid
        self.trunk = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
        )
        if pretrained:
            self.trunk.load_state_dict(lite0_weights(), strict=False)
        for name, parameter in self.trunk.named_parameters():
            parameter.requires_grad_(not name.startswith(FROZEN))
        self.geometry4 = nn.Sequential(nn.Conv2d(GEOMETRY_CHANNELS, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 16, 3, 1, 1))
        self.geometry8 = nn.Sequential(nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1))
        self.geometry16 = nn.Sequential(nn.GELU(), nn.Conv2d(32, 48, 3, 2, 1))
        self.lateral32, self.lateral16 = nn.Conv2d(320, width, 1), nn.Conv2d(112 + 48, width, 1)
        self.lateral8, self.lateral4 = nn.Conv2d(40 + 32, 64, 1), nn.Conv2d(24 + 16, c4, 1)
        self.words = nn.Sequential(nn.Linear(384, width), nn.LayerNorm(width))
        self.sentence = nn.Linear(384, width)
        self.queries = nn.Parameter(torch.randn(config.queries, width) * 0.1)
        self.position = nn.Linear(width // 4 * 4, width, bias=False)
        self.blocks = nn.ModuleList(TwoWayBlock(width) for _ in range(config.depth))
        self.down16, self.fuse8 = nn.Conv2d(width, 64, 1), _fuse(64)
        self.down8, self.fuse4 = nn.Conv2d(64, c4, 1), _fuse(c4)
        self.last4 = nn.Conv2d(c4, c4, 1)
        self.filters = nn.ModuleList(_mlp(width, width, c4 + 1) for _ in range(config.queries))
        self.match = _mlp(width, width, 1)
        self.crop_head = _mlp(2 * (112 + 320) + 48, 256, config.embedding)
        self.text_head = _mlp(384, 256, config.embedding)
        self.similarity = nn.Parameter(torch.tensor([math.log(10.0), -4.0]))  # log scale, bias
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255, persistent=False)

    def train(self, mode: bool = True) -> MiniAffordanceVLM:
        """Batch norms stay frozen: batches are small and crops are not like ImageNet's."""
        super().train(mode)
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def encode(self, image: Tensor, geometry: Tensor) -> Features:
        """image: (B, 3, n, n) uint8 or float 0..255 RGB; geometry: (B, 5, n/2, n/2) float32, zeros = not known."""
        normal = ((image.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        f4, f8, f16, f32 = self.trunk(normal)
        g4 = self.geometry4(geometry)
        g8 = self.geometry8(g4)
        proposal16 = F.adaptive_avg_pool2d(geometry[:, :1], f16.shape[-2:])
        return Features(f4, f8, f16, f32, g4, g8, self.geometry16(g8), proposal16)

    def embed_crops(self, features: Features) -> Tensor:
        """(B, embedding) unit vectors: the crop as a whole, and the proposal's own cells (the whole without one)."""
        weight = features.proposal16 + 1e-3
        f32 = F.interpolate(features.f32, size=features.f16.shape[-2:], mode="nearest")
        both = torch.cat([features.f16, f32], 1)
        whole = both.mean((2, 3))
        own = (both * weight).sum((2, 3)) / weight.sum((2, 3))
        return F.normalize(self.crop_head(torch.cat([whole, own, features.g16.mean((2, 3))], 1)), dim=1)

    def embed_texts(self, sentences: Tensor) -> Tensor:
        """(N, 384) unit sentence embeddings -> (N, embedding) unit vectors."""
        return F.normalize(self.text_head(sentences * 8), dim=1)

    def similarities(self, crops: Tensor, texts: Tensor) -> Tensor:
        """(B, N) logits that a text means a crop."""
        return crops @ texts.T * self.similarity[0].exp() + self.similarity[1]

    def decode(self, features: Features, tokens: Tensor, valid: Tensor, crop: Tensor) -> Decoded:
        """Q texts looking at the crops of index `crop` (Q,). tokens: (Q, T, 384), valid: (Q, T) bool."""
        size = (features.f16.shape[-2], features.f16.shape[-1])
        coarse = F.interpolate(self.lateral32(features.f32), size=size, mode="nearest")
        base = self.lateral16(torch.cat([features.f16, features.g16], 1)) + coarse
        picture = base.flatten(2).transpose(1, 2)[crop]
        position = self.position(grid_positions(*size, self.config.width // 4 * 4))[None]
        weight = valid[..., None].float()
        pooled = self.sentence(F.normalize((tokens * weight).sum(1) / weight.sum(1), dim=1) * 8)
        state = torch.cat([self.queries[None] + pooled[:, None], self.words(tokens)], 1)
        count = self.config.queries
        valid = F.pad(valid, (count, 0), value=True)
        for block in self.blocks:
            state, picture = block(state, picture, position, valid, size)
        grid = picture.transpose(1, 2).unflatten(2, size)
        return Decoded(state[:, :count], grid, self.match(state[:, count - 1])[:, 0])

    def masks(self, features: Features, decoded: Decoded, crop: Tensor) -> Tensor:
        """(Q, 2, n/4, n/4) logits: part, object; (Q, 1, n/4, n/4) of what the words ask for with one query."""
        fine8 = self.lateral8(torch.cat([features.f8, features.g8], 1))
        fine4 = self.lateral4(torch.cat([features.f4, features.g4], 1))
        y = F.interpolate(self.down16(decoded.grid), size=fine8.shape[-2:], mode="bilinear") + fine8[crop]
        y = self.fuse8(y)
        y = F.interpolate(self.down8(y), size=fine4.shape[-2:], mode="bilinear") + fine4[crop]
        y = self.last4(self.fuse4(y))
        weights = torch.stack([head(decoded.queries[:, i]) for i, head in enumerate(self.filters)], 1)
        logits = torch.einsum("qkc,qchw->qkhw", weights[..., :-1], y) / math.sqrt(y.shape[1])
        return logits + weights[..., -1, None, None] - 2
