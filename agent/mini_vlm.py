"""The mini AffordanceVLM behind the methods of a published one, so that it can be served: language, things by their
colours, pick, mask."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np

from affordagent.agent.language.understand import understand
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import FunctionalQuery, VlmAnswer
from affordagent.tools.affordance_vlm import AffordanceTool
from affordagent.tools.rgb_proposals import scene_of_picture
from affordagent.tools.vlm_wire import NEW_TOKENS, Picture

LEAST_LOGIT = 0.1
# The question that published models are trained on; `tools.published_vlm` asks it too.
_MAP_OF = re.compile(r"affordance map of (?:the |an? )?(?P<thing>.+?)(?: in this image)?[.?!]?$", re.IGNORECASE)


class MiniVlm:
    """Answers from a colour picture alone: without depth it is weaker than the tool of the pipeline.

    Raises:
        AffordAgentError: the folder holds no mini AffordanceVLM.
    """

    def __init__(self, checkpoint: Path) -> None:
        self._tool = AffordanceTool(checkpoint)
        self._tool.load()
        self._present_above: float = Settings.model_fields["present_above"].default

    def answer(
        self,
        image: Picture,
        question: str,
        max_new_tokens: int = NEW_TOKENS,
        use_cache: bool = True,
        *,
        prefix: bool = True,
    ) -> VlmAnswer:
        """One mask, or none where the thing seems not to be there. There are no ids, and no logit a pixel: inside the
        mask every logit is that of its confidence (at least 0.1), outside its negative. max_new_tokens, use_cache and
        prefix mean nothing to this model.
        """
        start = time.perf_counter()
        query = _query(question)
        try:
            best = self._tool.find(*scene_of_picture(image), query)[0]
        except StageFailure as failure:
            if not failure.code.startswith("grounding."):
                raise
            return _nothing(image, failure.message, start)
        if best.is_there < self._present_above:
            reason = f"the best match is there with probability {best.is_there:.2f}, needed {self._present_above:.2f}"
            return _nothing(image, reason, start)
        p = min(best.confidence, 1 - 1e-6)
        inside = max(float(np.log(p / (1 - p))), LEAST_LOGIT)
        logits = np.where(best.mask, inside, -inside).astype(np.float32)[None]
        return VlmAnswer("[AFF]", np.zeros(0, np.int64), logits, _spent(start))

    def teacher_forced(self, image: Picture, question: str, reply: str, *, prefix: bool = True) -> VlmAnswer:
        """Raises: AffordAgentError always."""
        raise AffordAgentError("the mini model writes no reply that could be forced: ask without `reply`")


def _query(question: str) -> FunctionalQuery:
    """The language stage's reading of it as a wish; what it would not act on is asked in the person's words."""
    template = _MAP_OF.search(question.strip())
    try:
        return understand(f"pick up the {template['thing']}" if template else question)
    except StageFailure:
        return FunctionalQuery(text=question, intent="pick")


def _nothing(image: Picture, reason: str, start: float) -> VlmAnswer:
    text = f"I see no such thing: {reason}"
    return VlmAnswer(text, np.zeros(0, np.int64), np.zeros((0, *image.shape[:2]), np.float32), _spent(start))


def _spent(start: float) -> dict[str, float]:
    return {"mini": time.perf_counter() - start}
