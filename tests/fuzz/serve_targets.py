"""The target of the completions server: the body of a request."""

import json

from tests.fuzz.target import Target, refusing
from yxanul.data.tokenizer import load_tokenizer
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import Bounds, read_request

BODIES = (
    {"prompt": "The miller", "max_tokens": 5, "temperature": 0, "stop": ["\n", "é"], "n": 2},
    {"prompt": ["a", "b"], "top_p": 0.9, "top_k": 3, "seed": 7, "logprobs": 5, "echo": True},
    {"prompt": [[1, 2], [50256]], "stream": True, "stream_options": {"include_usage": True}},
    {"model": "tales", "prompt": [1, 2], "best_of": 1, "suffix": "", "logit_bias": {}},
)


def read(content: bytes) -> None:
    """Read a body as the server does."""
    with refusing(RequestError):
        read_request(content, bounds=Bounds("tales", 64, 256), tokenizer=load_tokenizer())


def seeds() -> list[bytes]:
    """Return bodies that are answered."""
    return [json.dumps(body).encode() for body in BODIES]


TARGETS = (Target("completions", read, seeds),)
