"""Every mistake of a user is one plain sentence: file, key, what is wrong, what to do."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.config.strategies import texts
from yxanul.config.contradictions import check_config
from yxanul.config.load import dump_config, load_config, parse_config
from yxanul.config.schema import RunConfig
from yxanul.config.yamltext import parse_document, parse_value, quoted
from yxanul.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_words_that_take_adamw_in_the_embedded_recipe_do_so():
    text = (CONFIGS / "embedded" / "optimization.yaml").read_text()
    words = re.findall(r"--set (\S+)", text)
    optimizer = load_config(CONFIGS / "embedded", overrides=words).optimization.optimizer
    assert (len(words), optimizer.name) == (3, "adamw")


@pytest.fixture
def folder(tmp_path):
    """A copy of the small recipe that a test may spoil."""
    return Path(shutil.copytree(CONFIGS / "embedded", tmp_path / "mine"))


def spoil(folder, name, old, new):
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def message(*args, **kwargs):
    """What load_config says; never pydantic's own words or address."""
    with pytest.raises(ConfigError) as caught:
        load_config(*args, **kwargs)
    text = str(caught.value)
    assert caught.value.exit_code == 30
    assert not re.search(r"pydantic|https?://|input_value|\[type=", text)
    return text


def test_an_unknown_key_names_file_line_key_and_the_nearest(folder):
    spoil(folder, "model_config.yaml", "hidden_size:", "hiden_size:")
    text = message(folder)
    lines = (folder / "model_config.yaml").read_text().splitlines()
    line = 1 + next(n for n, found in enumerate(lines) if "hiden_size:" in found)
    assert f"{folder}/model_config.yaml:{line}: model.hiden_size: unknown key hiden_size" in text
    assert "did you mean hidden_size?" in text
    assert "the key model.hidden_size is missing" in text


def test_a_key_in_the_wrong_block_is_sent_to_its_place(folder):
    spoil(folder, "stage1_wikipedia.yaml", "gate:\n", "gate:\n  replay_share: 0.1\n")
    assert "it belongs at data.replay_share" in message(folder)


def test_an_unknown_key_in_a_list_of_sources_names_the_entry(folder):
    spoil(folder, "stage1_wikipedia.yaml", "{name: factbook,", "{nam: factbook,")
    assert "data.embedded_sources.1.nam: unknown key nam; did you mean name?" in message(folder)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=x", "is 'x'; it must be a whole number"),
        ("seed=1e3", "is 1000.0; it must be a whole number; write 1000"),
        ("seed=true", "is true; it must be a whole number"),
        ("seed=", "is null; it must be a whole number"),
        ("seed=-1", "is -1; it must be at least 0"),
        ("optimizer.fused=1", "is 1; it must be true or false"),
        ("optimizer.name=sgd", "is 'sgd'; choose adamw or muon"),
        ("optimizer.eps=.nan", "is nan; it must be"),
        ("optimizer.eps=.inf", "is inf; it must be a finite number"),
        ("optimizer.eps=0", "it must be greater than 0"),
        ("optimizer.beta1=1", "it must be less than 1"),
        ("compute.fp8=e4m3", "choose off, auto, ffn or blocks"),
        ("compute.flash_attention_3=maybe", "is 'maybe'; choose auto, true or false"),
        ("compute.compile=false", "choose auto, off, block or model"),
        ("checkpoint.keep=1", "it must be at least 2"),
        ("data.replay_share=0.6", "it must be at most 0.5"),
        ("training=3", "it must be a block of keys"),
        ("training.seq_len_curriculum=[]", "it needs at least one entry"),
        ("training.seq_len_curriculum=3", "it must be a list"),
        ("training.total_tokens=" + "9" * 30, "it must be at most 1,000,000,000,000,000"),
        ("data.embedded_sources.0.name=A b", "only a-z, 0-9, _ and - are allowed"),
        ("model.name=''", "write a word"),
        ("training.batch_token=1", "did you mean batch_tokens?"),
        ("trainin.batch_tokens=1", "unknown key trainin; did you mean training?"),
        ("stage1_wikipedia.name=x", "cannot be set"),
        ("stage1_wikipedia=x", "cannot be set"),
        ("seed", "not key=value"),
        ("=3", "not key=value"),
        ("seed.a=1", "seed is a value and holds no keys"),
        ("data.embedded_sources.9.weight=1", "is a list of"),
        ("data.embedded_sources.x.weight=1", "is a list of"),
        ("evaluation.skills.0.items=60", "skills is a list of 0 entries in "),
        ("evaluation.skills.0.items=60", "=[...]'), or name a stage that has entries"),
        ("evaluation.skills.0={task: gsm8k}", "skills is a list of 0 entries in "),
        ("evaluation.skills.first=3", "skills is a list of 0 entries in "),
        ("seed=[", "broken YAML: "),
        ("seed=[", "; correct the value"),
        ("seed=\x00", "; correct the value"),
        ("optimizer.eps=nan", "is 'nan'; write a finite number"),
        ("optimizer.eps=-inf", "is '-inf'; write a finite number"),
        ("evaluation.every_fraction=1e-9", "it must be at least 0.001"),
    ],
)
def test_a_wrong_set_is_said_in_one_sentence_once(override, said):
    text = message(CONFIGS / "embedded", overrides=[override])
    assert said in text
    assert text.startswith(f"--set {override}")
    assert len(text.splitlines()) == 1


