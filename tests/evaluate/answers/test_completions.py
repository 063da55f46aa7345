"""Many prompts together: each text is the one that its prompt has alone, however it ends."""

import pytest

from tests.evaluate.answers.test_completion import MODEL, TOKENIZER
from yxanul.errors import UsageError
from yxanul.evaluate.answers.completion import Completion, complete
from yxanul.evaluate.answers.completions import _BATCHES, complete_all
from yxanul.evaluate.models.ours import as_language_model
from yxanul.evaluate.unheard import Unwatched
from yxanul.model.generation import GenerationOptions, decoding_copy

DECODER = decoding_copy(MODEL)
OWN = as_language_model(DECODER, TOKENIZER, name="the model")
PROMPTS = [
    "The city of",
    "",
    "a " * 40,
    "Kraków is 🙂",
    "x",
    "word " * 61,  # with what stands before it all positions but one
    "one two three",
    "The city of",
]


def together(prompts=PROMPTS, *, batch: int = 32, stops=(), **changes) -> list[Completion]:
    return list(
        complete_all(
            OWN,
            prompts,
            options=GenerationOptions(**changes),
            watcher=Unwatched(),
            stop_texts=stops,
            batch=batch,
        )
    )


def alone(prompt: str, *, stops=(), **changes) -> Completion:
    options = GenerationOptions(**changes)
    return complete(DECODER, TOKENIZER, prompt=prompt, options=options, stop_texts=stops)


def essence(done: Completion) -> tuple:
    return done.prompt, done.text, done.tokens, done.stop_reason


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "repetition_penalty": 1.4},
        {"temperature": 1.0, "seed": 3, "top_k": 200},
        {"temperature": 1e-300, "top_k": 10**9, "top_p": 1.0},
        {"temperature": 0.9, "repetition_penalty": 1.2, "top_k": 50, "top_p": 0.9},
    ],
    ids=str,
)
def test_each_text_is_what_it_is_alone(changes):
    wanted = [essence(alone(prompt, max_new_tokens=6, **changes)) for prompt in PROMPTS]
    for batch in (1, 32) if changes["temperature"] == 0 else (3,):
        found = [essence(one) for one in together(batch=batch, max_new_tokens=6, **changes)]
        assert found == wanted
    assert {reason for *_, reason in wanted} == {"max_new_tokens", "context"}
    assert len({text for _, text, *_ in wanted}) > 4


def test_texts_end_before_stop_texts_also_where_these_span_tokens():
    whole = alone("x", temperature=0.0).text
    stops = (whole[7:13], whole[20:24])
    for done in together(stops=stops, temperature=0.0):
        assert essence(done) == essence(alone(done.prompt, stops=stops, temperature=0.0))
    assert alone("x", stops=stops, temperature=0.0).stop_reason == "stop_text"


def test_all_may_end_at_their_first_token():
    found = together(["x"] * 7, batch=3, max_new_tokens=1)
    assert [len(one.tokens) for one in found] == [1] * 7
    assert len({one.text for one in found}) == 1
    assert all(one.tokens_per_s > 0 for one in found)


def test_texts_come_in_the_order_of_their_prompts():
    assert [one.prompt for one in together(PROMPTS * 3, batch=4, max_new_tokens=3)] == PROMPTS * 3
    assert together([]) == []


class Counting(Unwatched):
    """Counts the texts that have ended."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def begin(self, what: str, *, total: int | None) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.done += count


def test_of_a_long_file_the_first_texts_come_before_the_last_are_written():
    """From short to long; of those that are taken together the longest is written first."""
    prompts = ["a " * (1 + n) for n in range(3 * _BATCHES)]
    watcher, options = Counting(), GenerationOptions(max_new_tokens=2)
    found = complete_all(OWN, prompts, options=options, watcher=watcher, batch=1)
    assert next(found).prompt == prompts[0]
    assert watcher.total == len(prompts)
    assert watcher.done <= _BATCHES
    assert [one.prompt for one in found] == prompts[1:]
    assert watcher.done == len(prompts)


def test_what_cannot_be_written_is_told_before_anything_is():
    with pytest.raises(UsageError, match=r"prompt 2 of 3: the prompt has 81 tokens"):
        together(["a", "a " * 79 + "b", "c"])
    with pytest.raises(UsageError, match="stop text is empty"):
        together(["a"], stops=("",))
