"""What is not answered is told in OpenAI's form, with the field's name; and nothing falls over."""

import contextlib
import http.client
import json
import resource
import socket

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve.conftest import POSITIONS, wait_for
from yxanul.config.tokens import END_OF_TEXT
from yxanul.data.tokenizer import load_tokenizer
from yxanul.serve.answers import as_bytes
from yxanul.serve.app import REQUESTS
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import Bounds, CompletionRequest, read_request
from yxanul.serve.server import _allow_open_files

BOUNDS = Bounds("tales", 64, 256)


def ask(server, body: bytes | str | dict, *, path="/v1/completions", method="POST", **headers):
    """Return (status, JSON) of one request; its headers are the given ones."""
    content = json.dumps(body) if isinstance(body, dict) else body
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def error(server, body, **options) -> tuple[int, str | None, str]:
    """Return (status, field, message) of a refusal, whose form is always the same."""
    status, found = ask(server, body, **options)
    assert set(found) == {"error"}, found
    assert set(found["error"]) == {"message", "type", "param", "code"}
    return status, found["error"]["param"], found["error"]["message"]


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[0] < REQUESTS + 100,
    reason="a process may have too few open files here (ulimit -n)",
)
def test_a_request_too_many_is_refused_in_the_same_form(server):
    host, port = server.url.removeprefix("http://").split(":")
    _allow_open_files()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 9\r\n\r\n"
    with contextlib.ExitStack() as held:
        for _ in range(REQUESTS):
            one = held.enter_context(socket.create_connection((host, int(port))))
            one.sendall(head.encode())
        wait_for(lambda: ask(server, "", path="/health", method="GET")[0] == 503)
        status, field, words = error(server, "", path="/health", method="GET")
        assert (status, field) == (503, None)
        assert "requests are being answered; try again" in words
    wait_for(lambda: ask(server, "", path="/health", method="GET")[0] == 200)


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"prompt": None}, "prompt", "prompt is missing"),
        ({"prompt": 3}, "prompt", "prompt is 3; it must be a text, a list"),
        ({"prompt": []}, "prompt", "prompt is []"),
        ({"prompt": [[]]}, "prompt", "prompt is [[]]"),
        ({"prompt": ["a", 1]}, "prompt", 'prompt is ["a", 1]'),
        ({"prompt": [True]}, "prompt", "prompt is [true]"),
        ({"prompt": [[1], "a"]}, "prompt", "it must be a text"),
        ({"prompt": [50257]}, "prompt", "the id 50257; ids are 0 to 50,256"),
        ({"prompt": [-1]}, "prompt", "the id -1"),
        ({"prompt": [10**40]}, "prompt", "the id a very large number"),
        ({"prompt": "a\ud800"}, "prompt", "half a character"),
        ({"prompt": "a", "n": 257}, "n", "n is 257; it must be a whole number from 1 to 256"),
        ({"prompt": ["a"] * 257}, "prompt", "257 prompts with n = 1 are 257 texts"),
        ({"max_tokens": -1}, "max_tokens", "max_tokens is -1"),
        ({"max_tokens": 1.5}, "max_tokens", "max_tokens is 1.5"),
        ({"max_tokens": "7"}, "max_tokens", 'max_tokens is "7"'),
        ({"max_tokens": True}, "max_tokens", "max_tokens is true"),
        ({"temperature": -0.1}, "temperature", "a number from 0 (greedy)"),
        ({"temperature": "hot"}, "temperature", 'temperature is "hot"'),
        ({"temperature": 10**400}, "temperature", "a very large number"),
        ({"top_p": 0}, "top_p", "above 0 and at most 1"),
        ({"top_p": [1]}, "top_p", "top_p is [1]"),
        ({"top_k": -1}, "top_k", "top_k is -1"),
        ({"seed": 2**63}, "seed", "seed is 9223372036854775808"),
        ({"seed": -1}, "seed", "seed is -1"),
        ({"stop": ""}, "stop", 'stop is ""'),
        ({"stop": list("abcdefghijklmnopq")}, "stop", "one text or up to 16"),
        ({"stop": [1]}, "stop", "stop is [1]"),
        ({"stop": "\udfff"}, "stop", "half a character"),
        ({"logprobs": 6}, "logprobs", "from 0 to 5"),
        ({"logprobs": True}, "logprobs", "logprobs is true"),
        ({"echo": 1}, "echo", "echo is 1; it must be true or false"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "unless stream is true"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options", "include_usage"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options", "true"),
        ({"presence_penalty": 0.5}, "presence_penalty", "this server has no presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty", "has no frequency_penalty"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "has no logit_bias"),
        ({"suffix": "end"}, "suffix", "has no suffix"),
        ({"best_of": 2}, "best_of", "equal to n, which is 1"),
        ({"min_p": 0.1}, "min_p", '"min_p" is no field of this server'),
        ({"\udc80": 1}, None, "is no field"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_in_one_sentence(more, field, words):
    body = json.dumps({"prompt": "a", **more}).encode()
    with pytest.raises(RequestError) as refused:
        read_request(body, bounds=BOUNDS, tokenizer=load_tokenizer())
    assert (refused.value.status, refused.value.field) == (400, field)
    assert words in refused.value.message
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([END_OF_TEXT] + [1] * 63, "has 64 tokens, and the model has 64 positions"),
        ([1] * 63, "has 64 tokens (the <|endoftext|> before it counted), and"),
    ],
    ids=["with its own end token", "without"],
)
def test_a_prompt_that_fills_the_context_learns_how_long_it_may_be(prompt, words):
    with pytest.raises(RequestError) as refused:
        read(prompt)
    most = 63 if prompt[0] == END_OF_TEXT else 62
    assert (refused.value.status, refused.value.code) == (400, "context_length_exceeded")
    assert words in refused.value.message
    assert f"at most {most} tokens" in refused.value.message
    assert len(read(prompt[:most]).prompts[0].ids) == 63