def test_an_entry_of_a_list_that_no_file_has_is_said_with_the_whole_list(folder):
    file = folder / "optimization.yaml"
    text, found = re.subn("(?m)^  prompts:.*\n(    .*\n)*", "", file.read_text())
    assert found == 1
    file.write_text(text)
    said = message(folder, overrides=["logging.prompts.0=Hello"])
    assert "logging.prompts is a list of 0 entries in " in said
    assert said.endswith("; set the whole list (--set 'logging.prompts=[...]')")


def test_a_broken_set_has_no_line_number():
    assert message(CONFIGS / "embedded", overrides=["seed=["]).startswith("--set seed=[: broken")


@pytest.mark.parametrize("word", ["nonsense", "stage1_wikipedi", "28x768-head12"])
def test_the_names_to_choose_from_are_listed_once(word):
    stage = message(CONFIGS, stages=[word])
    assert stage.count("stage3_math") == 1
    assert message(CONFIGS, model=word).count("20x896-3584") == 1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.max_position_embeddings=128"], "over the model's max_position_embeddings 128"),
        (["data.chunk_tokens=384", "training.batch_tokens=768"], "which does not divide"),
        (["data.chunk_tokens=500"], "is no multiple of chunk_tokens 500"),
        (
            ["model.max_position_embeddings=512", "training.batch_tokens=5000"],
            "is no multiple of chunk_tokens 512 (null",
        ),
        (["training.batch_tokens=128"], "raise training.batch_tokens"),
        (["data.chunk_tokens=128"], "over chunk_tokens 128; shorten it or raise data.chunk_tokens"),
        (
            ["training.batch_tokens=8192", "training.total_tokens=8000"],
            "less than one batch of batch_tokens (8,192)",
        ),
        (
            ["model.num_attention_heads=3", "model.num_key_value_heads=2"],
            "does not divide num_attention_heads (3)",
        ),
        (["model.head_dim=63"], "is odd"),
        (["model.vocab_size=50256"], "the tokenizer has 50,257"),
        (
            ["model.max_position_embeddings=512", "evaluation.seq_len=1024"],
            "over the model's max_position_embeddings 512",
        ),
        (["data.source=hub"], "hub_sources is empty"),
        (["data.embedded_sources.0.hub_id=a/b"], "move it to hub_sources"),
        (["data.embedded_sources=[]"], "embedded_sources is empty"),
        (["stage1_wikipedia.data.embedded_sources.1.name=wikipedia_leads"], "two sources are"),
        (["stage2_reasoning.data.embedded_sources.0.name=factbook"], "also a source of stage1_w"),
        (["training.seq_len_curriculum.0.from_fraction=0.1"], "must have from_fraction 0"),
        (["training.seq_len_curriculum.1.from_fraction=0"], "must grow from phase to phase"),
        (["training.schedule=wsd", "training.warmup_fraction=0.9"], "together exceed the stage"),
        (["data.hub_sources=[{name: a, domain: b, weight: 1}]"], "needs hub_id and text_template"),
        (
            ["stage4_code.evaluation.skills.2.max_new_tokens=256"],
            "max_position_embeddings 256 hold a prompt as well; take 1 to 255",
        ),
        (["compute.fp8_emulate=true"], "has no effect while fp8 is off"),
        (["compute.fp8_recipe=rowwise"], "has no effect while fp8 is off"),
        (["compute.checkpointed_share=0.5"], "no effect while gradient_checkpointing is false"),
        (
            ["optimizer.name=adamw", "optimizer.muon_momentum=0.95"],
            "adamw; change that, or take null",
        ),
        (["optimizer.name=adamw", "optimizer.muon_beta2="], "adamw; change that, or take 0.95"),
        (["training.decay_fraction=0.2"], "while training.schedule is linear_to_zero"),
        (
            ["compute.fp8=ffn", "model.intermediate_size=500"],
            "is ffn, whose matrices need sides that are multiples of 16, and the model's "
            "intermediate_size is 500; change",
        ),
        (
            ["compute.fp8=blocks", "model.hidden_size=136", "model.head_dim=6"],
            "hidden_size is 136, num_attention_heads x head_dim is 12, num_key_value_heads x head",
        ),
        *(
            ([f"stage1_wikipedia.data.embedded_sources.0.{unread}"], "since an embedded source")
            for unread in (
                "text_template='{text}'",
                "hub_config=en",
                "hub_split=test",
                "hub_revision=x",
                "private=true",
            )
        ),
        (
            ["data.hub_sources=[{name: a, domain: b, weight: 1, hub_id: a/b, documentation: c}]"],
            "has no effect, since documentation",
        ),
    ],
)
def test_contradictions_name_their_key(overrides, said):
    text = message(CONFIGS / "embedded", overrides=overrides)
    assert said in text
    assert re.search(r"\.yaml:\d+: |--set ", text)


