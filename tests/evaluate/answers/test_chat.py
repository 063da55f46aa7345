"""A question has the form of the training texts; the border of its trace is found in any pieces."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yxanul.config.load import load_config
from yxanul.data.sources.traces.trace import Trace
from yxanul.errors import CorruptCheckpointError, UsageError
from yxanul.evaluate.answers.chat import TAGS, WORDS, Borders, chat_form

HUB = "Two and two?\n\n<think>\nIt is four.\n</think>\n\n4"


def test_a_trace_of_the_embedded_sources_is_prompt_and_text():
    whole = Trace("Two and two?", "It is four.", "4").text()
    prompt = WORDS.prompt(" Two and two?\n")
    assert whole.startswith(prompt)
    assert WORDS.parts(whole.removeprefix(prompt)) == ("It is four.", "4")


def test_a_trace_of_the_hub_is_prompt_and_text():
    # As configs/stage2_reasoning.yaml joins a question and its trace.
    prompt = TAGS.prompt("Two and two?")
    assert HUB.startswith(prompt)
    assert TAGS.parts(HUB.removeprefix(prompt)) == ("It is four.", "4")
    assert TAGS.parts("goes on and on") == ("goes on and on", None)


@pytest.mark.parametrize("form", [WORDS, TAGS])
@given(data=st.data())
def test_pieces_of_a_text_are_told_apart_wherever_it_is_cut(form, data):
    trace = data.draw(st.text(alphabet="a<\n/tAn", max_size=12))
    answer = data.draw(st.text(alphabet="a<\n/tAn", max_size=6))
    text = trace + data.draw(st.sampled_from([form.border, form.border[:-1]])) + answer
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    borders, found = Borders(form), []
    for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += borders.push(text[begin:end])
    found.append(borders.finish())
    at = text.find(form.border)
    wanted = (text, "") if at < 0 else (text[:at], text[at:])
    joined = tuple("".join(t for t, is_answer in found if is_answer == kind) for kind in (0, 1))
    assert joined == wanted


def loaded(tmp_path, *, trained: list[str] | None):
    if trained is not None:
        state = {"data": dict.fromkeys(trained, "sha256")}
        (tmp_path / "state.json").write_text(json.dumps(state))
    config = load_config(Path("configs"))
    return SimpleNamespace(info=SimpleNamespace(path=tmp_path), config=config)


@pytest.mark.parametrize(
    ("trained", "form"),
    [
        (["wikipedia_leads", "reasoning_traces"], WORDS),
        (["gsm_symbolic"], WORDS),
        (["wikipedia", "mixture_of_thoughts", "gsm8k"], TAGS),
    ],
)
def test_the_form_is_that_of_what_was_trained(tmp_path, trained, form):
    assert chat_form(loaded(tmp_path, trained=trained)) == form


def test_a_model_of_no_traces_and_a_checkpoint_that_does_not_tell_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no traces of a known form.*mixture_of_thoughts"):
        chat_form(loaded(tmp_path, trained=["wikipedia"]))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(CorruptCheckpointError, match="does not say"):
        chat_form(loaded(tmp_path, trained=None))
