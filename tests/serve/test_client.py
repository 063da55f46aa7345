"""OpenAI's own client against our server: what it asks for is what it gets."""

import json
import math

import pytest
import torch
from openai import OpenAI

from tests.serve.conftest import POSITIONS, serving

PROMPT = "The city of"


def test_an_exported_folder_is_served_as_generate_writes_with_it(run, tmp_path, call):
    folder = tmp_path / "exported"
    assert call("export", run, "--to", "hf", "--out", folder)[0] == 0
    words = ("--temperature", 0, "--max_new_tokens", 8, "--json")
    wanted = json.loads(call("generate", folder, PROMPT, *words)[1])["text"]
    with serving(folder) as found, OpenAI(base_url=f"{found.url}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["exported"]
        asked = {"prompt": PROMPT, "max_tokens": 8, "temperature": 0}
        done = client.completions.create(model="exported", **asked)
    assert done.choices[0].text == wanted


def test_a_text_is_what_generate_writes(client, alone):
    for prompt in (PROMPT, "", "Kraków 🙂\n"):
        found = client.completions.create(
            model="tales", prompt=prompt, max_tokens=20, temperature=0
        )
        wanted = alone(prompt, temperature=0, max_new_tokens=20)
        assert found.choices[0].text == wanted.text
        assert found.choices[0].finish_reason == "length"
        assert found.usage.completion_tokens == 20
    assert (found.object, found.model) == ("text_completion", "tales")


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 20}, {"temperature": 1.5, "top_k": 5}],
    ids=str,
)
def test_the_same_seed_draws_what_generate_draws(client, alone, options):
    found = client.completions.create(
        model="tales", prompt=PROMPT, max_tokens=30, seed=7, extra_body=options
    )
    assert found.choices[0].text == alone(PROMPT, max_new_tokens=30, seed=7, **options).text


def test_without_a_seed_each_text_is_another(client):
    asked = {"model": "tales", "prompt": [PROMPT] * 2, "n": 2}
    found = [client.completions.create(**asked) for _ in "ab"]
    assert len({choice.text for one in found for choice in one.choices}) == 8