def test_several_problems_are_all_listed_a_line_each(folder):
    spoil(folder, "optimization.yaml", "seed: 42", "seed: x")
    spoil(folder, "stage1_wikipedia.yaml", "  batch_tokens: ", "  batch_tokens: -")
    spoil(folder, "stage4_code.yaml", "  learning_rate: ", "  learning_rat: ")
    lines = message(folder).splitlines()
    assert lines[0] == "4 problems in the configuration:"
    assert len(lines) == 5
    assert all(line.startswith(f"  - {folder}/") for line in lines[1:])


def test_a_missing_file_is_named_with_what_is_there(folder):
    (folder / "optimization.yaml").unlink()
    text = message(folder)
    assert f"{folder / 'optimization.yaml'}: the file is missing" in text
    assert "stage4_code.yaml" in text


def test_what_auto_would_need_may_stand_there_and_a_runs_own_settings_are_read(folder):
    asked = ["compute.fp8=auto", "compute.fp8_recipe=rowwise", "compute.checkpointed_share="]
    config = load_config(folder, overrides=asked)
    settled = config.optimization.compute.model_copy(update={"fp8": "off"})
    optimization = config.optimization.model_copy(update={"compute": settled})
    frozen = config.model_copy(update={"optimization": optimization})
    assert parse_config(dump_config(frozen)) == frozen


def test_a_stage_file_by_another_ending_is_named(folder):
    (folder / "stage4_code.yaml").rename(folder / "stage4_code.yml")
    assert "stage4_code.yml is not read; rename it to stage4_code.yaml" in message(folder)


