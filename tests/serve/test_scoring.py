"""Scores of a prompt come in pieces: others write in between, and nobody's are taken twice."""

import json
import threading
from collections.abc import Sequence
from functools import partial

import pytest
import torch

from tests.serve.conftest import wait_for
from tests.serve.test_engine import Listener, model, running
from yxanul.config.tokens import END_OF_TEXT, GPT2_TOKENS
from yxanul.data.tokenizer import load_tokenizer
from yxanul.serve.answers import Answer
from yxanul.serve.refusals import RequestError

POSITIONS = 1024


def drop(one: Listener) -> None:
    """Let nobody wait for a text any more."""
    one.choice.is_dropped = True


def listener(prompt: Sequence[int], **asked: object) -> Listener:
    """A text after a prompt of ids."""
    body = {"prompt": list(prompt), "max_tokens": 30, **asked}
    return Listener(json.dumps(body).encode(), positions=POSITIONS)


def scored(prompt: Sequence[int] = range(7, 407), *, logprobs: int = 2) -> Listener:
    """A prompt of ids of which nothing is wanted but scores."""
    return listener(prompt, max_tokens=0, echo=True, logprobs=logprobs)


@pytest.fixture(scope="module")
def net():
    return model(max_position_embeddings=POSITIONS)


def watched(engine, *, then=lambda: None) -> list[int]:
    """Of how many positions the engine's model is asked what follows, call by call."""
    sizes: list[int] = []
    head = engine._model.logits

    def logits(hidden):
        sizes.append(len(hidden))
        if len(hidden) == 128:
            then()
        return head(hidden)

    engine._model.logits = logits
    return sizes


@pytest.mark.parametrize(
    ("prompts", "wanted"),
    [
        ([range(7, 407)], [128, 1, 128, 1, 128, 1, 16, 1]),
        ([range(at, at + 30) for at in range(5)], [30, 30, 30, 30, 1, 30, 5]),
    ],
    ids=["a long prompt", "short ones"],
)
def test_a_text_goes_on_between_the_pieces(net, prompts, wanted):
    # Of another length than the others, so that it is read before them.
    writer, asked = listener(range(200)), [scored(prompt) for prompt in prompts]
    with running(net, batch=6) as (engine, _):
        sizes = watched(engine)
        engine.submit([writer.choice, *(one.choice for one in asked)])
        assert all(one.ended.wait(20) for one in (writer, *asked))
    begin = sizes.index(wanted[0])
    assert sizes[begin : begin + len(wanted)] == wanted


def test_choices_that_are_told_the_same_are_scored_once_as_the_definition_has_it(net):
    twice, other = (scored(), scored()), scored(logprobs=0)
    with running(net, batch=3) as (engine, _):
        sizes = watched(engine)
        engine.submit([one.choice for one in (*twice, other)])
        assert all(one.ended.wait(20) for one in (*twice, other))
    assert sizes == [128, 128, 128, 16] * 2 + [1]
    first, second = (one.events[0].scored for one in twice)
    assert first == second
    ids = torch.tensor([other.choice.prompt.ids])
    with torch.no_grad():
        known = net.logits(net.hidden_states(ids))[0, :-1].double().log_softmax(1)
    own = known.gather(1, ids[0, 1:, None])[:, 0]
    for found in (first, other.events[0].scored):
        assert [one.token for one in found] == ids[0, 1:].tolist()
        assert torch.allclose(torch.tensor([one.logprob for one in found]).double(), own, atol=1e-4)
    assert [len(one.likeliest) for one in first] == [2] * 400
    assert sorted(one.offset for one in first) == [one.offset for one in first]


def test_the_end_token_is_scored_as_any_other_that_is_written(net):
    """lm-evaluation-harness lets one token be written, and takes the last score for its."""
    prompt = range(7, 12)
    one = listener(prompt, max_tokens=1, temperature=0, echo=True, logprobs=1)
    ends = torch.nn.functional.one_hot(torch.tensor(END_OF_TEXT), GPT2_TOKENS).float()
    with running(net) as (engine, _):
        engine._model.logits = lambda hidden: ends.expand(len(hidden), -1)
        engine.submit([one.choice])
        assert one.ended.wait(20)
    answer = Answer("cmpl-1", "tiny", 0, one.choice._asked, load_tokenizer())
    (choice,) = answer.whole((0, event) for event in one.events)["choices"]
    told = choice["logprobs"]
    assert (choice["finish_reason"], choice["text"]) == ("stop", one.choice.prompt.text)
    assert len(told["token_logprobs"]) == len(told["top_logprobs"]) == len(prompt) + 1
    assert (told["tokens"][-1], told["text_offset"][-1]) == ("<|endoftext|>", len(choice["text"]))
    assert told["top_logprobs"][-1] == {"<|endoftext|>": told["token_logprobs"][-1]}


