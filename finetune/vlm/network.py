"""AffordanceVLM (RAGNet, ICCV 2025; built on LISA, CVPR 2024) with today's classes.

CLIP tower -> projector -> Llama -> text with [SEG] or [AFF]; the hidden state that predicted such a token -> a prompt
of SAM's mask decoder -> mask. Modules carry the published names, so the published state dict loads as it is; the CLIP
tower is `vision_tower.*` and is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel
from transformers.cache_utils import DynamicCache

from affordagent.finetune.vlm.conversation import IGNORE
from affordagent.finetune.vlm.tokens import IMAGE_ID

PATCHES = 256  # embeddings that stand in place of the picture's one id
DECODER_HEADS = 8


@dataclass(frozen=True)
class SamShape:
    """Sizes of the SAM part; every one can be read off its weights. windowed: size of the attention windows, tokens."""

    width: int = 1280
    depth: int = 32
    heads: int = 16
    mlp_width: int = 5120
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    window: int = 14
    patch_px: int = 16
    grid: int = 64
    prompt_width: int = 256
    mask_channels: int = 16
    decoder_depth: int = 2
    decoder_mlp_width: int = 2048
    decoder_inner_width: int = 128
    candidates: int = 3
    iou_width: int = 256
    iou_depth: int = 3


@dataclass(frozen=True)
class NetworkShape:
    """What a network is built from. mask_ids: ids of [SEG] and [AFF]. clip_layer: which hidden states of CLIP are read,
    counted from the end (-1 = last)."""

    llama: LlamaConfig
    clip: CLIPVisionConfig
    sam: SamShape
    mask_ids: tuple[int, int]
    clip_layer: int = -2


@dataclass(frozen=True)
class VlmOutput:
    """Results of a training step. logits: (B, L + 255, V). ce_loss: mean over the labelled tokens, None without labels.
    mask_logits: per row (n, H, W) float32 at the mask's size, in order of appearance."""

    logits: Tensor
    ce_loss: Tensor | None
    mask_logits: list[Tensor]