@pytest.mark.parametrize(("fp8", "odd"), [("ffn", "head_dim=6"), ("auto", "intermediate_size=500")])
def test_sizes_that_fp8_never_multiplies_may_be_odd(folder, fp8, odd):
    config = load_config(folder, overrides=[f"compute.fp8={fp8}", f"model.{odd}"])
    assert parse_config(dump_config(config)) == config


def test_fp8_of_odd_sizes_is_refused_in_a_runs_own_settings_too(folder):
    config = load_config(folder, overrides=["model.intermediate_size=500"])
    asked = config.optimization.compute.model_copy(update={"fp8": "ffn"})
    optimization = config.optimization.model_copy(update={"compute": asked})
    text = dump_config(config.model_copy(update={"optimization": optimization}))
    line = 1 + next(n for n, found in enumerate(text.splitlines()) if "fp8: ffn" in found)
    with pytest.raises(ConfigError, match=rf"^config\.yaml:{line}: .*is ffn, whose matrices"):
        parse_config(text)


def test_a_missing_folder_and_a_folder_without_stages_are_named(folder):
    assert "there is no such folder" in message(folder / "nowhere")
    for path in folder.glob("stage*.yaml"):
        path.unlink()
    assert "holds: model_config.yaml, optimization.yaml" in message(folder)


def test_a_stage_that_does_not_exist_lists_the_stages():
    text = message(CONFIGS, stages=["stage1_wiki"])
    assert "did you mean stage1_wikipedia?" in text
    assert "stage2_reasoning, stage3_math, stage4_code" in text
    assert "each once" in message(CONFIGS, stages=["stage3_math", "stage3_math"])


def test_a_set_for_a_stage_that_is_not_loaded_says_so():
    text = message(CONFIGS, stages=["stage1_wikipedia"], overrides=["stage3_math.gate.x=1"])
    assert text == (
        "--set stage3_math.gate.x=1: stage3_math is not read by this command, which reads "
        "stage1_wikipedia alone; leave it out"
    )
    text = message(CONFIGS, stages=["stage1_wikipedia"], overrides=["stage5_poems.gate.x=1"])
    assert "unknown key stage5_poems" in text


def test_a_model_that_does_not_exist_lists_the_models(tmp_path):
    text = message(CONFIGS, model="nanoo")
    assert "did you mean nano?" in text
    assert "28x768-6080" in text
    for wrong in ("nano.yaml", str(tmp_path / "nano.yml")):
        text = message(CONFIGS, model=wrong)
        assert text.startswith(f"--model {wrong}: no such file or model; did you mean nano? (")


def test_a_stage_whose_name_is_not_its_files_is_an_error(folder):
    (folder / "stage4_code.yaml").rename(folder / "stage4_programs.yaml")
    assert "the file is called stage4_programs.yaml" in message(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml:3: broken YAML: key a is written twice (first in line 1)"),
        ("a:\n  b: 1\n  b: 1", "f.yaml:3: broken YAML: key a.b is written twice (first in line 2)"),
        ("a: 1\nb: [1", "f.yaml:2: broken YAML"),
        ("a:\n\tb: 1", "f.yaml:2: broken YAML"),
        ("a: b: c", "f.yaml:1: broken YAML"),
        ("a: &x 1\nb: *x", "f.yaml:2: broken YAML: aliases"),
        ("a: !!python/object:os.system 1", "f.yaml:1: broken YAML"),
        ("a: !!int x", "f.yaml:1: broken YAML: unreadable number"),
        ("a: " + "9" * 5000, "f.yaml:1: broken YAML: unreadable number"),
        ("? [a]\n: 1", "f.yaml:1: broken YAML: a key must be a word"),
        ("a: 1\n---\nb: 2", "broken YAML"),
        ("a: \x00", "f.yaml: broken YAML"),
        ("[" * 5000, "f.yaml: nested too deeply"),
        ("", "f.yaml: the file is empty"),
        ("# nothing", "f.yaml: the file is empty"),
        ("- a", "f.yaml: the top level is not a block"),
    ],
)
def test_broken_yaml_names_file_and_line(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "f.yaml")
    assert str(caught.value).startswith(said) or said in str(caught.value)