def test_scores_that_nobody_waits_for_any_more_are_not_taken(net):
    left, following = scored(), Listener(positions=POSITIONS)

    with running(net, batch=1) as (engine, _):
        sizes = watched(engine, then=partial(drop, left))
        engine.submit([left.choice, following.choice])
        assert following.ended.wait(20)
    assert (sizes.count(128), left.events) == (1, [])
    assert following.text


def test_a_server_that_is_to_stop_scores_no_further(net):
    asked = scored()
    with running(net) as (engine, _):
        closing = threading.Thread(target=lambda: engine.close(grace_s=0))

        def close() -> None:
            if not closing.ident:
                closing.start()
                wait_for(lambda: is_closing(engine))

        sizes = watched(engine, then=close)
        engine.submit([asked.choice])
        assert asked.ended.wait(20)
        closing.join(20)
    assert sizes == [128]
    assert asked.events[-1].status == 503


def read_by(engine, *, then=lambda: None) -> list[tuple[int, ...]]:
    """The pieces of prompts, (prompts, tokens), that the engine's model reads, call by call."""
    pieces: list[tuple[int, ...]] = []
    read = engine._model.hidden_states

    def hidden_states(tokens, cache):
        if tokens.size(1) > 1:
            pieces.append(tuple(tokens.shape))
            then()
        return read(tokens, cache)

    engine._model.hidden_states = hidden_states
    return pieces


def test_equal_prompts_are_read_and_scored_once_also_when_there_is_no_row_for_all(net):
    asked = [listener(range(7, 407), max_tokens=n, echo=True, logprobs=1) for n in (3, 9, 6, 0, 9)]
    last, other, again = listener(range(7, 407)), listener(range(9)), listener(range(7, 407))
    # The same ids to the model; these have an end token of their own, which is told.
    more, opened = scored(), scored([END_OF_TEXT, *range(7, 407)], logprobs=1)
    with running(net, batch=2) as (engine, _):
        pieces, sizes = read_by(engine), watched(engine)
        engine.submit([one.choice for one in asked])
        assert all(one.ended.wait(20) for one in asked)
        for one in (more, opened, last, other, again):
            engine.submit([one.choice])
            assert one.ended.wait(20)
    assert pieces == [(1, 401), (1, 10), (1, 401)]
    assert (sizes.count(128), sizes.count(16)) == (9, 3)
    assert [len(known.likeliest) for known in more.events[0].scored] == [2] * 400
    first, *others = opened.events[0].scored
    assert (first.token, first.logprob) == (END_OF_TEXT, None)
    assert [(one.token, one.logprob) for one in others] == [
        (one.token, one.logprob) for one in asked[0].events[0].scored
    ]
    assert all(one.events[0].scored == asked[0].events[0].scored for one in asked)
    assert asked[4].text == asked[1].text
    assert asked[1].text.startswith(asked[2].text)
    assert again.text == last.text


def test_a_prompt_that_nobody_waits_for_any_more_is_read_no_further(net):
    left, following = listener(range(900)), listener(range(9))

    with running(net, batch=1) as (engine, _):
        pieces = read_by(engine, then=partial(drop, left))
        engine.submit([left.choice, following.choice])
        assert following.ended.wait(20)
    assert pieces == [(1, 512), (1, 10)]
    assert (left.events, bool(following.text)) == ([], True)


def test_a_prompt_that_is_half_read_is_read_on_for_the_next_one_that_asks_for_it(net):
    left, following, alone = (listener(range(900)) for _ in range(3))

    with running(net, batch=1) as (engine, _):
        pieces = read_by(engine, then=partial(drop, left))
        engine.submit([left.choice, following.choice])
        assert following.ended.wait(20)
    with running(net, batch=1) as (engine, _):
        engine.submit([alone.choice])
        assert alone.ended.wait(20)
    assert pieces == [(1, 512), (1, 389)]
    assert following.text == alone.text


def test_what_a_prompt_had_when_the_model_failed_is_not_read_on(net):
    ill, well, alone = (listener(range(900)) for _ in range(3))

    def fail() -> None:
        if len(pieces) == 2:
            raise RuntimeError("out of memory")

    with running(net, batch=1) as (engine, _):
        pieces = read_by(engine, then=fail)
        for one in (ill, well):
            engine.submit([one.choice])
            assert one.ended.wait(20)
    with running(net, batch=1) as (engine, _):
        engine.submit([alone.choice])
        assert alone.ended.wait(20)
    assert pieces == [(1, 512), (1, 389)] * 2
    assert isinstance(ill.events[-1], RequestError)
    assert well.text == alone.text


def is_closing(engine) -> bool:
    try:
        engine.submit([])
    except RequestError:
        return True
    return False
