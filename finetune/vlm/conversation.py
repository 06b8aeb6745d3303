"""What is said to the published model, word for word (LLaVA's `llava_v1` template), and ids and labels of training."""

from __future__ import annotations

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.vlm.tokens import IMAGE_END, IMAGE_START, IMAGE_TEXT, Tokens

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
PREFIX = "You are an embodied robot. "
PICTURE = f"{IMAGE_START}{IMAGE_TEXT}{IMAGE_END}\n"
STOP = "</s>"
IGNORE = -100  # label of a token that costs nothing


def prompt(question: str, *, prefix: bool = True) -> str:
    """The conversation up to the answer, which the model continues.

    Raises:
        AffordAgentError: an empty question, or one that holds "<image>" (the picture is shown once).
    """
    return f"{SYSTEM} {_asked(question, first=True, prefix=prefix)}"


def labelled_ids(tokens: Tokens, turns: list[tuple[str, str]], *, prefix: bool = True) -> tuple[list[int], list[int]]:
    """Ids and labels of a whole conversation of (question, answer), each of length L, the picture as one -200.

    The picture is shown with the first question. Only what the assistant says counts: its answers and the </s> behind
    each keep their ids as labels; system text, questions, "ASSISTANT:" and the picture are -100. A label stands at its
    own token: `AffordanceVlm.forward` shifts by one, puts 256 patch embeddings in place of -200 and 256 labels of -100
    at them. So a row is cut to fit by `ids[:limit], labels[:limit]` with limit = the model's length - 255.

    Raises:
        AffordAgentError: no turn, an empty text, or one that holds "<image>".
    """
    if not turns:
        raise AffordAgentError("a conversation needs at least one question and its answer")
    text = f"{SYSTEM} "
    spans = []
    for number, (question, answer) in enumerate(turns):
        text += _asked(question, first=number == 0, prefix=prefix)
        start = len(tokens.encode(text))
        text += f" {_check(answer)}{STOP}"
        spans.append(slice(start, len(tokens.encode(text))))
    ids = tokens.encode(text)
    labels = [IGNORE] * len(ids)
    for span in spans:
        labels[span] = ids[span]
    return ids, labels


def _asked(question: str, *, first: bool, prefix: bool) -> str:
    return f"USER: {PICTURE * first}{PREFIX * (first and prefix)}{_check(question)} ASSISTANT:"


def _check(text: str) -> str:
    if not text.strip():
        raise AffordAgentError("the text is empty; say what is wanted")
    if IMAGE_TEXT in text:
        raise AffordAgentError(f"the text holds {IMAGE_TEXT!r}, the mark of the picture; leave it out")
    return text