def test_a_file_that_is_not_utf8_is_named(folder):
    (folder / "optimization.yaml").write_bytes(b"seed: \xff")
    assert "not UTF-8" in message(folder)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2e-4", 2e-4),
        ("1E6", 1e6),
        (".5", 0.5),
        ("14_400_000_000", 14_400_000_000),
        ("010", 10),
        ("-3", -3),
        ("off", "off"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"),
        ("true", True),
        ("", None),
        ("null", None),
        ("[1, {a: 2}]", [1, {"a": 2}]),
    ],
)
def test_values_are_read_as_they_look(text, value):
    assert parse_value(text, "x") == value
    assert type(parse_value(text, "x")) is type(value)


ODD = [
    "😀",
    "a 😀 " * 40,
    "\u2028",
    "\x85",
    '"\\',
    "\x7f\x00",
    "\udcff/not UTF-8",
    "a: b # c",
    "  ",
]


@given(texts | st.sampled_from(ODD))
def test_a_text_in_quotation_marks_is_read_as_itself(text):
    line = quoted(text)
    assert parse_value(line, "x") == text
    assert len(line.splitlines()) == 1


@given(st.text(max_size=60))
def test_no_text_makes_anything_but_a_config_error(text):
    with pytest.raises(ConfigError, match=r"^(config\.yaml|\d+ problems)"):
        parse_config(text)


def test_a_run_may_have_been_begun_with_seconds_without_end():
    """A bound of the schema judges a run's own configuration as well: it could not be read."""
    given = ["checkpoint.mirror_every_s=1e10", "watch.hang_s=1e12"]
    config = load_config(CONFIGS / "embedded", overrides=given)
    assert parse_config(dump_config(config)) == config


def test_parse_config_and_check_config_refuse_contradictions_too():
    config = load_config(CONFIGS / "embedded")
    short = config.model.model_copy(update={"max_position_embeddings": 64})
    wrong = RunConfig(model=short, optimization=config.optimization, stages=config.stages[:1])
    with pytest.raises(ConfigError, match=r"stage1_wikipedia\.training\.seq_len_curriculum\.1"):
        check_config(wrong)
    check_config(config)


def test_a_domain_of_two_stages_is_named(folder):
    spoil(folder, "stage3_math.yaml", "domain: math", "domain: reasoning")
    assert "reasoning is also a domain of stage2_reasoning" in message(folder)


@pytest.mark.parametrize(
    ("skill", "writes"),
    [
        ("task: hellaswag", False),
        ("task: cloze", False),
        ("task: triviaqa, answers: false", True),
        ("task: gsm_symbolic, answers: false", False),
        ("task: gsm_symbolic", True),
    ],
)
def test_only_what_is_written_has_a_length(folder, skill, writes):
    given, last = [f"evaluation.skills=[{{{skill}, max_new_tokens: 9999}}]"], ["stage4_code"]
    if writes:
        assert "hold a prompt as well" in message(folder, stages=last, overrides=given)
    else:
        assert load_config(folder, stages=last, overrides=given)


def test_a_run_that_an_older_version_began_with_too_long_answers_is_still_read(folder):
    config = load_config(folder)
    last = config.stages[-1]
    skills = tuple(
        skill.model_copy(update={"max_new_tokens": 256}) for skill in last.evaluation.skills
    )
    evaluation = last.evaluation.model_copy(update={"skills": skills[-1:]})
    stages = (*config.stages[:-1], last.model_copy(update={"evaluation": evaluation}))
    begun = config.model_copy(update={"stages": stages})
    assert parse_config(dump_config(begun)) == begun
