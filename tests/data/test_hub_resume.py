"""A preparation from the hub that was killed, or gave up, ends with the bytes of an unbroken one.

Real processes, killed with SIGKILL wherever they happen to be, or left alone by the hub.
"""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.hub_standin import Fault, HubSet, StandIn, card, json_lines, parquet, running
from tests.data.memory import all_bytes
from yxanul.config.schema import SourceConfig
from yxanul.data.prepared.manifest import load_manifest
from yxanul.data.prepared.unfinished import load_unfinished
from yxanul.data.prepared.verify import verify
from yxanul.data.sources.hub import source as hub_source
from yxanul.data.sources.hub.patience import Line
from yxanul.data.sources.hub.source import HubReader
from yxanul.data.tokenizer import Tokenizer, load_tokenizer
from yxanul.errors import CorruptShardError

# Two sources, so that a kill also falls between them; short shards; kept after every megabyte.
PROGRAM = """
import json, os, sys
from functools import partial
from pathlib import Path
from yxanul.config.schema import SourceConfig
from yxanul.data.preparing.build import prepare_sources
from yxanul.data.preparing.pipeline import Effort, PlannedSource
from yxanul.data.sources.catalog import Opening, open_source
from yxanul.data.sources.hub.patience import Patience
from yxanul.data.treating.treatment import Treatment, plain_recipe
from yxanul.errors import YxanulError

def say(line):
    print(line, file=sys.stderr, flush=True)

def plan(name):
    config = SourceConfig(name=name, domain="d", weight=1.0, hub_id=f"some/{name}",
                          text_template="{text}", min_tokens=20)
    opening = Opening(say, patience=Patience(tries=3, first_wait_s=0.001))
    return PlannedSource(name=name, stage="one", kind="hub", validation_fraction=0.2,
                         open=partial(open_source, config, "hub", seed=1, opening=opening),
                         recipe=lambda: plain_recipe(Treatment(min_tokens=20)))

try:
    prepare_sources([plan("first"), plan("second")], Path(sys.argv[1]),
                    settings={"one": sys.argv[2] * 64}, progress=say,
                    effort=Effort(shard_tokens=50_000, keep_s=0.0, processes=1))
except YxanulError as error:
    say(error)
    os._exit(error.exit_code)
os._exit(0)  # as tests/data/hub_reader.py leaves, and why
"""


def texts(count: int, seed: int) -> list[dict[str, str | None]]:
    """Return rows of about 7 KB; some are short, null, or the same as others."""
    draw = random.Random(seed)
    words = [f"word{n}" for n in range(500)]
    rows: list[dict[str, str | None]] = []
    for n in range(count):
        if n % 17 == 3:
            rows.append({"text": None if n % 2 else "short"})
        elif n % 19 == 5:
            rows.append(dict(rows[draw.randrange(len(rows))]))
        else:
            rows.append({"text": f"{seed} {n} " + " ".join(draw.choices(words, k=1000))})
    return rows


@pytest.fixture(scope="module")
def hub() -> Iterator[StandIn]:
    first, second = texts(300, 1), texts(300, 2)
    second[100:130] = first[100:130]  # texts that the first source has, too
    files = {f"data/train-{n}.parquet": parquet(first[100 * n : 100 * n + 100]) for n in range(3)}
    lines = {f"data/train-{n}.jsonl": json_lines(second[100 * n : 100 * n + 100]) for n in range(3)}
    sets = {"some/first": HubSet({"README.md": card(default="data/train-*"), **files})}
    sets["some/second"] = HubSet({"README.md": card(default="data/train-*"), **lines})
    with running(StandIn(sets)) as standin:
        yield standin


@pytest.fixture(scope="module")
def unbroken(hub: StandIn, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    done = run(hub, out)
    assert done.returncode == 0, done.stderr
    manifest = load_manifest(out)
    verify(manifest, out)
    assert len(manifest.sources["first"].train.files) > 5
    dropped = manifest.sources["second"].dropped
    assert dropped["duplicate"] > 30
    assert {"text is null", "too_short"} < dropped.keys()
    return all_bytes(out)


def start(hub: StandIn, out: Path, settings: str = "0") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out), settings],
        env=hub.environment(out.parent / "home"),
        stderr=subprocess.PIPE,
        text=True,
    )


def run(hub: StandIn, out: Path, settings: str = "0") -> subprocess.CompletedProcess[str]:
    process = start(hub, out, settings)
    _, said = process.communicate(timeout=120)
    assert "Traceback" not in said, said
    return subprocess.CompletedProcess(process.args, process.returncode, None, said)


def states(out: Path) -> set[bytes]:
    """Return what is kept at this moment."""
    kept = set()
    for place in out.glob("*/unfinished.json"):
        kept.add(place.read_bytes())
    return kept


def killed(hub: StandIn, out: Path, *, after: int, delay_s: float) -> bool:
    """Start, and kill after so many new states and a moment; return whether it lived to its end."""
    process, seen = start(hub, out), states(out)
    known = len(seen)
    while process.poll() is None and len(seen) < known + after:
        seen |= states(out)
        time.sleep(0.001)
    time.sleep(delay_s)
    process.kill()
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said, said
    return process.returncode == 0


