"""A language or vision model behind any OpenAI-compatible server: one question, one checked JSON answer.

The key comes from the environment alone, and is in no message of an error, no record and no log.
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ValidationError

from affordagent.core.errors import AffordAgentError
from affordagent.tools.vlm_client import checked_url, is_loopback

KEY_VARIABLE = "AFFORDAGENT_LLM_KEY"
TIMEOUT_S = 60.0
RETRIES = 2  # after a broken connection, 408, 409, 429 or 5xx; waits grow, and follow Retry-After
ATTEMPTS = 2  # at an answer in the form that was asked for
JPEG_QUALITY = 92
CHARACTERS_A_TOKEN = 3  # English has four and more
MOST_SHOWN = 300  # characters of an answer in a message
MOST_STARTS = 200  # places in an answer from which an object is looked for
MOST_READ = 50_000  # characters of an answer that are looked at; no reply asked for here comes near it

Reply = TypeVar("Reply", bound=BaseModel)


class BadReplyError(AffordAgentError):
    """The model answered, but not in the form that was asked for. replies: what it said, the last one last."""

    def __init__(self, message: str, replies: Sequence[str]) -> None:
        super().__init__(message)
        self.replies = list(replies)


class ChatModel:
    """url: of the API, such as "https://api.openai.com/v1" or "http://gpu-box:8000/v1". model: its name there.

    temperature: 0, so that the same words mean the same again, unless variety is wanted. most_tokens: of one answer.
    spend: told of the tokens of each question and its answer, as the server counts them, else by their characters.
    """

    def __init__(
        self,
        url: str,
        model: str,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        *,
        temperature: float = 0,
        most_tokens: int | None = None,
        spend: Callable[[int, int], None] | None = None,
    ) -> None:
        import openai

        self.url, self.model, self.timeout_s = checked_url(url), model, timeout_s
        self._temperature, self._most_tokens, self._spend = temperature, most_tokens, spend
        self._key = os.environ.get(KEY_VARIABLE, "")
        local = is_loopback(httpx.URL(self.url).host)
        self._client = openai.OpenAI(
            base_url=self.url,
            api_key=self._key or "none",
            timeout=timeout_s,
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(trust_env=not local),  # no proxy leads to this machine itself
        )
        # What a request carries besides; a server that does not take one of them is asked without it from then on.
        self._wishes = {"response_format", "temperature", "max_tokens"}

    def check(self) -> None:
        """Is the server there, and does it take the key?

        Raises:
            AffordAgentError: no; the message says what to do.
        """
        import openai

        try:
            self._client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            raise self._explained(error) from None
        except openai.APIError:  # it answers, and need not be able to list its models
            return

    def ask(self, prompt: str, reply: type[Reply], picture: NDArray[np.uint8] | None = None) -> Reply:
        """The answer to a prompt, and to an (H, W, 3) uint8 RGB picture, as a `reply`.

        Raises:
            BadReplyError: no such answer, after asking again with the fault named.
            AffordAgentError: the server is out of reach, too slow, or refuses.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if picture is not None:
            content.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        replies: list[str] = []
        fault = ""
        for _ in range(ATTEMPTS):
            text = self._complete(messages, reply)
            replies.append(text)
            try:
                return reply.model_validate(json_in(text))
            except (ValueError, ValidationError) as error:
                fault = _faults(error)
            again = f"That is not the JSON object that was asked for ({fault}). Answer with that object alone."
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": again}]
        raise BadReplyError(
            f"{self.model} at {self.url} did not answer in the form asked for, {ATTEMPTS} times ({fault}); the last "
            f"answer begins {replies[-1][:MOST_SHOWN]!r}. Try again, or take another model",
            replies,
        )

    def _complete(self, messages: list[dict[str, Any]], reply: type[BaseModel]) -> str:
        import openai

        try:
            answer = self._answer(messages, reply)
        except (openai.APIError, ValueError, RecursionError) as error:  # the body of an answer may be anything
            raise self._explained(error) from None
        choices = getattr(answer, "choices", None)
        text = getattr(getattr(choices[0], "message", None), "content", None) if isinstance(choices, list) else None
        text = text if isinstance(text, str) else ""
        if self._spend is not None:
            self._spend(*_tokens(answer, messages, text))
        return text

    def _answer(self, messages: list[dict[str, Any]], reply: type[BaseModel]) -> Any:
        import openai

        while True:
            try:
                return self._client.chat.completions.create(**self._request(messages, reply))
            except openai.BadRequestError as error:
                refused = {name for name in self._wishes if name in str(error)}
                if not refused:
                    raise
                self._wishes -= refused  # without a form the prompt alone asks for it

    def _request(self, messages: list[dict[str, Any]], reply: type[BaseModel]) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self.model, "messages": messages}
        if "temperature" in self._wishes:
            request["temperature"] = self._temperature
        if "max_tokens" in self._wishes and self._most_tokens is not None:
            request["max_tokens"] = self._most_tokens
        if "response_format" in self._wishes:
            schema = {"name": reply.__name__, "strict": True, "schema": strict_schema(reply)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return request

    def _explained(self, error: Exception) -> AffordAgentError:
        import openai

        mends = {
            401: f"set {KEY_VARIABLE} in the environment to a key of that server",
            403: f"the key in {KEY_VARIABLE} may not do that",
            404: "the URL ends in /v1 as a rule, and the model must be one that the server has",
            429: "too many questions, or no credit: wait, or look at the account",
        }
        said = f"{error.__cause__ or error}"[:MOST_SHOWN]
        if isinstance(error, openai.APITimeoutError):
            told = f"{self.url} did not answer within {self.timeout_s:g} s: try again, or take a quicker model"
        elif isinstance(error, openai.APIConnectionError):
            told = f"cannot reach {self.url} ({said}): is it the API's address, and is it up?"
        elif isinstance(error, openai.APIStatusError):
            mend = mends.get(error.status_code, "look at the server's log")
            told = f"{self.url} answered {error.status_code} for {self.model}: {said}; {mend}"
        else:
            told = f"{self.url} does not answer as an OpenAI-compatible API does ({said})"
        return AffordAgentError(told.replace(self._key, "***") if self._key else told)


def tokens_in(text: str) -> int:
    """A guess at the tokens of a text, on the high side for English."""
    return len(text) // CHARACTERS_A_TOKEN + 1


def _tokens(answer: Any, messages: list[dict[str, Any]], text: str) -> tuple[int, int]:
    """Of the question and of the answer."""
    used = getattr(answer, "usage", None)
    asked, told = getattr(used, "prompt_tokens", None), getattr(used, "completion_tokens", None)
    guessed = tokens_in(json.dumps(messages)), tokens_in(text)
    return asked if isinstance(asked, int) else guessed[0], told if isinstance(told, int) else guessed[1]


def json_in(text: str) -> Any:
    """The JSON object in a model's answer, whatever stands around it: a fence, a sentence, its thoughts.

    Raises:
        ValueError: there is none; the answer is too long, or nested too deeply.
    """
    if len(text) > MOST_READ:
        raise ValueError(f"{len(text)} characters, {MOST_READ} at most")
    text = text.rsplit("</think>", 1)[-1]
    decoder, at = json.JSONDecoder(), text.find("{")
    for _ in range(MOST_STARTS):
        if at < 0:
            break
        try:
            return decoder.raw_decode(text, at)[0]
        except json.JSONDecodeError:
            at = text.find("{", at + 1)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    raise ValueError("no JSON object in it")


def strict_schema(reply: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a reply as strict servers want it: every field required, none besides."""
    schema = reply.model_json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        if part.get("type") == "object":
            part["additionalProperties"] = False
            part["required"] = list(part.get("properties", {}))
            for field in part["properties"].values():
                field.pop("default", None)
    return schema


def data_url(picture: NDArray[np.uint8]) -> str:
    """A JPEG of an (H, W, 3) uint8 RGB picture: a fifth of a PNG, to models that shrink it in any case."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _faults(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:3])
