"""Writing: the likeliest token every time, whatever is written in the rows beside."""

import math

import pytest
import torch

from tests.evaluate.answers.test_likelihood import CASES, language_model
from tests.evaluate.pretrained import KINDS, POSITIONS, byte_tokenizer, phrase, random_model
from tests.evaluate.uniform import UniformBytes
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import NumericsError, UsageError
from yxanul.evaluate.answers.completion import complete
from yxanul.evaluate.answers.requests import WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.huggingface import wrap_pretrained
from yxanul.evaluate.models.ours import as_language_model
from yxanul.model.generation import GenerationOptions


def requests() -> list[WritingRequest]:
    """Prompts of many lengths, some longer than the window, with ends of many kinds."""
    stops = [("\n", ".", ","), ("the", "cat s"), (), ("é", "🙂")]
    return [
        WritingRequest(phrase(5 * seed, seed=seed), stops[seed % 4], 1 + 7 * (seed % 5))
        for seed in range(8)
    ]


def by_hand(model, request: WritingRequest) -> str:
    """The definition: the whole text is read again for every token, then it is cut."""
    prompt = [*model.opening, *model.encode([request.prompt])[0]]
    ids = prompt[-(model.max_length - request.max_new_tokens) :]
    written: list[int] = []
    while len(written) < request.max_new_tokens:
        tokens = torch.tensor([ids + written])
        (logits,) = model.logits(tokens, torch.tensor([tokens.size(1) - 1]))
        token = int(logits[0, : model.vocabulary].argmax())
        if token in model.end_tokens:
            break
        written.append(token)
    text = model.decode(written)
    for stop in (*request.stop_texts, model.end_text):
        text = text.split(stop)[0]
    return text


# Each writes for seconds; the others stand for these two kinds.
OFTEN = [
    pytest.param(case, marks=[pytest.mark.slow] if case in ("Gemma2", "Mistral") else [])
    for case in CASES
]


@pytest.mark.parametrize("case", OFTEN)
def test_every_text_is_that_of_one_row_alone(case):
    model, asked = language_model(case), requests()
    wanted = [by_hand(model, request) for request in asked]
    for batch in (1, 4, 32):
        assert write(model, asked, batch=batch) == wanted
    assert len(set(wanted)) > 5
    assert any(len(text) > 15 for text in wanted)


def test_transformers_generates_the_same_tokens():
    for kind in KINDS:
        model = language_model(kind)
        prompt = phrase(9, seed=1)
        ids = torch.tensor(model.encode([prompt]))
        theirs = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False
        )
        wanted = model.decode(theirs[0, ids.size(1) :].tolist())
        asked = [WritingRequest(prompt, (), 20), *requests()]
        assert write(model, asked, batch=5)[0] == wanted.split("</s>")[0]


def test_our_single_prompt_path_writes_the_same():
    model = language_model("ours")
    options = GenerationOptions(temperature=0, max_new_tokens=20)
    done = complete(model.model, model.tokenizer, prompt="The cat", options=options)
    assert write(model, [WritingRequest("The cat", (), 20)]) == [done.text]


def test_a_text_ends_at_the_end_token_and_its_row_is_given_on():
    model = random_model("Llama")
    with torch.no_grad():
        model.lm_head.weight[1] *= 2
    asked = [WritingRequest(phrase(2 + n % 5, seed=n), (), 30) for n in range(10)]
    ending = wrap_pretrained(model, byte_tokenizer(), name="ending")
    assert ending.end_tokens == (1,)
    wanted = [by_hand(ending, request) for request in asked]
    assert write(ending, asked, batch=3) == wanted
    model.generation_config.eos_token_id = None
    endless = write(wrap_pretrained(model, byte_tokenizer(), name="endless"), asked, batch=3)
    ended = [len(short) < len(long) for short, long in zip(wanted, endless, strict=True)]
    assert all(long.startswith(short) for short, long in zip(wanted, endless, strict=True))
    assert any(ended)
    assert not all(ended)


def test_the_cache_is_shifted_when_texts_outlast_its_columns():
    model = language_model("ours")
    asked = [WritingRequest("k" * (1 + n % 3), ("\n",), 1 + n % 29) for n in range(60)]
    assert write(model, asked, batch=3) == write(model, asked, batch=60)


class Remembering(UniformBytes):
    """Of many positions; it remembers how many rows a cache of texts has had."""

    max_length = 20_000

    def __init__(self):
        super().__init__()
        self.rows: list[int] = []

    def new_cache(self, rows, columns):
        self.rows.append(rows)
        return super().new_cache(rows, columns)


@pytest.mark.parametrize(("prompt", "rows"), [(100, 32), (8_000, 4), (19_000, 1)])
def test_long_texts_are_written_fewer_at_once(prompt, rows):
    model = Remembering()
    asked = [WritingRequest("k" * prompt, (), 4) for _ in range(40)]
    assert len(set(write(model, asked, batch=32))) == 1
    assert model.rows[0] == rows


def test_an_empty_prompt_begins_a_text():
    for case in ("ours", "Llama"):
        model = language_model(case)
        (text,) = write(model, [WritingRequest("", (), 5)])
        assert text
        begin = torch.tensor([[model.prefix_token]])
        (logits,) = model.logits(begin, torch.tensor([0]))
        assert text.startswith(model.decode([int(logits[0, : model.vocabulary].argmax())]))


def test_an_empty_prompt_without_a_token_to_begin_with_is_refused():
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    model = wrap_pretrained(random_model("Llama"), tokenizer, name="bare")
    with pytest.raises(UsageError, match="bare has no token to begin"):
        write(model, [WritingRequest("", (), 5)])


@pytest.mark.parametrize("tokens", [0, -1, POSITIONS, 10_000])
def test_new_tokens_that_do_not_fit_are_refused_with_both_numbers(tokens):
    with pytest.raises(UsageError, match=f"is {tokens:,} and ours has 64 positions"):
        write(language_model("ours"), [WritingRequest("The", (), tokens)])


def test_all_positions_but_one_may_be_written():
    model = language_model("ours")
    request = WritingRequest(phrase(30, seed=2), (), POSITIONS - 1)
    assert write(model, [request]) == [by_hand(model, request)]


def test_ids_beyond_the_tokenizer_are_never_written():
    for make in (padded_ours, padded_llama):
        model = make()
        text = write(model, [WritingRequest("The cat", (), 20)])[0]
        assert text
        assert text == by_hand(model, WritingRequest("The cat", (), 20))


def padded_ours():
    config = shape(vocab_size=50304, initializer_range=0.3)
    model = model_with_norms(config, attention="plain")
    with torch.no_grad():
        model.embed_tokens.weight[50257:] *= 100
    return as_language_model(model, load_tokenizer(), name="padded")


def padded_llama():
    model = random_model("Llama", vocab_size=300)
    with torch.no_grad():
        model.lm_head.weight[270:] *= 100
    return wrap_pretrained(model, byte_tokenizer(), name="padded")


def test_logits_that_are_not_finite_write_nothing():
    model = model_with_norms(shape(vocab_size=50257), attention="plain")
    with torch.no_grad():
        model.norm.weight[3] = math.nan
    lm = as_language_model(model, load_tokenizer(), name="broken")
    with pytest.raises(NumericsError, match="broken"):
        write(lm, [WritingRequest("The", (), 5)])


def test_an_empty_stop_text_is_refused():
    with pytest.raises(UsageError, match="stop text is empty"):
        write(language_model("ours"), [WritingRequest("The", ("",), 5)])


def test_nothing_asked_is_nothing_written():
    assert write(language_model("ours"), []) == []
