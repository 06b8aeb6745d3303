"""The model's server over real sockets: answers as the model gave them, and what it does with bad requests."""

from __future__ import annotations

import base64
import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from vlm_service import TINY, Faulty, dropping, serving

from affordagent.agent.vlm_requests import Limits, Refusal, read_picture
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import VlmAnswer
from affordagent.tools.vlm_client import VlmClient
from affordagent.tools.vlm_wire import RunLengths, SegmentReply, encode, mask_of, picture_file, run_lengths, to_base64

QUESTION = "What is the affordance map of hammer in this image?"
TOKEN = "a-token-of-the-tests"
GRAY = np.full((48, 64, 3), 90, np.uint8)
LOGITS = np.random.default_rng(0).normal(size=(2, 48, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def tiny():
    if not TINY.is_dir():
        pytest.skip("the tiny checkpoint is not on this machine (../shared/data/affordancevlm_tiny)")
    from affordagent.finetune.vlm.predictor import VlmPredictor

    return VlmPredictor(TINY / "ckpt", TINY / "vision_tower")


@pytest.fixture(scope="module")
def bench() -> np.ndarray:
    return np.array(Image.open(TINY / "inputs" / "bench.png").convert("RGB"))


@pytest.fixture(scope="module")
def faulty():
    return Faulty(LOGITS)


@pytest.fixture(scope="module")
def url(faulty):
    with serving(faulty, TOKEN) as url:
        yield url


def post(url: str, path: str = "/v1/segment", token: str | None = TOKEN, **body: object) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = {"image": to_base64(picture_file(GRAY)), "question": QUESTION, **body}
    return httpx.post(url + path, json={k: v for k, v in body.items() if v is not None}, headers=headers, timeout=60)


def refusal(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error, whose status and code are as expected."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["code"] == code
    return error["message"]


def test_the_client_answers_as_the_model_itself(tiny, bench):
    with serving(tiny) as url:
        client = VlmClient(url)
        assert client.health()["model"] == "tested"
        for ours, theirs in (
            (tiny.answer(bench, QUESTION), client.answer(bench, QUESTION)),
            (tiny.answer(bench, QUESTION, 2), client.answer(bench, QUESTION, 2)),
            (tiny.answer(bench, QUESTION, prefix=False), client.answer(bench, QUESTION, prefix=False)),
            (
                tiny.teacher_forced(bench, QUESTION, "[AFF] and [SEG]."),
                client.teacher_forced(bench, QUESTION, "[AFF] and [SEG]."),
            ),
        ):
            assert theirs.text == ours.text
            assert theirs.output_ids.dtype == np.int64
            assert np.array_equal(theirs.output_ids, ours.output_ids)
            assert theirs.mask_logits.dtype == np.float32
            assert np.array_equal(theirs.mask_logits, ours.mask_logits)
            assert {"round_trip", "server", "wait"} <= set(theirs.timings_s)
        assert len(theirs.mask_logits) == 2
        assert np.array_equal(theirs.masks, ours.masks)


@pytest.mark.parametrize("mask_format", ["png", "rle", "npz"])
def test_every_mask_format_holds_the_same_masks(url, mask_format):
    reply = post(url, mask_format=mask_format).json()
    assert reply["size"] == [48, 64]
    assert reply["text"] == "It is [AFF]."
    assert reply["output_ids"] == [1, -200, 7]
    if mask_format == "png":
        masks = [np.array(Image.open(io.BytesIO(base64.b64decode(m)))) for m in reply["masks"]]
        assert {v for m in masks for v in np.unique(m)} == {0, 255}
        masks = [m > 0 for m in masks]
    elif mask_format == "rle":
        masks = [mask_of(RunLengths(**m)) for m in reply["masks"]]
    else:
        masks = np.load(io.BytesIO(base64.b64decode(reply["mask_logits"])))["mask_logits"] > 0
    assert np.array_equal(np.stack(list(masks)), LOGITS > 0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_run_lengths_round_trip(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    lengths = RunLengths.model_validate_json(run_lengths(mask).model_dump_json())
    assert np.array_equal(mask_of(lengths), mask)


def test_health_needs_no_token_and_shows_no_path(url):
    reply = httpx.get(url + "/health")
    assert reply.json() | {"status": "ready", "model": "tested", "dtype": "float32"} == reply.json()
    assert "/" not in reply.text


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], TOKEN + " x", "gl\xfcck"])
def test_a_wrong_token_is_refused_before_the_body_is_read(url, token, faulty):
    calls = faulty.calls
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode("latin-1")}
    for path in ("/v1/segment", "/img_mask"):
        response = httpx.post(url + path, content=b"{", headers=headers)
        assert "Bearer TOKEN" in refusal(response, 401, "unauthorized")
    assert faulty.calls == calls


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"image": None}, "bad_request", "image: Field required"),
        ({"image": "%%%"}, "bad_picture", "base64"),
        ({"image": to_base64(b"GIF89a no picture")}, "bad_picture", "PNG or JPEG"),
        ({"image": to_base64(picture_file(GRAY)[:-40])}, "bad_picture", "decoded"),
        ({"image": to_base64(picture_file(np.zeros((8, 64, 3), np.uint8)))}, "bad_picture", "64x8, at least 16"),
        ({"image": to_base64(picture_file(np.zeros((16, 320, 3), np.uint8)))}, "bad_picture", "10 times"),
        ({"image": to_base64(picture_file(np.zeros((20, 8193, 3), np.uint8)))}, "picture_too_large", "8192 a side"),
        ({"question": ""}, "bad_request", "question is empty"),
        ({"question": 7}, "bad_request", "question: Input should be a valid string"),
        ({"question": "x" * 2001}, "text_too_long", "2001 characters, at most 2000"),
        ({"reply": "[AFF]" * 9}, "too_many_masks", "at most 8"),
        ({"max_new_tokens": 513}, "bad_request", "513, must be 1 to 512"),
        ({"max_new_tokens": 0}, "bad_request", "0, must be 1"),
        ({"max_new_tokens": True}, "bad_request", "max_new_tokens"),
        ({"mask_format": "jpeg"}, "bad_request", "'png', 'rle' or 'npz'"),
        ({"masks": "png"}, "bad_request", "masks: Extra"),
    ],
)
def test_bad_requests_name_value_and_limit(url, changes, code, words):
    assert words in refusal(post(url, **changes), 422, code)


