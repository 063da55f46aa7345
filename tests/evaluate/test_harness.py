"""lm-evaluation-harness itself: its class for the same weights says what we say, item by item."""

import json
import sys

import pytest

from tests.evaluate.answers.test_likelihood import language_model
from tests.evaluate.answers.test_likelihood import requests as continuations
from tests.evaluate.answers.test_writing import requests as prompts
from tests.evaluate.pretrained import (
    KINDS,
    asked,
    byte_tokenizer,
    gpt2_tokenizer,
    phrase,
    random_model,
)
from tests.export.subjects import subject
from tests.model.test_parity import theirs_like
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import load_tokenizer
from yxanul.errors import MissingExtraError, UsageError
from yxanul.evaluate.answers.likelihood import likelihoods, score_pairs
from yxanul.evaluate.answers.pairs import Pair
from yxanul.evaluate.answers.requests import Continuations, WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.harness import harness_model, writing_request
from yxanul.evaluate.models.huggingface import wrap_pretrained
from yxanul.evaluate.models.ours import as_language_model
from yxanul.export.huggingface import write_folder

pytest.importorskip("lm_eval", reason='needs the extra: pip install "yxanul[eval]"')
pytest.importorskip("accelerate", reason="lm-evaluation-harness' own class needs accelerate")
# Theirs, not ours: what its packages warn of is nothing that can be mended here.
pytestmark = pytest.mark.filterwarnings("default")

# Each kind writes for seconds, and a tokenizer's beginning is not of its making: one stands for it.
WRITERS = [
    *(pytest.param(kind, False, id=f"{kind}-plain") for kind in KINDS),
    *(
        pytest.param(
            kind, True, id=f"{kind}-begins", marks=[] if kind == "Llama" else [pytest.mark.slow]
        )
        for kind in KINDS
    ),
]


def their_class(model, tokenizer, *, batch: int = 4, **options):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch, max_length=64, **options)


def pair_requests(requests: list[Continuations]) -> list:
    """Without contexts of white space and texts beyond the window, at which theirs fails."""
    fitting = [r for r in requests if r.context.strip() or not r.context]
    return [asked(r.context, text) for r in fitting for text in r.texts]


@pytest.mark.parametrize("begins", [False, True], ids=["plain", "begins"])
@pytest.mark.parametrize("kind", KINDS)
def test_likelihoods_are_theirs(kind, begins):
    tokenizer = byte_tokenizer(begins=begins)
    model = random_model(kind)
    ours = harness_model(wrap_pretrained(model, tokenizer, name=kind), batch_tokens=200)
    requests = [
        *pair_requests(continuations()),
        asked("ends in spaces  ", "dog"),
        asked("<s> begins", " itself"),
        asked("", "<s>begins itself"),
        asked("q", "x" * 64),
        asked(phrase(60, seed=1), " " + phrase(4, seed=2)),
    ]
    theirs = their_class(model, tokenizer).loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in theirs], abs=1e-4)
    assert [one[1] for one in found] == [one[1] for one in theirs]


@pytest.mark.parametrize("words", [0, 1, 30, 200])
def test_whole_texts_cost_what_they_cost_there(words):
    model, tokenizer = random_model("Llama"), byte_tokenizer()
    requests = [asked(phrase(words, seed=seed) if words else "") for seed in range(3)]
    theirs = their_class(model, tokenizer).loglikelihood_rolling(requests, disable_tqdm=True)
    found = harness_model(wrap_pretrained(model, tokenizer, name="x")).loglikelihood_rolling(
        requests
    )
    assert found == pytest.approx(theirs, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("words", [0, 3])
def test_what_a_tokenizer_adds_before_a_whole_text_is_scored_there_and_not_here(words):
    model, tokenizer = random_model("Llama"), byte_tokenizer(begins=True)
    ours = wrap_pretrained(model, tokenizer, name="x")
    text = phrase(words, seed=1) if words else ""
    ids = tuple(ours.encode([text])[0])
    theirs = their_class(model, tokenizer).loglikelihood_rolling([asked(text)], disable_tqdm=True)
    pairs = [Pair(0, (0,), (0, *ids)), *([Pair(1, (0,), ids)] if ids else [])]
    with_added, alone = score_pairs(ours, pairs, owners=2)
    assert theirs == pytest.approx([-with_added.nats], rel=1e-5)
    found = harness_model(ours).loglikelihood_rolling([asked(text)])
    assert found == pytest.approx([-alone.nats], rel=1e-5)


@pytest.mark.parametrize(("kind", "begins"), WRITERS)
def test_texts_are_theirs(kind, begins):
    tokenizer = byte_tokenizer(begins=begins)
    model = random_model(kind)
    requests = [
        asked(r.prompt, {"until": list(r.stop_texts), "max_gen_toks": r.max_new_tokens})
        for r in prompts()
    ]
    theirs = their_class(model, tokenizer).generate_until(requests, disable_tqdm=True)
    ours = harness_model(wrap_pretrained(model, tokenizer, name=kind), batch=3)
    assert ours.generate_until(requests) == theirs
    assert any(theirs)


def ours_and_theirs():
    """Our transformer with half its vocabulary, and the same weights as their Gemma."""
    config = shape(vocab_size=50257, initializer_range=0.3)
    model = model_with_norms(config, attention="plain")
    theirs = theirs_like(model).eval()
    theirs.config.bos_token_id = theirs.config.eos_token_id = 50256
    theirs.generation_config.eos_token_id = 50256
    return model, theirs


TASKS = {
    "endings": """
        output_type: multiple_choice
        test_split: test
        doc_to_text: "{{context}}"
        doc_to_target: "{{answer}}"
        doc_to_choice: "{{choices}}"
        metric_list: [{metric: acc}, {metric: acc_norm}]
    """,
    "answers": """
        output_type: generate_until
        test_split: test
        doc_to_text: "Question: {{context}}\\nAnswer:"
        doc_to_target: "{{choices[0]}}"
        generation_kwargs: {until: ["\\n", "."], max_gen_toks: 12, do_sample: false}
        metric_list: [{metric: exact_match}]
    """,
    "texts": """
        output_type: loglikelihood_rolling
        test_split: test
        doc_to_text: ""
        doc_to_target: "{{context}}"
        metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]
    """,
}


@pytest.fixture
def tasks(tmp_path):
    """Three tasks over local rows, written as their YAML files."""
    rows = [
        {
            "context": phrase(4 + 5 * n, seed=n),
            "choices": [phrase(1 + (n + m) % 4, seed=50 + m) for m in range(4)],
            "answer": n % 4,
        }
        for n in range(6)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    place = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {data}}}}}\n"
    for name, text in TASKS.items():
        body = "\n".join(line.strip() for line in text.strip().splitlines())
        (tmp_path / f"{name}.yaml").write_text(f"task: {name}\n{place}{body}\n", encoding="utf-8")
    return tmp_path


