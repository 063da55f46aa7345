"""The words are true: every command in README.md and docs/ exists, every link leads somewhere.

Commands are looked for in code (fences and `spans`). docs/log.md tells what was true on its day,
so of it only the links are checked.
"""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command

from yxanul.cli.main import build_app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")])
MANUALS = [page for page in PAGES if page.name not in {"log.md", "CHANGELOG.md"}]

FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACE = re.compile(r"(?:\./)?(?:configs|scripts|src|docs|tests|benchmarks)/[\w./-]*\w")


def code_lines(text: str) -> Iterator[str]:
    """Every line of a fence, continued lines joined and comments dropped, and every span."""
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield re.sub(r"(^|\s)#\s.*", "", line).strip().removeprefix("$ ")
    yield from SPAN.findall(FENCE.sub("", text))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without the brackets that mark a part as optional."""
    for line in code_lines(text):
        for part in re.split(r"&&|;|\s\|\s", line):
            words = re.sub(r'"[^"]*"', "TEXT", re.sub(r"[\[\]]", " ", part)).split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            if words:
                yield words


@cache
def verbs() -> dict[str, set[str]]:
    """The verbs of the program, each with its flags."""
    found = {}
    for name, verb in get_command(build_app()).commands.items():
        parts = {f"{name} {part}": one for part, one in getattr(verb, "commands", {}).items()}
        found |= parts or {name: verb}
    return {
        name: {option for parameter in verb.params for option in parameter.opts} | {"--help"}
        for name, verb in found.items()
    }


def flags(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def wrong_with(words: list[str]) -> str:
    """Say what does not exist in a command, or nothing; commands of other programs pass."""
    if "--" in words[:-1]:  # what is supervised is a command as well
        cut = words.index("--")
        return wrong_with(words[:cut]) or wrong_with(words[cut + 1 :])
    program = words[0].removeprefix(".venv/bin/")
    if program == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        unknown = [target for target in targets if target not in make_targets()]
        return f"make has no target {unknown}" if unknown else ""
    if "src/trainer.py" in words:
        return unknown_flags("train", words[words.index("src/trainer.py") :])
    if words[:3] == ["python", "-m", "yxanul"]:
        program, words = "yxanul", words[2:]
    if program == "yxanul" and len(words) > 1 and not words[1].startswith("--"):
        for length in (2, 1):  # `bench step` before `bench`
            verb = " ".join(words[1 : 1 + length])
            if verb in verbs():
                return unknown_flags(verb, words[1 + length :])
        return f"yxanul has no verb {words[1]}"
    if re.fullmatch(r"\./?scripts/\S+", program) and "train_" in program:
        return unknown_flags("run" if "train_all" in program else "train", words[1:])
    return ""


def unknown_flags(verb: str, words: list[str]) -> str:
    unknown = [flag for flag in flags(words) if flag not in verbs()[verb]]
    return f"{verb} has no {unknown}" if unknown else ""


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


def missing_places(text: str) -> list[str]:
    """The files of the repository that code names and that are not there."""
    words = [word for line in code_lines(text) for word in line.split()]
    places = [word for word in words if PLACE.fullmatch(word)]
    return [place for place in places if not (ROOT / place).exists()]


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", MANUALS, ids=page_id)
def test_every_command_of_the_page_exists(page):
    wrong = {" ".join(words): wrong_with(words) for words in commands(read(page))}
    assert not {command: why for command, why in wrong.items() if why}


@pytest.mark.parametrize("page", MANUALS, ids=page_id)
def test_every_file_that_the_page_names_exists(page):
    assert missing_places(read(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_of_the_page_leads_somewhere(page):
    assert dead_links(page, read(page)) == []


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
        "`yxanul train [--no_such_flag]`",
        "`NPROC=2 python -m yxanul run --no_such_flag=1`",
        "`python src/trainer.py --no_such_flag`",
        "`./scripts/train_stage1.sh --no_such_flag`",
        "`./scripts/train_all.sh --num_epochs 1`",
        "`yxanul supervise -- yxanul run --no_such_flag`",
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
        "`git log --oneline`",
    ],
)
def test_a_command_that_exists_passes(text):
    assert not any(wrong_with(words) for words in commands(text))


def test_a_dead_link_and_a_missing_file_are_found():
    page = ROOT / "README.md"
    text = "[a](docs/nowhere.md) [b](#no-such-heading) [c](https://example.org) [d](LICENSE)"
    assert dead_links(page, text) == ["docs/nowhere.md", "#no-such-heading"]
    assert missing_places("`configs/nowhere.yaml` and `configs/`") == ["configs/nowhere.yaml"]
