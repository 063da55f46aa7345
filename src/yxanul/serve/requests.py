"""What is asked for: the body of a request, checked field by field.

Nothing is guessed: a field of the wrong type, one that this server does not know, or one that it
cannot honour is refused in one sentence with its name. A field that is null counts as left out.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from yxanul.data.tokenizer import Tokenizer
from yxanul.data.treating.clean import has_half_characters
from yxanul.model.generation import SEEDS, GenerationOptions
from yxanul.serve.refusals import RequestError

MOST_LOGPROBS = 5
# Tasks of lm-evaluation-harness have more than OpenAI's four.
_MOST_STOPS = 16
# A stop text is looked for with every token, in all its beginnings.
_STOP_CHARACTERS = 256
_LARGEST = 1e300
# What can only be left out, or have the value that does nothing.
_IDLE: dict[str, tuple[object, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "suffix": ("",),
}
_WORDS = "model prompt max_tokens temperature top_p top_k seed stop n best_of echo logprobs"
_WORDS += " stream stream_options user"
_FIELDS = (*_WORDS.split(), *_IDLE)


@dataclass(frozen=True)
class Bounds:
    """What the server and its model can take."""

    model: str
    """The name under which the model is served."""
    positions: int
    """Tokens of prompt and text together."""
    texts: int
    """Texts of one request, those of all its prompts together."""


@dataclass(frozen=True)
class Prompt:
    """What to write on from."""

    ids: tuple[int, ...]
    """With the `<|endoftext|>` before it, as `yxanul generate` has it."""
    text: str
    opening: int
    """How many of the ids, 0 or 1, stand before what the client sent."""


@dataclass(frozen=True)
class CompletionRequest:
    """A body that can be answered."""

    prompts: tuple[Prompt, ...]
    n: int
    """Texts for each prompt."""
    max_tokens: int
    sampling: GenerationOptions
    """Its max_new_tokens is not looked at."""
    is_seeded: bool
    stop: tuple[str, ...]
    echo: bool
    logprobs: int | None
    stream: bool
    include_usage: bool


def read_request(body: bytes, *, bounds: Bounds, tokenizer: Tokenizer) -> CompletionRequest:
    """Return what a body asks for; raises `RequestError` for any that cannot be answered."""
    fields = _fields(body)
    _refuse_what_is_not_here(fields, bounds.model)
    n = _whole(fields, "n", default=1, bounds=(1, bounds.texts))
    if fields.get("best_of", n) != n or isinstance(fields.get("best_of"), bool):
        raise _wrong(fields, "best_of", wanted=f"left out or equal to n, which is {n}")
    stream = _flag(fields, "stream")
    return CompletionRequest(
        prompts=_prompts(fields, n=n, bounds=bounds, tokenizer=tokenizer),
        n=n,
        max_tokens=_whole(fields, "max_tokens", default=16, bounds=(0, None)),
        sampling=_sampling(fields),
        is_seeded="seed" in fields,
        stop=_stop(fields),
        echo=_flag(fields, "echo"),
        logprobs=_logprobs(fields),
        stream=stream,
        include_usage=_include_usage(fields, stream=stream),
    )


def _fields(body: bytes) -> dict[str, Any]:
    def refuse_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        found = json.loads(body.decode(), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RequestError("the body must be a JSON object, with the field prompt")
    return {name: value for name, value in found.items() if value is not None}


def _refuse_what_is_not_here(fields: Mapping[str, Any], model: str) -> None:
    for name in fields:
        if name not in _FIELDS:
            raise RequestError(
                f"{_short(name)} is no field of this server; it knows {', '.join(_FIELDS)}",
                field=name if len(name) <= 60 and not has_half_characters(name) else None,
            )
    wanted = fields.get("model", model)
    if wanted != model:
        raise RequestError(
            f"the model {_short(wanted)} is not served here; {model!r} is",
            status=404,
            field="model",
            code="model_not_found",
        )
    for name, idle in _IDLE.items():
        if name in fields and (fields[name] not in idle or isinstance(fields[name], bool)):
            raise _wrong(fields, name, wanted=f"left out or {idle[0]!r}: this server has no {name}")


def _prompts(
    fields: Mapping[str, Any], *, n: int, bounds: Bounds, tokenizer: Tokenizer
) -> tuple[Prompt, ...]:
    given = _listed_prompts(fields)
    if len(given) * n > bounds.texts:
        raise RequestError(
            f"{len(given):,} prompts with n = {n} are {len(given) * n:,} texts; one request may "
            f"ask for {bounds.texts:,}",
            field="prompt",
        )
    return tuple(_prompt(one, positions=bounds.positions, tokenizer=tokenizer) for one in given)


def _listed_prompts(fields: Mapping[str, Any]) -> list[str | list[int]]:
    given = fields.get("prompt")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(one, str) for one in given) or all(_are_ids(one) for one in given):
            return given
        if _are_ids(given):
            return [given]
    raise _wrong(
        fields, "prompt", wanted="a text, a list of texts, a list of token ids, or a list of those"
    )


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


def _prompt(given: str | list[int], *, positions: int, tokenizer: Tokenizer) -> Prompt:
    if isinstance(given, str):
        _refuse_half_characters("prompt", given)
        # Longer texts do not fit whatever their tokens are, and are not tokenised.
        if len(given.encode()) > positions * int(tokenizer.token_bytes.max()):
            raise _too_long(f"{len(given):,} characters", positions, opening=1)
        ids, text = tokenizer.encode(given), given
    else:
        if not all(0 <= one < tokenizer.vocab_size for one in given):
            wrong = next(one for one in given if not 0 <= one < tokenizer.vocab_size)
            raise RequestError(
                f"prompt holds the id {_short(wrong)}; ids are 0 to {tokenizer.vocab_size - 1:,}",
                field="prompt",
            )
        ids, text = given, tokenizer.decode(given)
    opening = int(ids[:1] != [tokenizer.eot])
    whole = (tokenizer.eot, *ids) if opening else tuple(ids)
    if len(whole) >= positions:
        counted = " (the <|endoftext|> before it counted)" * opening
        raise _too_long(f"{len(whole):,} tokens{counted}", positions, opening=opening)
    return Prompt(whole, text, opening)


def _too_long(length: str, positions: int, *, opening: int) -> RequestError:
    return RequestError(
        f"the prompt has {length}, and the model has {positions:,} positions for prompt and text "
        f"together; shorten it to at most {positions - 1 - opening:,} tokens",
        field="prompt",
        code="context_length_exceeded",
    )


def _sampling(fields: Mapping[str, Any]) -> GenerationOptions:
    top_k = _whole(fields, "top_k", default=0, bounds=(0, None))
    return GenerationOptions(
        temperature=_number(
            fields, "temperature", is_fine=lambda value: value >= 0, wanted="from 0 (greedy)"
        ),
        # 0 is all of them here, as in other servers.
        top_k=top_k or None,
        top_p=_number(
            fields, "top_p", is_fine=lambda value: 0 < value <= 1, wanted="above 0 and at most 1"
        ),
        seed=_whole(fields, "seed", default=0, bounds=(0, SEEDS - 1)),
    )


def _stop(fields: Mapping[str, Any]) -> tuple[str, ...]:
    given = fields.get("stop", [])
    texts = [given] if isinstance(given, str) else given
    is_fine = isinstance(texts, list) and len(texts) <= _MOST_STOPS
    if not is_fine or not all(
        isinstance(text, str) and 0 < len(text) <= _STOP_CHARACTERS for text in texts
    ):
        raise _wrong(
            fields,
            "stop",
            wanted=f"one text or up to {_MOST_STOPS}, each of 1 to {_STOP_CHARACTERS} characters",
        )
    for text in texts:
        _refuse_half_characters("stop", text)
    return tuple(texts)


def _logprobs(fields: Mapping[str, Any]) -> int | None:
    if fields.get("logprobs") is None:
        return None
    return _whole(fields, "logprobs", default=0, bounds=(0, MOST_LOGPROBS))


def _include_usage(fields: Mapping[str, Any], *, stream: bool) -> bool:
    given = fields.get("stream_options", {})
    if not isinstance(given, dict) or set(given) - {"include_usage"}:
        raise _wrong(fields, "stream_options", wanted='an object that holds "include_usage"')
    if given and not stream:
        raise _wrong(fields, "stream_options", wanted="left out unless stream is true")
    wanted = given.get("include_usage", False)
    if not isinstance(wanted, bool):
        raise _wrong(
            fields, "stream_options", wanted='an object whose "include_usage" is true or false'
        )
    return wanted


def _whole(
    fields: Mapping[str, Any], name: str, *, default: int, bounds: tuple[int, int | None]
) -> int:
    value = fields.get(name, default)
    low, high = bounds
    if type(value) is not int or value < low or (high is not None and value > high):
        upper = "" if high is None else f" to {high:,}"
        raise _wrong(fields, name, wanted=f"a whole number from {low}{upper}")
    return value


def _number(
    fields: Mapping[str, Any], name: str, *, is_fine: Callable[[float], bool], wanted: str
) -> float:
    value = fields.get(name, 1.0)
    # The bound keeps out infinity, and integers that are no float.
    if type(value) not in (int, float) or not abs(value) < _LARGEST or not is_fine(value):
        raise _wrong(fields, name, wanted=f"a number {wanted}")
    return float(value)


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(fields, name, wanted="true or false")
    return value


def _refuse_half_characters(name: str, text: str) -> None:
    if has_half_characters(text):
        raise RequestError(f"{name} holds half a character (a lone surrogate)", field=name)


def _wrong(fields: Mapping[str, Any], name: str, *, wanted: str) -> RequestError:
    given = f"is {_short(fields[name])}" if name in fields else "is missing"
    return RequestError(f"{name} {given}; it must be {wanted}", field=name)


def _short(value: object) -> str:
    # ASCII, so that half a character can be told of; Python prints no integer of many digits.
    if isinstance(value, int) and abs(value) > 10**30:
        return "a very large number"
    try:
        shown = json.dumps(value)
    except RecursionError:  # read with a shallower stack than this one
        return "a deeply nested value"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
