"""Which AffordanceVLM grounds: the mini model, a published checkpoint in a folder, or a server's URL."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal

from affordagent.core.errors import AffordAgentError
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT, AffordanceTool
from affordagent.tools.fallback import NoFallback, ZeroShotTool, is_zero_shot, open_fallback
from affordagent.tools.published_vlm import PublishedVlmTool
from affordagent.tools.vlm_wire import Vlm

Kind = Literal["mini", "published", "server"]
CHOICES = "mini, the folder of a checkpoint, http://HOST:PORT of `affordagent serve-vlm`, or a fallback's name"


def open_grounder(
    vlm: str = "mini", vision_tower: Path | None = None
) -> AffordanceTool | PublishedVlmTool | ZeroShotTool | NoFallback:
    """The grounding tool for what `vlm` names; its model is loaded, or its server asked, by `load`.

    vlm: "mini", a folder with a mini or a published checkpoint (told apart by config.json), or a server's URL, whose
    token comes from the environment variable AFFORDAGENT_VLM_TOKEN; or what `open_fallback` takes.
    vision_tower: folder of the CLIP tower of a published checkpoint, whose folder does not hold it.

    Raises:
        AffordAgentError: `vlm` is none of these.
    """
    if is_zero_shot(vlm):
        return open_fallback(vlm)
    kind = kind_of(vlm)
    if kind == "server":
        return PublishedVlmTool(partial(open_server, vlm), server_url(vlm))
    if kind == "published":
        return PublishedVlmTool(partial(_open_predictor, folder_of(vlm), vision_tower), folder_of(vlm).name)
    return AffordanceTool(folder_of(vlm))


def open_server(vlm: str) -> Vlm:
    """A client of the server, which has answered.

    Raises:
        AffordAgentError: it is out of reach.
    """
    from affordagent.tools.vlm_client import VlmClient

    client = VlmClient(server_url(vlm))
    client.health()
    return client


def _open_predictor(folder: Path, vision_tower: Path | None) -> Vlm:
    from affordagent.finetune.vlm.predictor import VlmPredictor

    return VlmPredictor(folder, vision_tower)


def kind_of(vlm: str) -> Kind:
    """Raises: AffordAgentError when `vlm` is no such thing."""
    if vlm.startswith(("http:", "https:")):
        return "server"
    folder = folder_of(vlm)
    config = _config(folder, vlm)
    if "model" in config:
        return "mini"
    if config.get("model_type") == "llava":
        return "published"
    raise AffordAgentError(
        f"{folder}/config.json is neither of a mini AffordanceVLM (key `model`) nor of a published one (model_type "
        f"llava, here {config.get('model_type')!r}); vlm is {CHOICES}"
    )


def folder_of(vlm: str) -> Path:
    return SHIPPED_CHECKPOINT if vlm == "mini" else Path(vlm).expanduser()


def server_url(vlm: str) -> str:
    """ "http:http://..." is what an evaluation's table calls a server; the URL is what follows."""
    return vlm.removeprefix("http:") if vlm.startswith(("http:http:", "http:https:")) else vlm


def _config(folder: Path, vlm: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise AffordAgentError(f"vlm '{vlm}': cannot read {folder}/config.json; vlm is {CHOICES}") from error
    except ValueError as error:  # no UTF-8 or no JSON
        raise AffordAgentError(f"vlm '{vlm}': {folder}/config.json is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise AffordAgentError(f"vlm '{vlm}': {folder}/config.json must hold a JSON object")
    return config