def test_a_body_that_is_no_json(url):
    response = httpx.post(url + "/v1/segment", content=b"\xff{", headers={"Authorization": f"Bearer {TOKEN}"})
    refusal(response, 422, "bad_request")
    assert "POST /v1/segment" in refusal(httpx.get(url + "/"), 404, "no_such_endpoint")
    refusal(httpx.get(url + "/v1/segment"), 405, "no_such_endpoint")


def test_a_picture_that_would_decode_to_gigabytes():
    """A PNG of 100 bytes that says 13000x13000: its size is compared before a pixel is decoded."""
    file = bytearray(picture_file(np.zeros((16, 16, 3), np.uint8)))
    file[16:24] = struct.pack(">II", 13000, 13000)
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    with pytest.raises(Refusal) as refused:
        read_picture(to_base64(bytes(file)), Limits())
    assert refused.value.code == "picture_too_large"
    assert "13000x13000" in str(refused.value)


def test_sixteen_bit_pictures_are_named():
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(file, format="PNG")
    with pytest.raises(Refusal) as refused:
        read_picture(to_base64(file.getvalue()), Limits())
    assert "8-bit" in str(refused.value)


def test_a_photo_is_turned_upright_as_opencv_does():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (48, 1, 3))).save(file, "JPEG", exif=exif)
    ours = read_picture(to_base64(file.getvalue()), Limits())
    theirs = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert ours.shape == theirs.shape == (64, 48, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 3


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["PNG", "JPEG", "BMP"]))
def test_broken_files_are_refused_or_read_never_a_crash(data, kind):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(file, format=kind)
    broken = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    del broken[data.draw(st.integers(1, len(broken))) :]
    try:
        image = read_picture(to_base64(bytes(broken)), Limits(pixels=10_000))
    except Refusal:  # anything else than this is a crash
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3