def test_a_stream_brings_the_text_in_pieces_and_then_the_usage(client, alone):
    chunks = list(
        client.completions.create(
            model="tales",
            prompt=PROMPT,
            max_tokens=40,
            seed=3,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    wanted = alone(PROMPT, max_new_tokens=40, seed=3)
    *pieces, last = chunks
    assert "".join(chunk.choices[0].text for chunk in pieces) == wanted.text
    assert len(pieces) > 10
    reasons = [chunk.choices[0].finish_reason for chunk in pieces]
    assert reasons == [None] * (len(pieces) - 1) + ["length"]
    assert {chunk.id for chunk in chunks} == {last.id}
    assert all(chunk.usage is None for chunk in pieces)
    assert (last.choices, last.usage.completion_tokens) == ([], 40)


def test_a_text_ends_before_its_stop_text_which_may_lie_across_tokens(client, alone):
    whole = alone(PROMPT, temperature=0, max_new_tokens=60).text
    for stop in (whole[20:27], ["not there", whole[31:33], whole[50:58]]):
        texts = (stop,) if isinstance(stop, str) else stop
        wanted = alone(PROMPT, *texts, temperature=0, max_new_tokens=60)
        asked = {"model": "tales", "prompt": PROMPT, "max_tokens": 60, "temperature": 0}
        found = client.completions.create(**asked, stop=stop, logprobs=1).choices[0]
        assert (found.text, found.finish_reason) == (wanted.text, "stop")
        assert all(offset < len(found.text) for offset in found.logprobs.text_offset)
        pieces = client.completions.create(**asked, stop=stop, stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == wanted.text


def test_texts_of_one_prompt_have_seeds_in_a_row(client, alone):
    asked = {"model": "tales", "prompt": [PROMPT, "A letter"], "n": 3, "seed": 5, "max_tokens": 12}
    found = client.completions.create(**asked)
    assert [choice.index for choice in found.choices] == list(range(6))
    wanted = [
        alone(prompt, max_new_tokens=12, seed=5 + i).text
        for prompt in (PROMPT, "A letter")
        for i in range(3)
    ]
    assert [choice.text for choice in found.choices] == wanted
    assert found.usage.completion_tokens == 72
    # Of a stream each piece says which text it belongs to.
    texts = [""] * 6
    for chunk in client.completions.create(**asked, stream=True):
        (piece,) = chunk.choices
        texts[piece.index] += piece.text
    assert texts == wanted


def test_a_prompt_may_be_ids_with_or_without_the_token_that_begins_a_text(client, loaded, alone):
    ids = loaded.tokenizer.encode(PROMPT)
    asked = {"model": "tales", "max_tokens": 10, "temperature": 0}
    wanted = alone(PROMPT, temperature=0, max_new_tokens=10).text
    for prompt in (ids, [ids], [50256, *ids]):
        found = client.completions.create(**asked, prompt=prompt)
        assert found.choices[0].text == wanted
        assert found.usage.prompt_tokens == len(ids) + 1
    two = client.completions.create(**asked, prompt=[ids, [50256]])
    assert two.choices[0].text == wanted
    assert two.choices[1].text == alone("", temperature=0, max_new_tokens=10).text


def logprobs_by_hand(loaded, ids: list[int]) -> torch.Tensor:
    """The definition: the whole text is read at once."""
    with torch.no_grad():
        hidden = loaded.model.hidden_states(torch.tensor([ids]))
        return loaded.model.logits(hidden)[0, :, :50257].double().log_softmax(1)


def test_logprobs_are_those_of_the_model_itself(client, loaded, alone):
    done = alone(PROMPT, temperature=0.5, seed=2, max_new_tokens=8)
    prompt = loaded.tokenizer.encode(PROMPT)
    wanted = logprobs_by_hand(loaded, [50256, *prompt, *done.tokens])[len(prompt) :]
    found = client.completions.create(
        model="tales", prompt=PROMPT, max_tokens=8, temperature=0.5, seed=2, logprobs=3
    )
    told = found.choices[0].logprobs
    assert len(told.tokens) == len(done.tokens) == 8
    for at, token in enumerate(done.tokens):
        assert math.isclose(told.token_logprobs[at], wanted[at, token], abs_tol=1e-4)
        best = sorted(told.top_logprobs[at].values(), reverse=True)[:3]
        assert torch.allclose(torch.tensor(best).double(), wanted[at].topk(3).values, atol=1e-4)
        assert told.tokens[at] in told.top_logprobs[at]
    for token, begin in zip(told.tokens, told.text_offset, strict=True):
        assert token.startswith("bytes:") or found.choices[0].text.startswith(token, begin)


def test_logprobs_0_tells_of_the_token_alone(client):
    found = client.completions.create(model="tales", prompt=PROMPT, max_tokens=4, logprobs=0)
    told = found.choices[0].logprobs
    assert told.top_logprobs is None
    assert len(told.token_logprobs) == 4
    none = client.completions.create(model="tales", prompt=PROMPT, max_tokens=4)
    assert none.choices[0].logprobs is None


def test_an_echo_scores_the_prompt_as_evaluation_programs_ask_for_it(client, loaded):
    ids = loaded.tokenizer.encode("The city of Kraków lies on a river.")
    wanted = logprobs_by_hand(loaded, [50256, *ids])
    asked = {"model": "tales", "max_tokens": 0, "echo": True, "logprobs": 1}
    for prompt, opening in ((ids, 0), ([50256, *ids], 1)):
        found = client.completions.create(**asked, prompt=prompt)
        told = found.choices[0].logprobs
        assert found.choices[0].text == loaded.tokenizer.decode(prompt)
        assert (found.choices[0].finish_reason, found.usage.completion_tokens) == ("length", 0)
        assert len(told.tokens) == len(prompt)
        assert told.token_logprobs[:opening] == told.top_logprobs[:opening] == [None] * opening
        own = wanted[:-1].gather(1, torch.tensor(ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(told.token_logprobs[opening:]).double(), own, atol=1e-4)
    offsets = client.completions.create(**asked, prompt="ab cd", stream=False).choices[0].logprobs
    assert offsets.text_offset == [0, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_stands_before_the_text(client, alone, stream):
    found = client.completions.create(
        model="tales", prompt=PROMPT, echo=True, max_tokens=5, temperature=0, stream=stream
    )
    chunks = list(found) if stream else [found]
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == PROMPT + alone(PROMPT, temperature=0, max_new_tokens=5).text


def test_a_text_that_is_to_be_endless_ends_with_the_context(client, loaded):
    ids = loaded.tokenizer.encode(" a" * (POSITIONS - 6))
    found = client.completions.create(model="tales", prompt=ids, max_tokens=10**30, temperature=0)
    assert found.choices[0].finish_reason == "length"
    assert found.usage.completion_tokens == POSITIONS - len(ids) - 1 == 5


def test_the_model_is_listed(client):
    (model,) = client.models.list().data
    assert (model.id, model.owned_by, model.max_model_len) == ("tales", "yxanul", POSITIONS - 1)
    assert client.models.retrieve("tales") == model


def test_what_lm_evaluation_harness_asks_of_a_server_is_answered(client, loaded):
    """As its local-completions asks, told max_length = max_model_len: one less, and one token."""
    (model,) = client.models.list().data
    ids = loaded.tokenizer.encode(" a" * (model.max_model_len - 1))
    assert len(ids) == model.max_model_len - 1
    asked = {"model": "tales", "temperature": 0, "seed": 1234}
    found = client.completions.create(
        **asked, prompt=[ids], max_tokens=1, logprobs=1, echo=True
    ).choices[0]
    assert len(found.logprobs.token_logprobs) == len(ids) + 1
    stops = ["\nclass", "\ndef", "\n#", "\nif", "\nprint", "<|endoftext|>"]  # its humaneval
    found = client.completions.create(**asked, prompt=[ids[:9]], max_tokens=4, stop=stops)
    assert found.usage.completion_tokens
