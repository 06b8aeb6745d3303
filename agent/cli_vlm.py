"""`affordagent vlm` and `affordagent serve-vlm`: an AffordanceVLM in the published format, asked or served."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add the commands to the parser's `commands`."""
    _add_serve(commands)


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
