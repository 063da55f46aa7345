"""What pages and comments tell a reader to type, and what of it does not exist.

Code is what stands in fences and `spans` of a page. Comments of a script or of settings, and the
docstring of a benchmark, are read as a page whose fences are their indented lines.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from typer.main import get_command

from yxanul.cli.main import build_app
from yxanul.config.load import load_config
from yxanul.errors import ConfigError

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:[^`\n]|\n(?!\s*\n))+)`")
PLACE = re.compile(r"(?:\./)?(?:configs|scripts|src|docs|tests|benchmarks)/[\w./-]*\w")
SETTING = re.compile(r"""--set[ =]('[^']*'|"[^"]*"|\S+)""")
PLACEHOLDERS = ("key=value", "key.path=value")


def read(page: Path) -> str:
    """Return a page, or what stands beside the code of another file, as a page."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        return text
    if page.suffix == ".py":
        return _fenced((ast.get_docstring(ast.parse(text), clean=False) or "").splitlines())
    return _fenced([_comment(line) for line in text.splitlines()])


def _comment(line: str) -> str:
    found = re.search(r"(?:^|\s)#(?!!) ?(.*)", line)
    return found[1] if found else ""


def _fenced(lines: Sequence[str]) -> str:
    """Put what is indented into fences."""
    blocks = groupby(lines, key=lambda line: line.startswith("  "))
    parts = [(is_code, "\n".join(block)) for is_code, block in blocks]
    return "".join(f"```\n{text}\n```\n" if is_code else f"{text}\n" for is_code, text in parts)


def code_lines(text: str) -> Iterator[str]:
    """Every line of a fence, continued lines joined and comments dropped, and every span."""
    for block in FENCE.findall(text):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            yield re.sub(r"(^|\s)#\s.*", "", line).strip().removeprefix("$ ")
    for span in SPAN.findall(FENCE.sub("", text)):
        yield " ".join(span.split())


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, without the brackets that mark a part as optional."""
    for line in code_lines(text):
        for part in re.split(r"&&|;|\s\|\s", line):
            words = re.sub(r'"[^"]*"', "TEXT", re.sub(r"[\[\]]", " ", part)).split()
            while words and re.fullmatch(r"[A-Z_]+=\S*|nohup", words[0]):
                words = words[1:]
            if words:
                yield words


def wrong_settings(text: str) -> dict[str, str]:
    """Say what is wrong with each `--set`; those of a line are tried together.

    They are for the settings that the line names, else for those of the plan.
    """
    wrong = {}
    # Prose of comments writes them without ticks.
    for line in [*code_lines(text), *SPAN.sub("", FENCE.sub("", text)).splitlines()]:
        settings = [_bare(one) for one in SETTING.findall(line)]
        settings = [one for one in settings if one not in PLACEHOLDERS]
        if settings:
            named = re.search(r"--config_dir (\S+)", line)
            folder = ROOT / (named[1] if named else "configs")
            try:
                load_config(folder, overrides=settings)
            except ConfigError as error:
                wrong[line] = str(error)
    return wrong


def _bare(setting: str) -> str:
    """Take off quotes, and the bracket behind an optional part."""
    bare = setting.strip("'\"").rstrip(",;.)")
    return bare if bare.count("[") == bare.count("]") else bare.rstrip("]")


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
    program = words[0].removeprefix(".venv/bin/").removeprefix("./")
    if program == "make":
        targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        unknown = [target for target in targets if target not in make_targets()]
        return f"make has no target {unknown}" if unknown else ""
    if "src/trainer.py" in words:
        return unknown_flags("train", words[words.index("src/trainer.py") :])
    module = next((word for word in words if word.startswith("benchmarks.")), None)
    if module is not None and "-m" in words:
        return wrong_benchmark(module, words[words.index(module) :])
    if words[:3] == ["python", "-m", "yxanul"]:
        program, words = "yxanul", words[2:]
    if program == "yxanul" and len(words) > 1 and not words[1].startswith("--"):
        for length in (2, 1):  # `bench step` before `bench`
            verb = " ".join(words[1 : 1 + length])
            if verb in verbs():
                return unknown_flags(verb, words[1 + length :])
        return f"yxanul has no verb {words[1]}"
    if program == "scripts/cloud/rented.sh":  # what it is told goes to both
        return unknown_flags("preflight", words[1:]) or unknown_flags("run", words[1:])
    if program.startswith("scripts/train_"):
        return unknown_flags("run" if "train_all" in program else "train", words[1:])
    return ""


def unknown_flags(verb: str, words: list[str]) -> str:
    unknown = [flag for flag in flags(words) if flag not in verbs()[verb]]
    return f"{verb} has no {unknown}" if unknown else ""


def wrong_benchmark(module: str, words: list[str]) -> str:
    """Say what a benchmark's source lacks: not imported, since some load torch and more."""
    source = ROOT / f"{module.replace('.', '/')}.py"
    if not source.is_file():
        return f"there is no {module}"
    text = source.read_text(encoding="utf-8")
    unknown = [flag for flag in flags(words) if f'"{flag}"' not in text]
    return f"{module} has no {unknown}" if unknown else ""


def missing_places(text: str) -> list[str]:
    """The files of the repository that code names and that are not there."""
    words = [word for line in code_lines(text) for word in line.split()]
    places = [word for word in words if PLACE.fullmatch(word)]
    return [place for place in places if not (ROOT / place).exists()]
