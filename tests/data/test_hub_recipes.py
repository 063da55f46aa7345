"""The promised recipe prepares from the hub, end to end, and the model trains on what it got."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.data.bench_rows import write_bench_folder
from tests.data.hub_sets import promised_sets
from tests.data.hub_standin import Fault, StandIn, running
from yxanul.config.load import load_config, stage_names
from yxanul.config.schema import SourceConfig
from yxanul.data.batches.validation import validation_documents
from yxanul.data.prepared.documents import read_documents
from yxanul.data.prepared.manifest import Manifest, load_manifest
from yxanul.data.tokenizer import EOT, load_tokenizer

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
SMALL = ["--set", "data.validation_fraction=0.25", "--set", "training.batch_tokens=4096"]
SMALL += ["--set", "evaluation.tokens_per_domain=500"]
# The program, which leaves as tests/data/hub_reader.py does, and why.
YXANUL = """
import os, sys
from yxanul.cli.main import main
try:
    main()
except SystemExit as left:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(left.code)
"""
TINY = {
    "name": "tiny",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 4096,
}


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    with running(StandIn(promised_sets())) as standin:
        yield standin


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bench_folder(tmp_path_factory.mktemp("sets") / "bench")


@pytest.fixture(scope="module")
def prepared(hub: StandIn, bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("promised") / "data"
    done = yxanul(hub, "prepare", "--stage", "all", "--bench_dir", bench, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


def yxanul(
    hub: StandIn, verb: str, *words: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a verb on the promised configuration, as a user would."""
    home = Path(str(words[-1])).parent / "home"
    command = [sys.executable, "-c", YXANUL, verb, "--config_dir", CONFIGS, *SMALL, *words]
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=hub.environment(home, **environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def documents(manifest: Manifest, root: Path, source: str) -> list[str]:
    """Return the held-out documents of a source, decoded."""
    tokenizer = load_tokenizer()
    found = validation_documents(manifest, root, source=source, max_tokens=10**6)
    return [tokenizer.decode([int(token) for token in ids if token != EOT]) for ids in found]


def test_every_promised_set_is_prepared_with_its_revision_and_licence(hub, prepared) -> None:
    manifest = load_manifest(prepared)
    assert list(manifest.stages) == list(stage_names(CONFIGS))
    sources = {
        source.name: source
        for stage in load_config(CONFIGS).stages
        for source in stage.data.hub_sources
    }
    assert list(manifest.sources) == list(sources)
    for name, record in manifest.sources.items():
        hub_id = sources[name].hub_id
        assert record.version == f"{hub_id}@{hub.sets[hub_id].sha}"
        assert record.kind == "hub"
        assert record.train.documents > record.validation.documents > 0
        if sources[name].licence is not None:
            assert record.licence == sources[name].licence
    assert manifest.sources["wikipedia"].dropped == {"too_short": 20}
    assert manifest.sources["mixture_of_thoughts"].dropped == {
        "messages has no [1][content]": 1,
        "not_whole": 1,
    }
    for record in manifest.sources.values():
        assert len(record.decontaminated) == 4
        assert record.train.signatures is not None
    assert set(manifest.sources["wikipedia"].tools) == {"datatrove", "spacy"}


def test_only_the_part_of_a_set_that_the_recipe_names_is_fetched(hub, prepared) -> None:
    fetched = {path.split("/", 3)[3] for path in hub.asked("/cdn/")}
    assert fetched == {
        "20231101.en/train-00000-of-00002.parquet",
        "20231101.en/train-00001-of-00002.parquet",
        "all/train-00000-of-00001.parquet",
        "main/train-00000-of-00001.parquet",
        "math.parquet",
        "synthetic_sft/data-00000.parquet",
    }


def test_articles_of_2000_tokens_and_more_keep_their_addresses(prepared) -> None:
    manifest = load_manifest(prepared)
    for split in ("train", "validation"):
        for _, document in read_documents(manifest, prepared, source="wikipedia", split=split):
            assert document.tokens > 2000
            assert (document.url or "").startswith("https://en.wikipedia.org/wiki/District_")


def test_rows_become_question_and_answer(prepared) -> None:
    manifest = load_manifest(prepared)
    trace = r"What is \d+ \+ \d+\?\n\n<think>\n\d+ and \d+\.\n</think>\n\d+"
    problem = r"Find \$x\$ with \$x - \d+ = \d+\$\.\n\n\d+"
    program = r"Print the numbers below \d+\.\n\n<think>\nA .*\n</think>\nfor i.*\n +print.*"
    # Without the calculator's marks.
    word_problem = (
        r"Ada bakes \d+ loaves and sells half\. How many\?\n\n\d+/2 = [\d.]+ .*\n#### \d+"
    )
    forms = {"mixture_of_thoughts": trace, "acereason_math": problem, "rstar_coder": program}
    for name, form in {**forms, "gsm8k": word_problem}.items():
        for text in documents(manifest, prepared, name):
            assert re.fullmatch(form, text), text


@pytest.mark.slow
def test_a_model_trains_on_it(hub, prepared, tmp_path) -> None:
    model = tmp_path / "tiny.yaml"
    model.write_text(yaml.safe_dump({"model": TINY}))
    words = ["--stage", "stage1_wikipedia", "--data", prepared, "--model", model]
    done = yxanul(hub, "train", *words, "--max_steps", 2, "--json", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2


@pytest.mark.slow
def test_a_prepared_folder_stays_usable_without_the_hub_and_when_its_commit_is_pinned(
    hub, prepared
) -> None:
    sha = hub.sets["wikimedia/wikipedia"].sha
    stage = ["--stage", "stage1_wikipedia"]
    hub.break_with(Fault("", 503, 999))
    for pin in ([], ["--set", f"data.hub_sources.0.hub_revision={sha}"]):
        done = yxanul(hub, "prepare", *stage, *pin, "--out", prepared)
        assert done.returncode == 0, done.stderr
        assert "is prepared already" in done.stderr
    assert hub.requests == []
    other = ["--set", "data.hub_sources.0.hub_revision=" + "a" * 40]
    done = yxanul(hub, "prepare", *stage, *other, "--out", prepared)
    assert done.returncode == 30
    assert f"wikipedia of wikimedia/wikipedia@{sha}, and hub_revision asks for aaaa" in done.stderr


def private_source() -> SourceConfig:
    """Return the source that stands as a comment in the promised recipe."""
    text = (CONFIGS / "stage1_wikipedia.yaml").read_text()
    found = re.search(r"#\s+- (\{name: wikipedia_2k.*?\})\n  # \(", text, re.DOTALL)
    assert found
    return SourceConfig(**yaml.safe_load(re.sub(r"\n\s*#", " ", found[1])))


@pytest.mark.slow
def test_the_private_alternative_of_the_recipe_works_with_a_token(hub, tmp_path) -> None:
    hub.break_with()
    source = private_source()
    assert source.private
    entry = json.dumps(source.model_dump(exclude_defaults=True))
    words = ["--stage", "stage1_wikipedia", "--set", f"data.hub_sources=[{entry}]"]
    closed = yxanul(hub, "prepare", *words, "--out", tmp_path / "data")
    assert closed.returncode == 30
    assert "is private and HF_TOKEN is not set" in closed.stderr
    refused = yxanul(hub, "prepare", *words, "--out", tmp_path / "data", HF_TOKEN="hf_wrong")
    assert refused.returncode == 30
    assert len(hub.requests) == 1
    opened = yxanul(hub, "prepare", *words, "--out", tmp_path / "data", HF_TOKEN="hf_private")
    assert opened.returncode == 0, opened.stderr
    assert load_manifest(tmp_path / "data").sources["wikipedia_2k"].train.documents > 10
    for said in (refused.stderr, opened.stderr, opened.stdout):
        assert "hf_" not in said