def test_a_text_that_cannot_fit_is_refused_before_its_tokens_are_counted():
    with pytest.raises(RequestError, match=r"100,000 characters, .* at most 62 tokens") as refused:
        read("ab" * 50_000)
    assert refused.value.code == "context_length_exceeded"


def read(prompt: str | list[int]) -> CompletionRequest:
    body = json.dumps({"prompt": prompt}).encode()
    return read_request(body, bounds=BOUNDS, tokenizer=load_tokenizer())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'"prompt"',
        b"null",
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": 1e999}',
        b'{"prompt": "a", "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"prompt": ' + b"[" * 100_000,
        b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_proper_body_is_400(server, body):
    status, _, message = error(server, body)
    assert status == 400
    assert len(message) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = "prompt max_tokens temperature top_p top_k seed stop n best_of echo logprobs stream"
FIELDS += " stream_options suffix logit_bias presence_penalty model user"


@given(st.dictionaries(st.sampled_from(FIELDS.split()), json_values))
def test_any_values_are_read_or_refused(fields):
    body = json.dumps({"prompt": "a", **fields}).encode()
    try:
        read_request(body, bounds=BOUNDS, tokenizer=load_tokenizer())
    except RequestError as refused:
        as_bytes(refused.as_json())


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body):
    with pytest.raises(RequestError):
        read_request(body, bounds=BOUNDS, tokenizer=load_tokenizer())


def test_idle_values_of_what_is_not_here_are_taken():
    body = {
        "prompt": "a",
        "n": 2,
        "best_of": 2,
        "presence_penalty": 0,
        "frequency_penalty": 0.0,
        "logit_bias": {},
        "suffix": "",
        "user": "somebody",
        "stop": None,
        "logprobs": None,
    }
    found = read_request(json.dumps(body).encode(), bounds=BOUNDS, tokenizer=load_tokenizer())
    assert (found.n, found.stop, found.logprobs, found.max_tokens) == (2, (), None, 16)


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(server, client, loaded):
    ids = loaded.tokenizer.encode(" a" * (POSITIONS - 1))
    for prompt in (ids, " a" * (POSITIONS - 1)):
        with pytest.raises(
            openai.BadRequestError, match=r"8,192 tokens .* 8,192 positions .* 8,190 tok"
        ):
            client.completions.create(model="tales", prompt=prompt)
    # Nothing of this size is tokenised.
    status, field, message = error(server, {"prompt": "ab" * 550_000})
    assert (status, field) == (413, None)
    assert "1,048,576 bytes" in message


def test_another_model_and_another_route_are_404(server, client):
    with pytest.raises(openai.NotFoundError, match="'tales' is"):
        client.completions.create(model="gpt-2", prompt="a")
    with pytest.raises(openai.NotFoundError, match="'a/b' is not served here"):
        client.models.retrieve("a/b")
    assert error(server, {}, path="/v1/chat/completions")[0] == 404
    assert error(server, b"", path="/docs", method="GET")[0] == 404
    status, _, message = error(server, b"", method="GET")
    assert status == 405
    assert "GET /v1/completions" in message


def test_a_page_of_another_place_cannot_use_the_server(server):
    body = {"prompt": "a", "max_tokens": 1}
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::2]", ""):
        assert error(server, body, Host=host)[0] in (400, 403)
    for origin in ("http://evil.example", "null", server.url.replace("http", "https") + "0"):
        assert error(server, body, Origin=origin)[0] == 403
    own = server.url.removeprefix("http://")
    assert ask(server, body, Origin=server.url)[0] == 200
    assert ask(server, body, Host="localhost")[0] == 200
    assert ask(server, body, Host="[::1]:8000")[0] == 200
    assert ask(server, body, Host=own)[0] == 200


def test_a_body_that_is_too_large_or_chunked_is_heard_out(server):
    blocks = [b'{"prompt": "', b"a" * 3, b'", "max_tokens": 1}']
    assert ask(server, iter(blocks))[0] == 200
    assert error(server, iter([b"a" * 100_000] * 30))[0] == 413
    # Of far too much the connection may be cut before the answer is read.
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert error(server, iter([b"a" * 1_000_000] * 40))[0] == 413
    assert ask(server, iter(blocks))[0] == 200


def test_what_is_no_http_is_answered_and_forgotten(server):
    host, port = server.url.removeprefix("http://").split(":")
    for content in (b"\x00\xff\x16\x03\n\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(content)
            assert client.recv(1000).startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    assert ask(server, {"prompt": "a", "max_tokens": 1})[0] == 200