def test_too_large_a_body_is_answered():
    """Also where the client declares no length: it gets the answer and no broken pipe."""
    with serving(Faulty(LOGITS), limits=Limits(body_bytes=100_000)) as url:
        noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
        with pytest.raises(AffordAgentError, match=r"answered 413: the body has \d+ bytes.*--max-body-mb"):
            VlmClient(url).answer(noise, QUESTION)
        message = refusal(httpx.post(url + "/v1/segment", content=iter([b"x" * 90_000] * 2)), 413, "body_too_large")
        assert "100000" in message


def until_in_hand(url: str, count: int) -> None:
    deadline = time.monotonic() + 30
    while httpx.get(url + "/health").json()["in_hand"] != count:  # health answers while the model works
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_at_a_time_and_the_rest_is_sent_away():
    model = Faulty(LOGITS)
    model.go_on.clear()
    with serving(model, TOKEN, Limits(waiting=1, retry_after_s=7)) as url, ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(post, url) for _ in range(2)]
        until_in_hand(url, 2)
        sent_away = post(url)
        assert "1 requests are waiting" in refusal(sent_away, 503, "busy")
        assert sent_away.headers["retry-after"] == "7"
        model.go_on.set()
        assert [r.result().status_code for r in replies] == [200, 200]
        until_in_hand(url, 0)
    assert (model.calls, model.most_inside) == (2, 1)


def test_who_hangs_up_while_waiting_is_not_answered():
    model = Faulty(LOGITS)
    model.go_on.clear()
    with serving(model, TOKEN) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url)
        assert model.started.wait(30)
        with pytest.raises(AffordAgentError, match="did not answer"):
            VlmClient(url, TOKEN, timeout_s=0.2).answer(GRAY, QUESTION)
        model.go_on.set()
        assert first.result().status_code == 200
        until_in_hand(url, 0)
    assert model.calls == 1


def test_no_turn_within_its_time():
    model = Faulty(LOGITS)
    model.go_on.clear()
    with serving(model, TOKEN, Limits(waiting_s=0.2)) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url)
        assert model.started.wait(30)
        assert "within 0.2 s" in refusal(post(url), 503, "busy")
        model.go_on.set()
        assert first.result().status_code == 200


def test_errors_of_the_model_are_typed():
    model = Faulty()
    with serving(model, TOKEN) as url:
        model.error = AffordAgentError("the question holds <image>: leave it out")
        assert refusal(post(url), 422, "model_refused") == str(model.error)
        model.error = StageFailure("ground", "grounding.not_found", "nothing there")
        assert refusal(post(url), 422, "grounding.not_found") == "nothing there"
        model.error = RuntimeError("secret/path/of/weights")
        message = refusal(post(url), 500, "model_failed")
        assert "RuntimeError" in message
        assert "secret" not in message
        model.error = None
        assert post(url).status_code == 200, "a crash of one request does not end the server"


