"""Fuzz every reader of outside bytes for a while, guided by which code the bytes reach.

`python -m tests.fuzz.campaign --seconds 600 --targets config tensors`; without names all targets
run, one after the other, each in a process of its own. Needs atheris. The bytes behind a crash lie
in .fuzz/crashes with the traceback beside them, what was learnt in .fuzz/corpus, and the next
campaign goes on from there. Leaves with 1 if anything but an error of ours came out of a reader.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.fuzz.changes import CHANGES

OUT = Path(".fuzz")
CRASHES = OUT / "crashes"
# A start that reads seeds and imports; a reader that takes longer for one input is hung.
_MOST_S_PER_INPUT = 30
_MOST_BYTES = 1 << 16
_OWN_CHANGES = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--targets", nargs="*", default=[], help="names; none = all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _fuzz(given.child, seconds=given.seconds)
        return
    names = given.targets or _all_names()
    print(f"{'target':<16} {'executions':>11} {'edges':>7} {'crashes':>8}", flush=True)
    found = [_campaign(name, seconds=given.seconds) for name in names]
    raise SystemExit(1 if any(found) else 0)


def _all_names() -> list[str]:
    from tests.fuzz.targets import TARGETS  # not at the top: a child instruments this import

    return list(TARGETS)


def _campaign(name: str, *, seconds: int) -> int:
    """Fuzz one target in a process of its own; print its line and return its crashes."""
    command = [sys.executable, "-m", "tests.fuzz.campaign", "--child", name]
    command += ["--seconds", str(seconds)]
    before = _crashes(name)
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = ended.stdout + ended.stderr
    done = re.findall(r"^#(\d+)\s.*?cov: (\d+)", said, re.MULTILINE) or [("0", "0")]
    new = sorted(_crashes(name) - before)
    print(f"{name:<16} {int(done[-1][0]):>11,} {done[-1][1]:>7} {len(new):>8}", flush=True)
    for path in new:
        print(f"  {path}", flush=True)
    if ended.returncode and not new:  # neither a crash of ours nor a file from libFuzzer
        print(f"  ended with {ended.returncode}:\n{said[-2000:]}", flush=True)
    return len(new) or ended.returncode


def _crashes(name: str) -> set[Path]:
    # libFuzzer writes crash-, timeout- and oom- files itself, where the process does not survive.
    return {path for path in CRASHES.glob(f"{name}-*") if path.suffix != ".txt"}


def _fuzz(name: str, *, seconds: int) -> None:
    """Run libFuzzer in this process until the time is over."""
    try:
        import atheris
    except ImportError as error:
        raise SystemExit(f"{error}: pip install atheris==3.0.0, or `make fuzz`") from error
    with atheris.instrument_imports(include=["yxanul"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = OUT / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    CRASHES.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": _MOST_BYTES,
        "timeout": _MOST_S_PER_INPUT,
        "artifact_prefix": f"{CRASHES}/{name}-",
        "rss_limit_mb": 4096,
    }
    words = [f"-{key}={value}" for key, value in options.items()]

    def change(content: bytes, most: int, number: int) -> bytes:
        # libFuzzer's own changes rarely leave JSON whole.
        random = Random(number)
        if random.random() < _OWN_CHANGES:
            return random.choice(CHANGES)(content, random)[:most]
        return atheris.Mutate(content, most)

    keep = _surviving(target.read, name)
    atheris.Setup([sys.argv[0], *words, str(corpus)], keep, custom_mutator=change)
    atheris.Fuzz()


def _surviving(read: Callable[[bytes], None], name: str) -> Callable[[bytes], None]:
    """Return `read` that keeps a crash, once for each place it comes from, and goes on."""
    seen: set[str] = set()

    def once(content: bytes) -> None:
        try:
            read(content)
        except Exception as error:  # noqa: BLE001  (whatever comes out is the find)
            place = _place(error)
            if place not in seen:
                seen.add(place)
                key = hashlib.sha256(place.encode()).hexdigest()[:8]
                (CRASHES / f"{name}-{key}").write_bytes(content)
                text = "".join(traceback.format_exception(error))[-8000:]
                (CRASHES / f"{name}-{key}.txt").write_text(text, errors="replace")

    return once


def _place(error: Exception) -> str:
    """Return the kind of an error and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    src = f"{os.sep}src{os.sep}yxanul{os.sep}"
    ours = [frame for frame in frames if src in frame.filename]
    last = ours[-1] if ours else frames[-1]
    return json.dumps([type(error).__name__, last.filename, last.lineno])


if __name__ == "__main__":
    main()
