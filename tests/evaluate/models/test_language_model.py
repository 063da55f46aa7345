"""A model is opened by name, ours or another's; what cannot be opened is told in one sentence."""

import json
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch

from tests.evaluate.pretrained import byte_tokenizer, random_model
from tests.evaluate.runs import add_checkpoint, write_run
from tests.model.tiny import model_with_norms, shape
from yxanul.data.tokenizer import EOT, load_tokenizer
from yxanul.errors import (
    CorruptDataError,
    HubUnreachableError,
    MissingExtraError,
    UsageError,
)
from yxanul.evaluate.answers.requests import WritingRequest
from yxanul.evaluate.answers.writing import write
from yxanul.evaluate.models.huggingface import wrap_pretrained
from yxanul.evaluate.models.language_model import open_model, with_opening
from yxanul.evaluate.models.ours import as_language_model

REQUEST = [WritingRequest("kcat", (), 8)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder as save_pretrained leaves it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    random_model("Llama").save_pretrained(folder)
    byte_tokenizer(begins=True).save_pretrained(folder)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def change_config(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_run_folder_and_its_checkpoint_are_the_same_model(tmp_path):
    run = write_run(tmp_path / "run")
    checkpoint = add_checkpoint(run, 3)
    models = [open_model(str(place)) for place in (run.root, checkpoint)]
    assert [model.name for model in models] == [str(run.root), str(checkpoint)]
    assert write(models[0], REQUEST) == write(models[1], REQUEST)
    assert models[0].opening == (EOT,) == models[0].end_tokens
    assert open_model(str(run.root), opening=()).opening == ()


def test_a_folder_of_transformers_is_the_model_that_was_saved(saved):
    model = open_model(str(saved))
    assert model.notes == ()
    kept = wrap_pretrained(random_model("Llama"), byte_tokenizer(begins=True), name="kept")
    assert write(model, REQUEST) == write(kept, REQUEST)
    assert (model.opening, model.prefix_token, model.end_tokens) == ((0,), 0, (1,))
    assert (model.max_length, model.vocabulary) == (64, 270)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), (None, torch.float32)])
def test_the_precision_is_the_saved_one_or_the_wanted_one(saved, precision, dtype):
    assert open_model(str(saved), precision=precision).model.dtype == dtype


def test_a_gemma_with_several_ends_is_not_taken_for_an_export_of_ours(copied):
    change_config(copied, model_type="gemma", head_dim=8, eos_token_id=[1, 107])
    model = open_model(str(copied))
    assert (model.opening, model.notes) == ((0,), ())


def test_a_text_that_begins_with_the_opening_is_not_opened_twice(saved):
    model = open_model(str(saved))
    for text in ("the cat", "<s>the cat"):
        (ids,) = model.encode([text])
        assert with_opening(model, ids) == [0, *model.encode(["the cat"])[0]]
    assert with_opening(open_model(str(saved), opening=()), [5]) == [5]


def test_special_tokens_are_no_text_and_half_a_character_is_a_mark(saved):
    ours = as_language_model(model_with_norms(shape(vocab_size=50257)), load_tokenizer(), name="x")
    for model in (open_model(str(saved)), ours):
        (ids,) = model.encode(["n🙂"])
        assert model.decode(ids) == "n🙂"
        assert set(model.decode(ids[:-1])) == {"n", "\ufffd"}
    model = open_model(str(saved))
    assert model.decode([0, *model.encode(["cat"])[0], 1]) == "cat"


@pytest.mark.parametrize("name", ["nonsense", "a/b/c", "../nowhere", "a b/c"])
def test_a_name_that_is_nothing_is_told(name):
    with pytest.raises(UsageError, match="no folder here, and no hub id"):
        open_model(name)


def test_a_folder_that_is_no_model_is_told(tmp_path):
    with pytest.raises(UsageError, match="neither a run folder nor one of its checkpoints"):
        open_model(str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_an_outage():
    # The tests run with HF_HUB_OFFLINE.
    with pytest.raises(
        HubUnreachableError, match=r"nobody/nothing .* could not be reached"
    ) as told:
        open_model("nobody/nothing")
    assert told.value.exit_code == 11


def test_weights_that_are_cut_short_are_damage(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CorruptDataError, match=r"weights of .*model are damaged"):
        open_model(str(copied))


def test_pickled_weights_are_never_read(copied):
    (copied / "model.safetensors").unlink()
    torch.save(random_model("Llama").state_dict(), copied / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"model\.safetensors"):
        open_model(str(copied))


def test_code_that_comes_with_a_model_is_never_run(copied):
    (copied / "theirs.py").write_text("raise SystemExit('run')\n")
    change_config(copied, model_type="theirs", auto_map={"AutoConfig": "theirs.Config"})
    with pytest.raises(UsageError, match="custom code"):
        open_model(str(copied))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"num_hidden_layers": 3}, r"model\.layers\.2\."),
        ({"intermediate_size": 48}, r"model\.layers\.0\.mlp\."),
    ],
)
def test_weights_that_do_not_fit_are_named(copied, changes, key):
    change_config(copied, **changes)
    with pytest.raises(UsageError, match=f"no fitting weights for {key}"):
        open_model(str(copied))


def test_what_greedy_writing_leaves_out_of_a_generation_configuration_is_told(copied):
    path = copied / "generation_config.json"
    asked = json.loads(path.read_text()) | {"num_beams": 1, "repetition_penalty": 1.3}
    path.write_text(json.dumps(asked | {"no_repeat_ngram_size": 2, "temperature": 0.7}))
    (note,) = open_model(str(copied)).notes
    assert "asks for repetition_penalty 1.3, no_repeat_ngram_size 2, which is not applied" in note


def test_a_folder_without_a_tokenizer_is_told(copied):
    for path in copied.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UsageError, match="is no model that can be opened here"):
        open_model(str(copied))


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(copied):
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<x>", "<y>"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(UsageError, match="272 ids and the model 270 rows"):
        open_model(str(copied))


def test_ours_with_fewer_ids_than_gpt2_is_refused():
    with pytest.raises(UsageError, match="tiny has 199 ids and GPT-2's tokenizer has 50,257"):
        as_language_model(model_with_norms(shape()), load_tokenizer(), name="tiny")


def test_a_model_that_keeps_a_state_is_refused():
    model = random_model("Llama")
    model._is_stateful = True
    with pytest.raises(UsageError, match="a state"):
        wrap_pretrained(model, byte_tokenizer(), name="recurrent")


def test_without_transformers_the_extra_is_named(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"yxanul\[eval\]"):
        open_model(str(saved))


class Answer(BaseHTTPRequestHandler):
    """A hub without the model `missing` that answers all else with an error of its own."""

    def do_GET(self):
        self.send_response(404 if "missing" in self.path else 503)
        if "missing" in self.path:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Nothing on the screen."""


def test_what_the_hub_answers_is_told(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    program = (
        "from yxanul.evaluate.models.language_model import open_model\n"
        "for name in ('nobody/missing', 'nobody/broken'):\n"
        "    try: open_model(name)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    server.shutdown()
    server.server_close()
    missing, broken = done.stdout.splitlines()
    assert missing.startswith("UsageError nobody/missing is no folder here, and the hub has no")
    assert broken.startswith("HubUnreachableError nobody/broken is no folder here")
