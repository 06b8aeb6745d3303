"""`affordagent vlm` and `affordagent serve-vlm`: an AffordanceVLM in the published format, asked or served."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    _add_vlm(commands)
    _add_serve(commands)
    _add_start(commands)


def _add_vlm(commands: Any) -> None:
    vlm = commands.add_parser("vlm", help="ask an AffordanceVLM in the published format about a picture")
    vlm.add_argument("--checkpoint", type=Path, required=True, help="folder of the published model")
    vlm.add_argument("--vision-tower", type=Path, help="folder of the CLIP tower (default: beside the checkpoint)")
    vlm.add_argument("--image", required=True, help="the picture")
    vlm.add_argument("--question", required=True, help='e.g. "What is the affordance map of mug in this image?"')
    vlm.add_argument("--out", type=Path, help="save output_ids, mask_logits and masks to this .npz")
    vlm.add_argument("--overlay", type=Path, help="save the picture with its masks to this .png")
    vlm.add_argument("--dtype", default="auto", help="auto (default: bf16 on a GPU, fp32 on a CPU), fp32, bf16, fp16")
    vlm.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    vlm.add_argument("--load-in", choices=["8bit", "4bit"], help="quantised weights; needs affordagent[quantized]")
    vlm.add_argument("--max-new-tokens", type=int, default=512, help="longest answer (default %(default)s)")
    vlm.add_argument("--self-test", action="store_true", help="refuse a model with blank masks, in float32 too")
    vlm.add_argument("--json", action="store_true", help="print one JSON object")
    vlm.set_defaults(handler=_vlm)


def _vlm(args: argparse.Namespace) -> int:
    import json

    from affordagent.agent.vlm_files import save_answer, save_overlay
    from affordagent.finetune.data.schema import Sample
    from affordagent.finetune.data.table import load_image
    from affordagent.finetune.vlm.predictor import VlmPredictor

    image = load_image(Sample(image=args.image, text=args.question))
    predictor = VlmPredictor(
        args.checkpoint,
        args.vision_tower,
        dtype=args.dtype,
        device=args.device,
        load_in=args.load_in,
        self_test=args.self_test,
    )
    answer = predictor.answer(image, args.question, args.max_new_tokens)
    if args.out:
        save_answer(answer, args.out)
    if args.overlay:
        save_overlay(image, answer, args.overlay)
    areas_px = [int(mask.sum()) for mask in answer.masks]
    if args.json:
        times_s = {step: round(time_s, 4) for step, time_s in answer.timings_s.items()}
        facts = {"text": answer.text, "output_ids": answer.output_ids.tolist(), "mask_areas_px": areas_px}
        print(json.dumps({**facts, "size": list(image.shape[:2]), "timings_s": times_s}))
    else:
        print(answer.text)
        for number, area_px in enumerate(areas_px):
            print(f"mask {number}: {area_px} of {image.shape[0] * image.shape[1]} pixels")
    return 0


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve-vlm", help="answer questions about pictures over HTTP")
    serve.add_argument("--checkpoint", required=True, help="mini, or the folder of an AffordanceVLM")
    serve.add_argument("--vision-tower", type=Path, help="folder of the CLIP tower, for a published AffordanceVLM")
    serve.add_argument("--host", default="127.0.0.1", help="address to serve on (default %(default)s: this machine)")
    serve.add_argument("--port", type=int, default=8765, help="port (default %(default)s), 0 for a free one")
    serve.add_argument("--token", help="what clients must send; default: the variable AFFORDAGENT_VLM_TOKEN")
    serve.add_argument("--dtype", default="auto", help="auto (default: bf16 on a GPU, fp32 on a CPU), fp32, bf16, fp16")
    serve.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    serve.add_argument("--load-in", choices=["8bit", "4bit"], help="quantised weights; needs affordagent[quantized]")
    serve.add_argument("--max-body-mb", type=float, default=20.0, help="largest request (default %(default)s)")
    serve.set_defaults(handler=_serve)


def _serve(args: argparse.Namespace) -> int:
    from affordagent.agent.serve_vlm import Model, serve
    from affordagent.agent.vlm_requests import Limits
    from affordagent.core.errors import AffordAgentError

    if args.max_body_mb <= 0:
        raise AffordAgentError(f"--max-body-mb is {args.max_body_mb:g}, must be above 0")
    model = Model(args.checkpoint, args.vision_tower, args.dtype, args.device, args.load_in)
    serve(model, args.host, args.port, args.token, Limits(body_bytes=round(1e6 * args.max_body_mb)))
    return 0


def _add_start(commands: Any) -> None:
    start = commands.add_parser("start-vlm", help="put LLaVA and SAM together to an AffordanceVLM to be trained")
    start.add_argument("--llava", type=Path, required=True, help="folder of a LLaVA 1 with its projector")
    start.add_argument("--sam", type=Path, required=True, help="Segment Anything's file, e.g. sam_vit_h_4b8939.pth")
    start.add_argument("--out", type=Path, required=True, help="new folder")
    start.add_argument("--seed", type=int, default=0, help="of the weights that are new (default %(default)s)")
    start.set_defaults(handler=_start)


def _start(args: argparse.Namespace) -> int:
    from affordagent.finetune.vlm.start import put_together

    put_together(args.llava, args.sam, args.out, seed=args.seed)
    print(args.out)
    return 0
