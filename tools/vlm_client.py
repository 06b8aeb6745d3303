"""An AffordanceVLM on another machine, asked over HTTP as if it were here: the agent on the robot's PC, the model on
the GPU box (`affordagent serve-vlm`)."""

from __future__ import annotations

import ipaddress
import json
import os
import time
from typing import Any

import httpx
from pydantic import ValidationError

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import VlmAnswer
from affordagent.tools.vlm_wire import (
    HEALTH,
    NEW_TOKENS,
    SEGMENT,
    TOKEN_VARIABLE,
    Picture,
    SegmentReply,
    SegmentRequest,
    decode_logits,
    picture_file,
    to_base64,
)

AGAIN = (502, 503, 504)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
MENDS = {
    401: f"set {TOKEN_VARIABLE} to the token that the server was started with",
    404: "the URL must be that of `affordagent serve-vlm`, without a path",
    413: "ask with a smaller picture, or start the server with a larger --max-body-mb",
    503: "it has more requests than it can answer: ask less often, or start another server",
}


class VlmClient:
    """The methods of a local predictor, answered by a server.

    url: "http://HOST:PORT". token: default from the environment variable AFFORDAGENT_VLM_TOKEN. timeout_s: for the
    answer; connect_timeout_s: for reaching the server. retries: further attempts after a broken connection or a 502,
    503 or 504; an answer has no side effects, so asking twice does no harm.

    Raises:
        AffordAgentError: the URL is none, the server is out of reach, or it refuses; the message says what to do.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 60.0,
        connect_timeout_s: float = 3.0,
        retries: int = 2,
    ) -> None:
        self.url = checked_url(url)
        self.timeout_s, self.retries = timeout_s, retries
        token = token or os.environ.get(TOKEN_VARIABLE)
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s),
            trust_env=not is_loopback(httpx.URL(self.url).host),  # no proxy leads to this machine itself
        )

    def health(self) -> dict[str, Any]:
        """What the server says of itself: status, model, dtype, version and limits."""
        reply = self._ask("GET", HEALTH)
        if not isinstance(reply, dict) or reply.get("status") != "ready":
            raise AffordAgentError(f"{self.url} answers, but not as a model's server: {str(reply)[:200]}; {MENDS[404]}")
        return reply

    def answer(
        self,
        image: Picture,
        question: str,
        max_new_tokens: int = NEW_TOKENS,
        use_cache: bool = True,
        *,
        prefix: bool = True,
    ) -> VlmAnswer:
        """As the predictor's; timings_s holds `round_trip` besides the server's."""
        fields = {"max_new_tokens": max_new_tokens, "use_cache": use_cache, "prefix": prefix}
        return self._segment(image, {"question": question, **fields})

    def teacher_forced(self, image: Picture, question: str, reply: str, *, prefix: bool = True) -> VlmAnswer:
        """As the predictor's: the masks of the [AFF] and [SEG] in `reply`."""
        return self._segment(image, {"question": question, "reply": reply, "prefix": prefix})

    def close(self) -> None:
        self._http.close()

    def _segment(self, image: Picture, fields: dict[str, Any]) -> VlmAnswer:
        start = time.perf_counter()
        asked = SegmentRequest(image=to_base64(picture_file(image)), mask_format="npz", **fields)
        try:
            reply = SegmentReply.model_validate(self._ask("POST", SEGMENT, asked.model_dump()))
        except ValidationError as error:
            raise AffordAgentError(f"{self.url} answered in another form than expected: {error}") from error
        if reply.size != image.shape[:2]:
            raise AffordAgentError(f"{self.url} answered for a picture of {reply.size}, asked was {image.shape[:2]}")
        answer = decode_logits(reply)
        answer.timings_s["round_trip"] = round(time.perf_counter() - start, 4)
        return answer

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON of a 200, after retries."""
        pause_s = FIRST_PAUSE_S
        for left in range(self.retries, -1, -1):
            try:
                response = self._http.request(method, path, json=body)
            except (httpx.ConnectTimeout, httpx.NetworkError, httpx.RemoteProtocolError) as error:
                if not left:
                    raise AffordAgentError(self._unreachable(error)) from error
                wait_s = pause_s
            except httpx.TimeoutException as error:
                message = f"{self.url} did not answer within {self.timeout_s:g} s: allow more time, or look at its log"
                raise AffordAgentError(message) from error
            except httpx.HTTPError as error:
                raise AffordAgentError(f"{self.url}: {type(error).__name__}: {error}") from error
            else:
                if response.status_code == 200:
                    return _json(response, self.url)
                if response.status_code not in AGAIN or not left:
                    raise AffordAgentError(self._refused(response))
                wait_s = max(pause_s, _retry_after_s(response))
            time.sleep(min(wait_s, LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: Exception) -> str:
        return (
            f"cannot reach the model's server at {self.url} ({self.retries + 1} attempts, the last: "
            f"{error or type(error).__name__}). Start it there with `affordagent serve-vlm --checkpoint DIR`, and look "
            "at host, port and firewall"
        )

    def _refused(self, response: httpx.Response) -> str:
        status = response.status_code
        said = _server_message(response)
        mend = f"; {MENDS[status]}" if status in MENDS else ""
        return f"{self.url} answered {status}: {said}{mend}"


def is_loopback(host: str) -> bool:
    """True for this machine's own addresses: localhost, 127.x.x.x, ::1."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def checked_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        AffordAgentError: it is no http or https URL with a host, or holds a password.
    """
    mend = "give it as http://HOST:PORT"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise AffordAgentError(f"'{url}' is no URL ({error}); {mend}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise AffordAgentError(f"'{url}' is no URL of a server; {mend}")
    if parsed.userinfo:
        raise AffordAgentError(f"the URL holds a user or a password; {mend}, and the token in {TOKEN_VARIABLE}")
    return url.rstrip("/")


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0


def _json(response: httpx.Response, url: str) -> Any:
    try:
        return response.json()
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        message = f"{url} answered 200, but not with JSON: {response.text[:200]!r}; {MENDS[404]}"
        raise AffordAgentError(message) from error


def _server_message(response: httpx.Response) -> str:
    """What the server says, or the start of what is not our error JSON."""
    try:
        said = response.json()["error"]
        return f"{said['message']} ({said['code']})"
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return response.text[:200] or response.reason_phrase
