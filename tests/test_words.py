"""The words are true: what pages and comments tell a reader to type exists, links lead somewhere.

docs/log.md tells what was true on its day, so of it only the links are checked.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.documented import (
    FENCE,
    ROOT,
    SPAN,
    commands,
    missing_places,
    read,
    wrong_settings,
    wrong_with,
)

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
MANUALS = [page for page in PAGES if page.name not in {"log.md", "CHANGELOG.md"}]
BESIDE_CODE = sorted(
    [
        *(page for kind in ("sh", "yaml") for page in ROOT.glob(f"scripts/**/*.{kind}")),
        *ROOT.glob("configs/**/*.yaml"),
        *ROOT.glob("benchmarks/*.py"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The anchors that a forge makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path, text: str) -> list[str]:
    dead = []
    for link in LINK.findall(SPAN.sub("", FENCE.sub("", text))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    return dead


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [*MANUALS, *BESIDE_CODE], ids=page_id)
def test_every_command_of_the_page_exists(page):
    wrong = {" ".join(words): wrong_with(words) for words in commands(read(page))}
    assert not {command: why for command, why in wrong.items() if why}


@pytest.mark.parametrize("page", [*MANUALS, *BESIDE_CODE], ids=page_id)
def test_every_setting_of_the_page_exists_and_takes_its_value(page):
    assert wrong_settings(read(page)) == {}


@pytest.mark.parametrize("page", [*MANUALS, *BESIDE_CODE], ids=page_id)
def test_every_file_that_the_page_names_exists(page):
    assert missing_places(read(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_of_the_page_leads_somewhere(page):
    assert dead_links(page, read(page)) == []


def test_what_the_pages_prepare_in_the_checkout_is_no_part_of_it():
    """SkyPilot copies the checkout without what .gitignore names."""
    ignored = (ROOT / ".gitignore").read_text().split()
    prepared = {
        words[words.index("--out") + 1]
        for page in MANUALS
        for words in commands(read(page))
        if words[:2] == ["yxanul", "prepare"] and "--out" in words
    }
    places = {place for place in prepared if "/" in place}
    assert places
    assert [place for place in places if f"/{place.partition('/')[0]}/" not in ignored] == []


def test_scripts_are_executable_and_parse():
    scripts = [*ROOT.glob("scripts/**/*.sh"), ROOT / ".ci/run"]
    for script in scripts:
        assert script.stat().st_mode & 0o100, script
        subprocess.run(["bash", "-n", str(script)], check=True)


# Each check can fail.


@pytest.mark.parametrize(
    "text",
    [
        "`make tea`",
        "```\nmake train tea\n```",
        "`yxanul brew --out DIR`",
        "`yxanul bench tea`",
        "`yxanul bench step --no_such_flag`",
        "```\n$ yxanul run \\\n    --no_such_flag 1\n```",
        "`yxanul run\n--no_such_flag 1`",
        "`yxanul train [--no_such_flag]`",
        "`NPROC=2 python -m yxanul run --no_such_flag=1`",
        "`python src/trainer.py --no_such_flag`",
        "`./scripts/train_stage1.sh --no_such_flag`",
        "`./scripts/train_all.sh --num_epochs 1`",
        "`nohup scripts/cloud/rented.sh --num_epochs 1`",
        "`yxanul supervise -- yxanul run --no_such_flag`",
        "`python -m benchmarks.tea`",
        "`torchrun --standalone -m benchmarks.sharing --no_such_flag`",
    ],
)
def test_a_command_that_does_not_exist_is_found(text):
    assert any(wrong_with(words) for words in commands(text))


@pytest.mark.parametrize(
    "text",
    [
        "`make test JOBS=1`",
        "make sure, in prose, that `--out` is free",
        "`yxanul run --config_dir configs --out runs/a --set key=value`  # --no_such_flag",
        "`python -m benchmarks.sharing --repeats 3`",
        "`git log --oneline`",
    ],
)
def test_a_command_that_exists_passes(text):
    assert not any(wrong_with(words) for words in commands(text))


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ("`--set training.batch_token=4096`", True),
        ("on a CPU --set training.batch_token=4096", True),
        ("```\nyxanul run \\\n    --set 'optimizer.name=sgd'\n```", True),
        ("`yxanul run --config_dir configs/embedded --set compute.fp8_recipe=rowwise`", True),
        ("`--set compute.fp8=ffn --set compute.fp8_recipe=rowwise`", False),
        ("`--set 'evaluation.skills=[]' [--set seed=7]`", False),
        ("`--set key=value`", False),
    ],
)
def test_a_setting_that_does_not_exist_is_found(text, is_wrong):
    assert bool(wrong_settings(text)) == is_wrong


def test_comments_and_docstrings_are_read_as_pages(tmp_path):
    script, benchmark = tmp_path / "a.sh", tmp_path / "a.py"
    script.write_text(
        "#!/bin/sh\n# See `make\n# tea`:\n#   make coffee\nmake it # not `make milk`\n"
    )
    benchmark.write_text('"""How fast:\n\n    make tea [--hot]\n"""\n')
    told = [" ".join(words) for words in commands(read(script))]
    assert told == ["make coffee", "make tea", "make milk"]
    assert list(commands(read(benchmark))) == [["make", "tea", "--hot"]]


def test_a_dead_link_and_a_missing_file_are_found():
    page = ROOT / "README.md"
    text = "[a](docs/nowhere.md) [b](#no-such-heading) [c](https://example.org) [d](LICENSE)"
    assert dead_links(page, text) == ["docs/nowhere.md", "#no-such-heading"]
    assert missing_places("`configs/nowhere.yaml` and `configs/`") == ["configs/nowhere.yaml"]