def reference_client(url: str, image_bgr: np.ndarray, prompt: str) -> tuple[np.ndarray, dict]:
    """What client.py of github.com/wudongming97/AffordanceNet sends and reads: BMP in base64 both ways."""
    file = base64.b64encode(cv2.imencode(".bmp", image_bgr)[1]).decode()
    response = httpx.post(url + "/img_mask", json={"img": file, "prompt": prompt}, timeout=60)
    assert response.status_code == 200, response.text
    data = np.frombuffer(base64.b64decode(response.json()["img"]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR), response.json()


def test_the_references_client_gets_its_mask(tiny, bench):
    with serving(tiny) as url:
        mask, reply = reference_client(url, bench[..., ::-1], QUESTION)
    assert mask.shape == bench.shape
    assert np.array_equal(mask, np.repeat(tiny.answer(bench, QUESTION).masks[0][..., None] * 100, 3, 2))
    assert "error" not in reply


def test_the_references_client_gets_a_blank_mask_where_there_is_none(tiny):
    image = cv2.imread(str(TINY / "inputs" / "square.png"))
    with serving(tiny) as url:
        mask, reply = reference_client(url, image, "Which tool do you see?")
    assert mask.shape == image.shape
    assert not mask.any()
    assert reply["error"]["code"] == "no_mask"
    assert reply["text"] in reply["error"]["message"]


# The client


def http_reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture(autouse=True)
def _no_long_pauses(monkeypatch):
    monkeypatch.setattr("affordagent.tools.vlm_client.FIRST_PAUSE_S", 0.01)
    monkeypatch.delenv("AFFORDAGENT_VLM_TOKEN", raising=False)


def test_broken_connections_are_tried_again():
    ready = http_reply("200 OK", b'{"status": "ready"}')
    with dropping(2, ready) as (url, seen):
        assert VlmClient(url, retries=2).health() == {"status": "ready"}
        assert len(seen) == 3
    with dropping(2, ready) as (url, seen), pytest.raises(AffordAgentError, match="2 attempts") as error:
        VlmClient(url, retries=1).health()
    assert len(seen) == 2
    assert url in str(error.value)
    assert "serve-vlm" in str(error.value)


@pytest.mark.parametrize(("status", "attempts"), [("503 Busy", 3), ("502 Bad", 3), ("500 Broken", 1), ("401 No", 1)])
def test_only_what_may_pass_is_tried_again(status, attempts):
    with dropping(0, http_reply(status, b"proxy says no", "Retry-After: 0")) as (url, seen):
        with pytest.raises(AffordAgentError, match=f"answered {status[:3]}: proxy says no"):
            VlmClient(url, retries=2).health()
    assert len(seen) == attempts


def test_nobody_there():
    with dropping(0, b"") as (url, _):
        pass
    with pytest.raises(AffordAgentError, match=r"cannot reach .* at http://127.0.0.1:\d+ \(1 attempts"):
        VlmClient(url, retries=0).health()


def test_slow_answers_are_not_asked_again():
    model = Faulty(LOGITS)
    model.go_on.clear()
    with serving(model) as url:
        with pytest.raises(AffordAgentError, match=r"did not answer within 0\.3 s"):
            VlmClient(url, timeout_s=0.3).answer(GRAY, QUESTION)
        model.go_on.set()
    assert model.calls == 1


def test_the_token_comes_from_the_environment(url, monkeypatch):
    with pytest.raises(AffordAgentError, match="401.*AFFORDAGENT_VLM_TOKEN"):
        VlmClient(url).answer(GRAY, QUESTION)
    monkeypatch.setenv("AFFORDAGENT_VLM_TOKEN", TOKEN)
    assert np.array_equal(VlmClient(url).answer(GRAY, QUESTION).mask_logits, LOGITS)


@pytest.mark.parametrize("url", ["", "localhost:8765", "ftp://box", "http://", "http://a:b@box:1"])
def test_urls_that_are_none(url):
    with pytest.raises(AffordAgentError, match="http://HOST:PORT"):
        VlmClient(url)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"{}"])
def test_other_servers_are_told_apart(body):
    with dropping(0, http_reply("200 OK", body)) as (url, _), pytest.raises(AffordAgentError, match="serve-vlm"):
        VlmClient(url).health()


def reply_with(**changes: object) -> bytes:
    whole = encode(VlmAnswer("It is [AFF].", np.array([1]), LOGITS, {}), "npz")
    return SegmentReply.model_validate(whole.model_dump() | changes).model_dump_json().encode()


def npz(array: np.ndarray) -> str:
    file = io.BytesIO()
    np.savez(file, mask_logits=array)
    return to_base64(file.getvalue())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask_logits": None}, "no logits"),
        ({"mask_logits": to_base64(b"no zip")}, "no NPZ"),
        ({"mask_logits": npz(np.array([{"a": 1}], object))}, "no NPZ"),
        ({"mask_logits": npz(LOGITS.astype(np.float64))}, "float32"),
        ({"mask_logits": npz(LOGITS[:, 1:])}, "float32 of"),
        ({"size": (4, 4)}, "for a picture of"),
    ],
)
def test_answers_that_do_not_fit_are_refused(changes, words):
    """Among them a pickled object, which is not loaded."""
    with dropping(0, http_reply("200 OK", reply_with(**changes))) as (url, _):
        with pytest.raises(AffordAgentError, match=words):
            VlmClient(url).answer(GRAY, QUESTION)