class MultimodalLlama(LlamaModel):
    """Llama's body with the parts the reference hangs onto it, under the reference's names."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape.llama)
        width = shape.llama.hidden_size
        self.mm_projector = nn.Linear(shape.clip.hidden_size, width)
        to_prompt = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, shape.sam.prompt_width), nn.Dropout(0.0))
        self.text_hidden_fcs = nn.ModuleList([nn.Sequential(*to_prompt)])
        self.visual_model = build_sam(shape.sam)


class AffordanceVlm(nn.Module):
    """The network. `finetune.vlm.checkpoint.load_network` fills it, `finetune.vlm.predictor` asks it."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.vision_tower = CLIPVisionModel(shape.clip)
        self.model = MultimodalLlama(shape)
        self.lm_head = nn.Linear(shape.llama.hidden_size, shape.llama.vocab_size, bias=False)

    @property
    def dtype(self) -> torch.dtype:
        """Of everything but quantised layers."""
        return self.lm_head.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    def encode_clip(self, pixels: Tensor) -> Tensor:
        """(B, 256, hidden) patch embeddings for the language model from (B, 3, 224, 224); no gradient to the tower."""
        with torch.no_grad():
            pixels = pixels.to(self.device, self.vision_tower.dtype)
            states = self.vision_tower(pixels, output_hidden_states=True).hidden_states
        projector = self.model.mm_projector
        return projector(states[self.shape.clip_layer][:, 1:].to(projector.weight.dtype))  # without the class token

    @torch.no_grad()
    def encode_sam(self, pixels: Tensor) -> Tensor:
        """(N, C, 64, 64) image embeddings from (N, 3, 1024, 1024), one picture at a time; no gradient."""
        encoder = self.model.visual_model.image_encoder
        pixels = pixels.to(self.device, encoder.neck[0].weight.dtype)
        return torch.cat([encoder(picture[None]) for picture in pixels])

    def embed(self, ids: Tensor, patches: Tensor) -> Tensor:
        """(B, L + 255, hidden): ids (B, L), each row with one -200, which its patches (B, 256, hidden) replace."""
        rows = []
        for row, picture in zip(ids, patches, strict=True):
            place = _image_place(row)
            before, after = self.model.embed_tokens(row[:place]), self.model.embed_tokens(row[place + 1 :])
            rows.append(torch.cat([before, picture, after]))
        return torch.stack(rows)

    def mask_positions(self, ids: Tensor) -> Tensor:
        """(n,) indices into the L + 255 hidden states for the [SEG] and [AFF] among ids (L,), in order of appearance.

        The reference's rule: the state *before* the token, which predicted it, counting the picture (one id, in front
        of the token) as 256. Prompt and answer are both searched.
        """
        found = torch.isin(ids[1:], torch.tensor(self.shape.mask_ids, device=ids.device))
        return found.nonzero()[:, 0] + (PATCHES - 1)

    def decode_masks(self, hidden: Tensor, image: Tensor) -> Tensor:
        """(n, 256, 256) mask logits of n hidden states (n, hidden) on one picture's SAM embedding (1, C, 64, 64)."""
        sam = self.model.visual_model
        if not len(hidden):
            side = 4 * self.shape.sam.grid
            return hidden.new_zeros(0, side, side)
        to_prompt, dtype = self.model.text_hidden_fcs[0], sam.mask_decoder.iou_token.weight.dtype
        prompts = to_prompt(hidden.to(next(to_prompt.parameters()).dtype))
        _, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
        masks, _ = sam.mask_decoder(
            image_embeddings=image.to(dtype),
            image_pe=self._positions().to(dtype),
            sparse_prompt_embeddings=prompts[:, None].to(dtype),  # n prompts of one token each
            dense_prompt_embeddings=dense.to(dtype),
            multimask_output=False,
        )
        return masks[:, 0]

    def _positions(self) -> Tensor:
        """SAM's dense position encoding, (1, C, 64, 64), in float32 whatever the network's dtype."""
        encoder = self.model.visual_model.prompt_encoder
        matrix = encoder.pe_layer.positional_encoding_gaussian_matrix.float()
        values = {"positional_encoding_gaussian_matrix": matrix}
        return torch.func.functional_call(encoder.pe_layer, values, (encoder.image_embedding_size,))[None]

    def upscale(self, masks: Tensor, resized: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """(n, H, W) float32 logits at the picture's size (H, W) from (n, 256, 256); resized: rows and columns of SAM's
        square that hold the picture."""
        if not len(masks):
            return masks.new_zeros((0, *size), dtype=torch.float32)
        return self.model.visual_model.postprocess_masks(masks[:, None].float(), resized, size)[:, 0]

    def forward(
        self,
        input_ids: Tensor,
        images_clip: Tensor,
        images_sam: Tensor,
        *,
        resized: list[tuple[int, int]],
        sizes: list[tuple[int, int]],
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        picture_of: Tensor | None = None,
    ) -> VlmOutput:
        """Teacher-forced pass over B conversations about N pictures, for training and validation.

        input_ids: (B, L) int64, each row one -200, short rows filled with the unknown token's id at the right.
        images_clip: (N, 3, 224, 224), images_sam: (N, 3, 1024, 1024) as `finetune.vlm.pictures` makes them.
        resized, sizes: per picture, rows and columns inside SAM's square and of the mask wanted.
        labels: (B, L), -100 where nothing is to be learned (`conversation.labelled_ids`); they are spread over the
        picture's 256 places and shifted by one here. attention_mask: (B, L) bool, False at the filling (the reference
        masks every unknown token: `input_ids != unk`). picture_of: (B,) index of each row's picture; None = row i has
        picture i. Gradients reach everything but the CLIP tower and SAM's image encoder.
        """
        rows = list(range(len(input_ids))) if picture_of is None else picture_of.tolist()
        embeds = self.embed(input_ids, self.encode_clip(images_clip)[rows])
        hidden = self.model(
            inputs_embeds=embeds, attention_mask=widen(attention_mask), use_cache=False
        ).last_hidden_state
        logits = self.lm_head(hidden)
        images = self.encode_sam(images_sam)
        masks = []
        for ids, states, k in zip(input_ids, hidden, rows, strict=True):
            low = self.decode_masks(states[self.mask_positions(ids)], images[k : k + 1])
            masks.append(self.upscale(low, resized[k], sizes[k]))
        return VlmOutput(logits, None if labels is None else _cross_entropy(logits, input_ids, labels), masks)

    @torch.inference_mode()
    def generate(
        self, embeds: Tensor, attention_mask: Tensor | None, *, eos: int, max_new_tokens: int, use_cache: bool = True
    ) -> tuple[list[int], Tensor]:
        """Greedy continuation of one conversation.

        embeds: (1, E, hidden). attention_mask: (1, E) bool or None = all. Returns the new ids (the last is eos unless
        max_new_tokens came first) and (E + T - 1, hidden) final-norm hidden states of everything that was read.
        """
        cache = DynamicCache() if use_cache else None
        new_ids: list[int] = []
        states: list[Tensor] = []
        step = embeds
        while True:
            read = self.model(
                inputs_embeds=step, attention_mask=attention_mask, past_key_values=cache, use_cache=use_cache
            ).last_hidden_state[0]
            states = [*states, read] if use_cache else [read]
            new_ids.append(int(self.lm_head(read[-1]).argmax()))
            if new_ids[-1] == eos or len(new_ids) == max_new_tokens:
                return new_ids, torch.cat(states)
            said = self.model.embed_tokens(torch.tensor([new_ids[-1:]], device=self.device))
            step = said if use_cache else torch.cat([step, said], dim=1)
            if attention_mask is not None:
                attention_mask = functional.pad(attention_mask, (0, 1), value=True)


def widen(attention_mask: Tensor | None) -> Tensor | None:
    """(B, L + 255) from (B, L) bool: the reference puts the picture's 255 extra places in front. None = all is read."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    return functional.pad(attention_mask, (PATCHES - 1, 0), value=True)


def _cross_entropy(logits: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
    rows = []
    for row, label in zip(ids, labels, strict=True):
        place = _image_place(row)
        rows.append(torch.cat([label[:place], label.new_full((PATCHES,), IGNORE), label[place + 1 :]]))
    targets = torch.stack(rows)[:, 1:]
    return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE)


def _image_place(ids: Tensor) -> int:
    places = (ids == IMAGE_ID).nonzero()
    if len(places) != 1:
        raise ValueError(f"a conversation shows exactly one picture (id {IMAGE_ID}), this one shows {len(places)}")
    return int(places[0, 0])


def build_sam(shape: SamShape) -> Sam:
    """SAM of these sizes. Epsilons as in the reference: 1e-6 in the image encoder, torch's 1e-5 in the decoder."""
    size_px = shape.grid * shape.patch_px
    transformer = TwoWayTransformer(
        depth=shape.decoder_depth,
        embedding_dim=shape.prompt_width,
        num_heads=DECODER_HEADS,
        mlp_dim=shape.decoder_mlp_width,
        attention_downsample_rate=shape.prompt_width // shape.decoder_inner_width,
    )
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=size_px,
            patch_size=shape.patch_px,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            mlp_ratio=shape.mlp_width / shape.width,
            out_chans=shape.prompt_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=shape.window,
            global_attn_indexes=shape.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=shape.prompt_width,
            image_embedding_size=(shape.grid, shape.grid),
            input_image_size=(size_px, size_px),
            mask_in_chans=shape.mask_channels,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=shape.prompt_width,
            transformer=transformer,
            num_multimask_outputs=shape.candidates,
            iou_head_depth=shape.iou_depth,
            iou_head_hidden_dim=shape.iou_width,
        ),
    )
