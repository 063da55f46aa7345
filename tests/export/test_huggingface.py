"""A folder for transformers says what the model says, forwards and backwards, and comes back."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.evaluate.runs import add_checkpoint
from tests.export.subjects import card_and_example, run_with_checkpoints, subject
from tests.model.tiny import difference, gradients, rows
from tests.train.world import BATCH_TOKENS, STAGES, World
from yxanul.config.tokens import END_OF_TEXT
from yxanul.curriculum.course import read_frozen_config
from yxanul.errors import CorruptDataError, DiskError, ExportCheckError, UsageError
from yxanul.evaluate.answers.likelihood import likelihoods
from yxanul.evaluate.answers.requests import Continuations
from yxanul.evaluate.models.language_model import open_model
from yxanul.evaluate.models.ours import as_language_model
from yxanul.export.average import average, wanted_checkpoints
from yxanul.export.exporting import export_folder
from yxanul.export.huggingface import TransformersReader
from yxanul.export.reading import read_folder
from yxanul.model.transformer import Transformer
from yxanul.train.starting.init_from import take_weights


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple:
    """A model and its folder."""
    one, said = subject(), []
    out = tmp_path_factory.mktemp("hf") / "model"
    done = export_folder(one, out, kind="f32", card="# A card\n", say=said.append)
    return one, out, done, said


def test_logits_and_gradients_are_the_models(exported):
    one, folder, _, _ = exported
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    inputs, targets = rows(3, 33, vocab=50257)
    one.model.zero_grad()
    one.model(inputs, targets).backward()
    logits = theirs(inputs).logits
    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    assert difference(one.model.logits(one.model.hidden_states(inputs)), logits) < 1e-5
    reference = dict(theirs.model.named_parameters())
    for name, gradient in gradients(one.model).items():
        assert difference(gradient, reference[name].grad) < 1e-5, name


def test_ids_of_special_tokens_are_gpt2s_and_nothing_pads(exported):
    folder = exported[1]
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.bos_token_id, config.eos_token_id) == (END_OF_TEXT, END_OF_TEXT)
    assert config.pad_token_id is None
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == 50257
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == END_OF_TEXT
    assert tokenizer("a b")["input_ids"] == exported[0].tokenizer.encode("a b")
    # The default of transformers 4 has token_type_ids too.
    names = json.loads((folder / "tokenizer_config.json").read_text())["model_input_names"]
    assert names == ["input_ids", "attention_mask"]
    assert tokenizer.decode(tokenizer("  a  , b !")["input_ids"]) == "  a  , b !"


def test_an_export_is_scored_like_the_run_that_it_came_from(exported):
    one, folder, _, _ = exported
    asked = [Continuations("The city of", (" London", " x y")), Continuations("", ("The city",))]
    ours = as_language_model(one.model, one.tokenizer, name="run")
    theirs = open_model(str(folder))
    assert theirs.opening == ours.opening == (END_OF_TEXT,)
    assert any("texts begin with <|endoftext|>" in note for note in theirs.notes)
    pairs = zip(likelihoods(ours, asked), likelihoods(theirs, asked), strict=True)
    for mine, other in pairs:
        assert [x.nats for x in mine] == pytest.approx([x.nats for x in other], abs=1e-3)
    bare = open_model(str(folder), opening=())
    assert (bare.opening, bare.notes) == ((), ())


def test_the_example_of_the_card_runs(exported, capsys):
    exec(card_and_example(exported[0], exported[1])[1], {})
    assert capsys.readouterr().out.startswith("<|endoftext|>The city of")


def test_the_checks_are_told_with_their_figures(exported):
    _, folder, done, said = exported
    assert [check.name for check in done.checks] == ["token ids", "logits", "perplexity"]
    assert done.checks[1].figure < 1e-5
    assert done.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert len(said) == 3
    assert all("transformers" in line for line in said)
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_way_back_and_out_again_gives_the_same_bytes(exported, tmp_path, call):
    _, folder, _, _ = exported
    code, _, told = call("export", folder, "--to", "hf", "--out", tmp_path / "again")
    assert (code, "perplexity is not compared" in told) == (0, True)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_weights_taken_from_a_folder_are_exported_as_the_same_bytes(exported, tmp_path):
    _, folder, _, _ = exported
    other = subject()
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.zero_()
    assert take_weights(folder, other.model) == folder.resolve()
    export_folder(other, tmp_path / "again", kind="f32", card="# A card\n", say=lambda _: None)
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_program_begins_a_run_with_a_folder_and_goes_on_without_it(tmp_path, call):
    world = World.create(tmp_path / "world")
    run, folder = run_with_checkpoints(tmp_path / "run"), tmp_path / "hf"
    assert call("export", run.root, "--to", "hf", "--out", folder)[0] == 0
    stage = ("--stage", STAGES[0])
    world.finish("train", "new", *stage, "--init_from", str(folder), "--max_steps", "1")
    world.finish("train", "new", *stage, "--max_steps", "2")
    rows = [json.loads(x) for x in (world.root / "new" / "lineage.jsonl").read_text().splitlines()]
    assert rows[0]["parent"] == str(folder.resolve())
    other = ("--init_from", str(folder), "--set", "model.hidden_size=32")
    refused = world.finish("train", "other", *stage, *other, code=30)
    assert "--init_from" in refused.stderr
    assert "hidden_size is 16, and this run's is 32" in refused.stderr


def test_a_run_from_a_folder_is_rolled_back_to_it(tmp_path, call):
    world = World.create(tmp_path / "world")
    run, folder = run_with_checkpoints(tmp_path / "run"), tmp_path / "hf"
    assert call("export", run.root, "--to", "hf", "--out", folder)[0] == 0
    stage = ("--stage", STAGES[0], "--set", f"training.total_tokens={BATCH_TOKENS}")
    world.finish("train", "new", *stage, "--init_from", str(folder))
    words = (*stage[:2], "--override", "rollback", "--reason", "a test")
    assert call("gate", world.root / "new", *words)[0] == 0
    kept = folder.rename(tmp_path / "elsewhere")
    told = world.finish("train", "new", *stage, code=31).stderr
    assert f"the gate asks to go back to {folder}, which cannot be used" in told
    kept.rename(folder)
    world.finish("train", "new", *stage)
    lineage = (world.root / "new" / "lineage.jsonl").read_text().splitlines()
    begun = [row for row in map(json.loads, lineage) if row["event"] == "attempt"]
    assert [row["parent"] for row in begun] == [str(folder.resolve())] * 2


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_smaller_numbers_are_rounded_and_held_to_that(tmp_path, kind):
    done = export_folder(subject(), tmp_path / "m", kind=kind, card="", say=lambda _: None)
    stored = load_file(tmp_path / "m" / "model.safetensors")
    assert {str(t.dtype) for t in stored.values()} == {
        {"bf16": "torch.bfloat16", "f16": "torch.float16"}[kind]
    }
    assert 0 < done.checks[1].figure < 5e-2


@pytest.mark.parametrize(
    ("broken", "word"),
    [("encode", "other ids"), ("logits", "other logits"), ("held", "perplexity")],
)
def test_an_export_that_differs_is_taken_away(tmp_path, monkeypatch, broken, word):
    one = subject()
    encode, logits = TransformersReader.encode, TransformersReader.logits

    def other_logits(reader: TransformersReader, ids: list[int]) -> torch.Tensor:
        is_changed = broken == "logits" or list(ids) in one.held_out
        return logits(reader, ids) * (1.01 if is_changed else 1.0)

    if broken == "encode":
        monkeypatch.setattr(TransformersReader, "encode", lambda s, text: encode(s, text)[:-1])
    else:
        monkeypatch.setattr(TransformersReader, "logits", other_logits)
    with pytest.raises(ExportCheckError, match=word):
        export_folder(one, tmp_path / "m", kind="f32", card="", say=lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run")
    (tmp_path / "there").write_text("mine")
    for words, told in [
        (("--to", "onnx", "--out", "x"), "hf or gguf"),
        (("--to", "hf", "--out", tmp_path / "there"), "there already"),
        (("--to", "hf", "--type", "q8_0", "--out", tmp_path / "new"), "f32, bf16, f16"),
        (("--to", "hf", "--average", "last:1", "--out", tmp_path / "new"), "last:N"),
        (("--to", "hf", "--average", "last:5", "--out", tmp_path / "new"), "keeps 1"),
        (("--to", "gguf", "--upload", "a/b", "--out", tmp_path / "new"), "--to hf"),
        (("--to", "hf", "--upload", "a b", "--out", tmp_path / "new"), "owner/name"),
    ]:
        code, _, err = call("export", run.root, *words)
        assert (code, told in err) == (30, True), (words, err)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "new").exists()


def test_an_average_is_the_mean_of_the_last_checkpoints(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run", (1, 2, 3))
    out = tmp_path / "mean"
    words = ("--to", "hf", "--average", "last:2", "--out", out, "--json")
    code, printed, _ = call("export", run.root, *words)
    assert code == 0
    assert json.loads(printed)["checks"][1]["figure"] < 1e-5
    parts = [load_file(p / "model.safetensors") for p in sorted(run.checkpoints.glob("step-*"))[1:]]
    for name, tensor in load_file(out / "model.safetensors").items():
        mine = [part[name.removeprefix("model.")].double() for part in parts]
        torch.testing.assert_close(tensor, (sum(mine) / 2).float(), rtol=0, atol=0)
    assert "average of 2 checkpoints" not in (out / "README.md").read_text()  # has no rows


def test_an_export_writes_the_text_of_its_run_and_an_average_that_of_the_mean(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run", (1, 2, 3))
    mean = Transformer.initialised(read_frozen_config(run).model, seed=0)
    mean.load_state_dict(average(wanted_checkpoints(run, "last:2")))
    of_mean = run_with_checkpoints(tmp_path / "mean", ())
    add_checkpoint(of_mean, 1, model=mean)
    texts = []
    for words, known in (((), run), (("--average", "last:2"), of_mean)):
        folder = tmp_path / f"hf{len(words)}"
        assert call("export", run.root, "--to", "hf", *words, "--out", folder)[0] == 0
        asked = ("The city of", "--max_new_tokens", 24, "--seed", 4, "--json")
        ours, theirs = (call("generate", place, *asked) for place in (known.root, folder))
        assert (ours[0], theirs[0]) == (0, 0), theirs[2]
        told = json.loads(theirs[1])
        assert told["token_ids"] == json.loads(ours[1])["token_ids"]
        assert (told["model"], told["step"]) == (str(folder), None)
        texts.append(told["text"])
    assert texts[0] != texts[1]


def test_a_folder_of_another_tokenizer_is_refused_and_says_nothing_of_traces(
    exported, tmp_path, call
):
    code, _, told = call("generate", exported[1], "How many?", "--chat")
    assert (code, "--chat needs a run folder" in told) == (30, True)
    folder = changed(exported[1], tmp_path / "other", eos_token_id=1)
    out = tmp_path / "again"
    for verb, *words in (("generate", "The city of"), ("export", "--to", "hf", "--out", out)):
        code, _, told = call(verb, folder, *words)
        assert (code, "eos_token_id is 1, and that of GPT-2's tokenizer" in told) == (30, True)
    assert not out.exists()


def changed(folder: Path, target: Path, **config: object) -> Path:
    """A copy of a folder with other settings."""
    shutil.copytree(folder, target)
    values = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **config}))
    return target


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"model_type": "llama"}, "model_type"),
        ({"hidden_activation": "silu"}, "hidden_activation"),
        ({"hidden_act": "silu"}, "hidden_act "),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, "rope_type"),
        ({"rope_scaling": "x"}, "rope_scaling"),
        ({"attention_bias": True}, "attention_bias"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_type"),
        ({"rope_parameters": "x"}, "rope_parameters"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"rope_parameters": {"rope_theta": 500.0}}, "rope_theta"),
        ({"rms_norm_eps": 1e-3}, "rms_norm_eps"),
        ({"num_hidden_layers": 3}, "num_hidden_layers"),
    ],
)
def test_another_architecture_is_refused_by_name(exported, tmp_path, config, word):
    folder = changed(exported[1], tmp_path / "other", **config)
    with pytest.raises(UsageError, match=word):
        take_weights(folder, subject().model)


def test_the_name_that_gemmas_authors_gave_its_activation_is_known(exported, tmp_path):
    config = {"hidden_act": "gelu", "hidden_activation": None}
    folder = changed(exported[1], tmp_path / "other", **config)
    assert take_weights(folder, subject().model) == folder.resolve()


def test_a_head_of_its_own_is_refused_and_a_copy_of_the_embedding_is_not(exported, tmp_path):
    folder = changed(exported[1], tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    assert "lm_head.weight" not in read_folder(folder).tensors
    tensors["lm_head.weight"][0, 0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UsageError, match="a head of its own"):
        read_folder(folder)


def test_shards_are_read_together_and_lead_nowhere_else(exported, tmp_path):
    folder = changed(exported[1], tmp_path / "other")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = len(tensors) // 2
    index = {}
    for number, names in enumerate((list(tensors)[:half], list(tensors)[half:])):
        save_file({name: tensors[name] for name in names}, folder / f"part{number}.safetensors")
        index |= dict.fromkeys(names, f"part{number}.safetensors")
    place = folder / "model.safetensors.index.json"
    place.write_text(json.dumps({"weight_map": index}))
    assert len(read_folder(folder).tensors) == len(tensors)
    place.write_text(json.dumps({"weight_map": {**index, "x": "../part0.safetensors"}}))
    with pytest.raises(CorruptDataError, match="does not name files"):
        read_folder(folder)


def test_damage_and_links_are_refused(exported, tmp_path):
    folder = changed(exported[1], tmp_path / "other")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptDataError, match="safetensors"):
        read_folder(folder)
    weights.unlink()
    weights.symlink_to(exported[1] / "model.safetensors")
    with pytest.raises(CorruptDataError, match="a link"):
        read_folder(folder)
    tensors = load_file(exported[1] / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    weights.unlink()
    save_file(tensors, weights)
    with pytest.raises(CorruptDataError, match="not finite"):
        read_folder(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(CorruptDataError, match="not a JSON object"):
        read_folder(folder)


def test_a_run_without_a_row_and_a_card_that_is_no_text_are_exported(exported, tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run")
    run.metrics.write_text("")
    assert call("export", run.root, "--to", "hf", "--out", tmp_path / "first")[0] == 0
    assert "does not say what it was\ntrained on" in (tmp_path / "first" / "README.md").read_text()
    folder = changed(exported[1], tmp_path / "other")
    (folder / "README.md").write_bytes(b"caf\xe9")
    assert call("export", folder, "--to", "hf", "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "README.md").read_text() == "caf\ufffd"


def test_prepared_data_that_cannot_be_looked_at_is_told_as_not_there(tmp_path, call):
    run = run_with_checkpoints(tmp_path / "run")
    run.data_pointer.write_text(json.dumps({"prepared": "/" + 300 * "x"}))  # no file is called so
    code, _, told = call("export", run.root, "--to", "hf", "--out", tmp_path / "hf")
    assert (code, "or may not be read: perplexity is not compared" in told) == (0, True), told


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr("yxanul.export.huggingface.save_file", full)
    with pytest.raises(DiskError, match=r"model\.safetensors could not be written"):
        export_folder(subject(), tmp_path / "m", kind="f32", card="", say=lambda _: None)
    assert list(tmp_path.iterdir()) == []