def test_their_evaluator_drives_our_transformer_to_their_own_scores(tasks, monkeypatch):
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tasks / "cache"))
    model, theirs = ours_and_theirs()
    ours = as_language_model(model, load_tokenizer(), name="ours", opening=())
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    found = [
        lm_eval.simple_evaluate(
            model=lm, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0, log_samples=True
        )
        for lm in (harness_model(ours), their_class(theirs, gpt2_tokenizer()))
    ]
    scores, reference = (one["results"] for one in found)
    assert set(scores) == set(TASKS)
    for task in TASKS:
        for metric, value in reference[task].items():
            if isinstance(value, float):
                assert scores[task][metric] == pytest.approx(value, rel=1e-5), (task, metric)
    for mine, other in zip(
        found[0]["samples"]["answers"], found[1]["samples"]["answers"], strict=True
    ):
        assert mine["resps"] == other["resps"]


def test_our_transformer_and_its_export_score_alike():
    model, theirs = ours_and_theirs()
    ours = as_language_model(model, load_tokenizer(), name="ours", opening=())
    wrapped = wrap_pretrained(theirs, gpt2_tokenizer(), name="theirs")
    for one, other in zip(
        likelihoods(ours, continuations()), likelihoods(wrapped, continuations()), strict=True
    ):
        assert [x.nats for x in one] == pytest.approx([x.nats for x in other], abs=1e-4)
        assert [x.tokens for x in one] == [x.tokens for x in other]
    assert write(ours, prompts()) == write(wrapped, prompts())


def test_their_class_reads_an_export_as_the_run_is_read_when_told_to_begin_it(tmp_path):
    one = subject()
    write_folder(one, tmp_path, kind="f32", card="# A card\n")
    ours = harness_model(as_language_model(one.model, one.tokenizer, name="run"))
    theirs = their_class(str(tmp_path), None, device="cpu", dtype="float32", add_bos_token=True)
    pairs = [asked("The city of", " London"), asked("", "London is"), asked("x ", "y")]
    found = [nats for nats, _ in ours.loglikelihood(pairs)]
    wanted = [nats for nats, _ in theirs.loglikelihood(pairs, disable_tqdm=True)]
    assert found == pytest.approx(wanted, abs=1e-4)
    texts = [asked("The city of", {"until": ["\n"], "max_gen_toks": 8})]
    assert ours.generate_until(texts) == theirs.generate_until(texts, disable_tqdm=True)


def test_until_may_be_one_text_and_the_rest_has_their_defaults():
    assert writing_request("p", {"until": "\n"}) == WritingRequest("p", ("\n",), 256)
    assert writing_request("p", {"until": None, "do_sample": False, "temperature": 0.0}) == (
        WritingRequest("p", (), 256)
    )


@pytest.mark.parametrize("option", [("do_sample", True), ("temperature", 0.7), ("num_beams", 4)])
def test_writing_that_is_not_greedy_is_refused(option):
    name, value = option
    with pytest.raises(UsageError, match=f"{name}={value}"):
        harness_model(language_model("Llama")).generate_until([asked("p", {name: value})])


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(MissingExtraError, match=r"yxanul\[eval\]"):
        harness_model(language_model("Llama"))
