"""Text from tokens: whole characters, no trace of a stop text, the same streamed or not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import VOCAB_SIZE, load_tokenizer
from yxanul.errors import UsageError
from yxanul.evaluate.answers.completion import TextStream, complete
from yxanul.model.generation import GenerationOptions

TOKENIZER = load_tokenizer()
# initializer_range: a new model that says more than one word.
MODEL = model_with_norms(shape(vocab_size=VOCAB_SIZE, initializer_range=0.3))
TEXTS = st.text(max_size=40) | st.text(alphabet=" \nab'1.😀é日<|endoftext|>", max_size=40)


def streamed(tokens: list[int], *stops: str) -> tuple[list[str], bool]:
    """The pieces that a stream gave, up to its stop text, and whether there was one."""
    stream = TextStream(TOKENIZER, stops)
    pieces = []
    for token in tokens:
        pieces.append(stream.push(token))
        if stream.is_stopped:
            break
    return [*pieces, stream.finish()], stream.is_stopped


@given(text=TEXTS)
def test_the_pieces_are_the_text_and_no_piece_ends_inside_a_character(text):
    pieces, stopped = streamed(TOKENIZER.encode(text))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)
    assert not stopped


@given(text=TEXTS, stop=st.text(alphabet="ab 😀é\n", min_size=1, max_size=4), spaces=st.booleans())
def test_text_ends_before_its_first_stop_text(text, stop, spaces):
    text = text + ("  " if spaces else "") + stop + "more"
    pieces, stopped = streamed(TOKENIZER.encode(text), stop)
    assert "".join(pieces) == text.partition(stop)[0]
    assert stopped


@given(text=TEXTS, stop=st.text(alphabet="abé", min_size=1, max_size=3))
def test_what_only_looks_like_a_stop_text_is_given_at_the_end(text, stop):
    tokens = TOKENIZER.encode(text.replace(stop, "") + stop[:-1])
    whole = TOKENIZER.decode(tokens)
    pieces, stopped = streamed(tokens, stop)
    assert "".join(pieces) == whole.partition(stop)[0]
    assert stopped == (stop in whole)


def test_a_stop_text_may_span_tokens_and_none_of_it_is_shown_before():
    tokens = TOKENIZER.encode("one two three four")
    assert len(tokens) == 4
    stream = TextStream(TOKENIZER, ["two three"])
    assert [stream.push(token) for token in tokens[:3]] == ["one", " ", ""]
    assert stream.is_stopped
    assert stream.finish() == ""


def test_of_several_stop_texts_the_first_in_the_text_counts():
    assert streamed(TOKENIZER.encode("a. b! c?"), "?", "!", "never") == (
        ["a", ".", " b", "", ""],
        True,
    )


def test_half_a_character_is_never_shown():
    first, second = TOKENIZER.encode("😀")
    stream = TextStream(TOKENIZER)
    assert (stream.push(first), stream.finish()) == ("", "")
    assert stream.push(second) == "😀"
    # What can be no character any more is shown as such, at once.
    assert "".join(streamed([first, *TOKENIZER.encode("a")])[0]) == "\ufffda"


def run(prompt: str = "The city", *stops: str, show=None, **options):
    return complete(
        MODEL,
        TOKENIZER,
        prompt=prompt,
        options=GenerationOptions(**options),
        stop_texts=stops,
        show=show,
    )


def test_what_is_shown_is_the_text_and_the_text_is_that_of_the_tokens():
    shown: list[str] = []
    done = run(show=shown.append, max_new_tokens=30)
    assert "".join(shown) == done.text
    assert len(shown) > 5
    assert all(shown)
    assert TOKENIZER.decode(done.tokens).removesuffix("\ufffd").startswith(done.text)
    assert done.stop_reason == "max_new_tokens"
    assert done.prompt == "The city"


def test_a_stop_text_ends_the_text_before_it():
    whole = run(max_new_tokens=30)
    stop = whole.text[12:17]
    done = run("The city", stop, max_new_tokens=30)
    assert done.stop_reason == "stop_text"
    assert done.text == whole.text.partition(stop)[0]
    assert done.tokens == whole.tokens[: len(done.tokens)]


def test_an_empty_prompt_begins_a_document():
    first, again = run("", temperature=0, max_new_tokens=1), run("", temperature=0)
    with torch.no_grad():
        logits = MODEL.logits(MODEL.hidden_states(torch.tensor([[TOKENIZER.eot]])))[0, -1]
    assert first.tokens == again.tokens[:1] == [int(logits.argmax())]


def test_the_leading_token_counts_when_a_prompt_is_too_long():
    positions = MODEL.config.max_position_embeddings
    fits = " a" * (positions - 2)
    assert len(run(fits).tokens) == 1
    with pytest.raises(UsageError, match=f"{positions} tokens .* {positions} positions"):
        run(fits + " a")


def test_an_empty_stop_text_is_refused():
    with pytest.raises(UsageError, match="stop text is empty"):
        run("a", "b", "")
