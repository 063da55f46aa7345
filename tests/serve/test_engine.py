"""The engine in this process: what it does with texts that nobody wants, and when a model fails."""

import threading
from contextlib import contextmanager

import pytest
import torch

from tests.model.tiny import model_with_norms, shape
from tests.serve.conftest import wait_for
from yxanul.config.tokens import END_OF_TEXT, GPT2_TOKENS
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import InfrastructureError
from yxanul.model.generation import decoding_copy
from yxanul.serve.choices import Choice, Event, Piece
from yxanul.serve.engine import Engine
from yxanul.serve.refusals import RequestError
from yxanul.serve.requests import Bounds, read_request

POSITIONS = 64


def model(**changes):
    config = shape(vocab_size=GPT2_TOKENS, initializer_range=0.3, **changes)
    return model_with_norms(config, attention="plain")


class Listener:
    """One text's choice, with everything that it says."""

    def __init__(
        self,
        body: bytes = b'{"prompt": "The cat", "max_tokens": 25}',
        *,
        leaves_after: int | None = None,
        positions: int = POSITIONS,
    ) -> None:
        self.events: list[Event] = []
        self.leaves_after = leaves_after
        self.ended = threading.Event()
        tokenizer = load_tokenizer()
        bounds = Bounds("tiny", positions, 256)
        asked = read_request(body, bounds=bounds, tokenizer=tokenizer)
        self.choice = Choice(
            asked.prompts[0],
            asked,
            seed=1,
            positions=positions,
            tokenizer=tokenizer,
            deliver=self.take,
        )

    def take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, RequestError) or event.ended:
            self.ended.set()
        self.choice.is_dropped = len(self.events) == self.leaves_after

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)


def engine_of(net, *, batch: int = 2, waiting: int = 8, tell=print) -> Engine:
    """An engine that does not write yet."""
    return Engine(
        decoding_copy(net),
        load_tokenizer(),
        batch=batch,
        waiting=waiting,
        tell=tell,
        ended=threading.Event(),
    )


@contextmanager
def running(net, *, batch: int = 2, waiting: int = 8, tell=None):
    """An engine, and what it told its user."""
    told: list[str] = []
    engine = engine_of(net, batch=batch, waiting=waiting, tell=tell or told.append)
    engine.start()
    try:
        yield engine, told
    finally:
        engine.close(grace_s=0)


def test_a_text_that_nobody_wants_any_more_is_left_and_the_next_one_takes_its_row():
    left, unread, following = Listener(leaves_after=3), Listener(), Listener()
    unread.choice.is_dropped = True  # before its turn comes
    with running(model(), batch=1) as (engine, _):
        engine.submit([left.choice, unread.choice, following.choice])
        assert following.ended.wait(20)
    assert (len(left.events), unread.events) == (3, [])
    assert following.text


def test_more_texts_than_may_wait_are_refused_together():
    with running(model(), waiting=3) as (engine, _):
        many = [Listener() for _ in range(4)]
        with pytest.raises(RequestError) as refused:
            engine.submit([one.choice for one in many])
        assert refused.value.status == 429
        engine.submit([one.choice for one in many[:3]])
        assert all(one.ended.wait(20) for one in many[:3])
    assert many[3].events == []
    with pytest.raises(RequestError) as refused:
        engine.submit([many[3].choice])
    assert refused.value.status == 503


def test_texts_that_nobody_waits_for_take_no_place_among_those_that_wait():
    engine, left, again = engine_of(model(), waiting=1), Listener(), Listener()
    engine.submit([left.choice])
    left.choice.is_dropped = True
    assert engine.load() == (0, 0)
    engine.submit([again.choice])
    assert engine.load() == (0, 1)


def test_weights_that_are_not_finite_end_texts_with_a_word_and_the_engine_goes_on():
    net = model()
    with torch.no_grad():
        net.embed_tokens.weight[:] = float("nan")
    scored = b'{"prompt": "The cat", "echo": true, "logprobs": 1}'
    with running(net) as (engine, _):
        for one in (Listener(), Listener(scored), Listener()):
            engine.submit([one.choice])
            assert one.ended.wait(20)
            assert isinstance(one.events[-1], RequestError)
            assert one.events[-1].status == 500
            assert "not finite" in one.events[-1].message or "NumericsError" in str(one.events)