@pytest.mark.slow
def test_a_preparation_killed_again_and_again_ends_with_the_same_bytes(
    hub: StandIn, tmp_path: Path, unbroken: dict[str, bytes]
) -> None:
    draw, out, kills = random.Random(1), tmp_path / "out", 0
    hub.break_with()
    while kills < 6 and not killed(
        hub, out, after=draw.choice([1, 2]), delay_s=draw.choice([0.0, 0.01, 0.1])
    ):
        kills += 1
    assert kills >= 2
    done = run(hub, out)
    assert done.returncode == 0, done.stderr
    assert all_bytes(out) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("place", ["first/2", "second/1"])
def test_a_hub_that_gives_up_in_the_middle_is_gone_on_with(
    hub: StandIn, tmp_path: Path, unbroken: dict[str, bytes], place: str
) -> None:
    name, _, number = place.partition("/")
    out, ending = tmp_path / "out", "parquet" if name == "first" else "jsonl"
    broken = f"{hub.sets[f'some/{name}'].sha}/data/train-{number}.{ending}"
    hub.break_with(Fault(f"/cdn/{broken}", 503, 99))
    done = run(hub, out)
    assert done.returncode == 11
    assert "the hub answered 503, 3 times" in done.stderr
    assert "goes on where it stopped" in done.stderr
    assert not (out / "manifest.json").exists()
    hub.break_with()
    done = run(hub, out)
    assert done.returncode == 0, done.stderr
    assert all_bytes(out) == unbroken
    assert "goes on after" in done.stderr
    if name == "second":
        # The libraries are imported and the set is asked for its commit, but not for a row.
        assert "first: read by an earlier start" in done.stderr
        assert not hub.asked(f"/cdn/{hub.sets['some/first'].sha}")
    elif number == "2":
        # Once for the columns; the rows of finished files are not fetched again.
        assert len(hub.asked("/cdn/" + hub.sets["some/first"].sha + "/data/train-0")) == 1
        assert not hub.asked("/cdn/" + hub.sets["some/first"].sha + "/data/train-1")


@pytest.mark.slow
def test_other_settings_begin_anew_and_say_so(
    hub: StandIn, tmp_path: Path, unbroken: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    hub.break_with(Fault(f"/cdn/{hub.sets['some/second'].sha}/data/train-1", 503, 99))
    assert run(hub, out, settings="1").returncode == 11
    hub.break_with()
    done = run(hub, out, settings="0")
    assert done.returncode == 0
    assert "removed, since its stage has other settings now" in done.stderr
    assert all_bytes(out) == unbroken


@pytest.mark.slow
def test_what_is_kept_and_then_damaged_is_named(hub: StandIn, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hub.break_with(Fault(f"/cdn/{hub.sets['some/first'].sha}/data/train-1", 503, 99))
    assert run(hub, out).returncode == 11
    hub.break_with()
    kept, index = out / "first/unfinished.json", out / "first/train.documents.jsonl.tmp"
    whole, documents = kept.read_text(), index.read_bytes()
    index.write_bytes(documents[: len(documents) // 2])
    done = run(hub, out)
    assert done.returncode == 31
    assert "train.documents.jsonl.tmp" in done.stderr
    kept.write_text(whole[: len(whole) // 2])
    with pytest.raises(CorruptShardError, match=r"first/unfinished\.json is not valid JSON"):
        load_unfinished(out / "first")
    state = json.loads(whole)
    outside = {"path": "../../x.bin", "sha256": "0" * 64, "bytes": 2, "tokens": 1}
    train = {**state["sides"]["train"], "shards": [outside]}
    for sides, message in (
        ({}, "sides must be train and validation"),
        ({**state["sides"], "train": 3}, "an object is expected"),
        ({**state["sides"], "train": train}, r"path must be first/train-00000\.bin"),
    ):
        kept.write_text(json.dumps({**state, "sides": sides}))
        with pytest.raises(CorruptShardError, match=message):
            load_unfinished(out / "first")


def test_rows_are_counted_by_one_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def counting() -> Tokenizer:
        loads.append(1)
        return load_tokenizer()

    monkeypatch.setattr(hub_source, "load_tokenizer", counting)
    config = SourceConfig(
        name="a", domain="d", weight=1.0, hub_id="some/a", min_tokens=3, max_documents=9
    )
    reader = HubReader(config, revision="main", line=Line("some/a", print), dropped=Counter())
    texts = ("three words here", "two words", "no")
    assert [reader._unfit(text) for text in texts] == [None, "too_short", "too_short"]
    assert len(loads) == 1


def test_a_mark_that_no_reader_made_is_refused() -> None:
    config = SourceConfig(name="first", domain="d", weight=1.0, hub_id="some/first")
    line = Line("some/first", print)
    reader = HubReader(config, revision="main", line=line, dropped=Counter())
    with pytest.raises(CorruptShardError, match="mark of first: the key dropped is missing"):
        reader.resume({"file": 0})


@pytest.mark.slow
def test_what_a_kill_after_the_manifest_left_is_removed(
    hub: StandIn, tmp_path: Path, unbroken: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    hub.break_with()
    assert run(hub, out).returncode == 0
    (out / "preparing.json").write_text('["first", "second"]')
    (out / "second" / "unfinished.json").write_text("{}")
    assert run(hub, out).returncode == 0
    assert all_bytes(out) == unbroken