class Failing:
    """Reads as the model does, and fails in its fifth call."""

    def __init__(self, read, error: Exception) -> None:
        self.read, self.error = read, error
        self.calls = 0

    def __call__(self, *tokens):
        self.calls += 1
        if self.calls == 5:
            raise self.error
        return self.read(*tokens)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("out of memory: 4 GiB"), torch.AcceleratorError("CUDA error: out of memory")],
)
def test_a_model_that_fails_ends_the_texts_under_way_and_serves_the_next_ones(error):
    net, whole = model(), Listener()
    with running(net) as (engine, told):
        engine.submit([whole.choice])
        assert whole.ended.wait(20)
        decoder = engine._model
        decoder.hidden_states = Failing(decoder.hidden_states, error)
        ill = Listener()
        engine.submit([ill.choice])
        assert ill.ended.wait(20)
        well = Listener()
        engine.submit([well.choice])
        assert well.ended.wait(20)
        wait_for(lambda: engine.load() == (0, 0))
    assert isinstance(ill.events[-1], RequestError)
    assert ill.events[-1].message == f"the model failed: {type(error).__name__}"
    assert str(error) in told[0]
    assert well.text == whole.text


def test_a_card_that_fails_ends_all_texts_and_the_engine():
    ill, waiting, late = Listener(), Listener(), Listener()
    with running(model(), batch=1) as (engine, _):
        decoder = engine._model
        error = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nmore")
        decoder.hidden_states = Failing(decoder.hidden_states, error)
        engine.submit([ill.choice, waiting.choice])
        assert ill.ended.wait(20)
        assert waiting.ended.wait(20)
        with pytest.raises(RequestError) as refused:
            engine.submit([late.choice])
        wait_for(lambda: engine.failure is not None)
    assert ill.events[-1].message == "the model failed: AcceleratorError"
    assert [waiting.events[-1].status, refused.value.status] == [503, 503]
    assert isinstance(engine.failure, InfrastructureError)
    assert "(CUDA error: uncorrectable ECC error encountered)" in str(engine.failure)


def test_an_error_of_the_engine_itself_ends_it_when_all_texts_have_had_their_word():
    def tell(_text: str) -> None:
        raise ValueError("I/O operation on closed file.")

    ill, waiting = Listener(), Listener()
    with running(model(), batch=1, tell=tell) as (engine, _):
        decoder = engine._model
        decoder.hidden_states = Failing(decoder.hidden_states, RuntimeError("ill"))
        engine.submit([ill.choice, waiting.choice])
        assert waiting.ended.wait(20)
        wait_for(lambda: engine.failure is not None)
    assert isinstance(engine.failure, ValueError)
    assert ill.events[-1].message == "the model failed: RuntimeError"
    assert waiting.events[-1].status == 503


def test_a_text_ends_at_the_end_token_which_is_no_text():
    one = Listener(b'{"prompt": "", "temperature": 0, "logprobs": 0}')
    for token in (load_tokenizer().encode(" cat")[0], END_OF_TEXT):
        one.choice.take(torch.nn.functional.one_hot(torch.tensor(token), GPT2_TOKENS).float())
    last = one.events[-1]
    assert isinstance(last, Piece)
    assert (one.text, last.ended, last.tokens) == (" cat", "stop", 1)


def test_half_a_character_at_the_end_is_no_text_and_its_token_is_told():
    one = Listener(b'{"prompt": "", "temperature": 0, "logprobs": 0, "max_tokens": 2}')
    half = load_tokenizer().encode("é🙂")[:2]
    for token in half:
        one.choice.take(torch.nn.functional.one_hot(torch.tensor(token), GPT2_TOKENS).float())
    assert one.text == "é"
    scored = [known for event in one.events for known in event.scored]
    assert [known.token for known in scored] == half
    assert [known.offset for known in scored] == [0, 1]
