"""The page: whole, offline, safe, the same for the same run, and honest about what is not there."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.report.conftest import HOSTILE
from tests.report.formulas import recompute
from tests.report.recorded import Recorder, begin_late, move
from tests.report.test_skills import section
from tests.report.test_traces import wrong_values
from tests.report.written_page import Page
from yxanul.errors import UsageError
from yxanul.report.charts.curves import loss_chart
from yxanul.report.charts.figure_tables import MOST_POINTS as MOST_TABLE_POINTS
from yxanul.report.charts.figure_tables import Column, curves_of_rows, table_of
from yxanul.report.comparison import facts
from yxanul.report.reading.course import borders, trained_seconds
from yxanul.report.reading.gather import gather
from yxanul.report.write import write_comparison, write_report
from yxanul.runfolder.layout import RunFolder
from yxanul.runfolder.lineage import BY_NAME, record_event, register_gate
from yxanul.runfolder.rows import append_row
from yxanul.units import format_count

MOST_BYTES = 8_000_000
SECTIONS = ["summary", "loss", "bpb", "forgetting", "gates", "expected", "planned"]
SECTIONS += [
    "incidents",
    "cost",
    "tokens",
    "speed",
    "samples",
    "sources",
    "environment",
    "reproduce",
]


def read(root) -> Page:
    return Page(write_report(root).read_text(encoding="utf-8"))


def test_the_page_has_every_section_and_the_menu_leads_to_each(page):
    ids = [a["id"] for tag, a in page.tags if tag == "section"]
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert ids == SECTIONS
    assert links == [f"#{name}" for name in SECTIONS]


def test_the_page_is_one_file_that_names_nothing_outside_itself(run, page):
    assert (run / "report.html").stat().st_size < MOST_BYTES
    assert not [a for _, a in page.tags if {"src", "srcset", "action", "poster"} & a.keys()]
    assert all(a["href"].startswith("#") for _, a in page.tags if "href" in a)
    style = (run / "report.html").read_text(encoding="utf-8").partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_plotly_is_inlined_once_and_no_other_script_may_run(run, page):
    html = (run / "report.html").read_text(encoding="utf-8")
    assert html.count("plotly.js v") == 1
    policy = next(a["content"] for tag, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 2
    assert "script-src 'unsafe-inline'" not in policy


def test_the_same_run_gives_the_same_bytes(run, copied):
    assert write_report(copied).read_text() == (run / "report.html").read_text().replace(
        "recorded", "copy"
    )


def test_nothing_that_a_run_holds_becomes_part_of_the_page(hostile):
    html = (hostile / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    scripts = sum(tag == "script" for tag, _ in page.tags)
    assert scripts == len(page.figures) + 2  # plotly, ours
    assert not [a for tag, a in page.tags if tag == "img" or "onerror" in a]
    assert "evil.example/a.png>" not in html
    assert sum(HOSTILE in value.text for value in page.values) > 10
    assert "{{ 7 * 7 }}" in page.text
    names = [t["name"] for t in page.figures["bpb"]["data"]]
    assert any("&lt;script&gt;" in name for name in names)
    assert not any("<" in name for name in names)


def test_plotly_knows_every_key_of_the_charts(page):
    from plotly.graph_objects import Figure

    def painted(value):
        """The page's script puts colours in; any will do here."""
        if isinstance(value, list):
            return [painted(item) for item in value]
        if isinstance(value, dict):
            return {key: painted(item) for key, item in value.items()}
        return "#123456" if isinstance(value, str) and re.fullmatch(r"@\w+", value) else value

    assert set(page.figures) == {"loss", "bpb", "speed"}
    for figure in page.figures.values():
        Figure(painted(copy.deepcopy(figure)))


def test_every_colour_of_the_charts_is_one_of_the_style_sheet(run, page):
    style = (run / "report.html").read_text(encoding="utf-8").partition("</style>")[0]
    used = set(re.findall(r'"@(\w+)"', json.dumps(page.figures)))
    assert {"c0", "ink", "quiet"} <= used
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for name in used:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark


def test_an_abandoned_attempt_is_grey_dashed_and_named(page):
    for name in ("loss", "bpb", "speed"):
        left = [t for t in page.figures[name]["data"] if "abandoned attempt 0" in t["name"]]
        assert left
        assert all((t["line"]["dash"], t["line"]["color"]) == ("dash", "@quiet") for t in left)
        others = [t for t in page.figures[name]["data"] if t not in left]
        assert all(t["line"]["color"] != "@quiet" for t in others)
    assert "Attempt 1 begins from step-00000300-a0" in page.text
    assert "replay of earlier stages 20.0 %, learning rates times 0.7" in page.text
    assert "left behind by a later attempt" in page.text


def test_a_finished_run_says_complete_and_shows_its_attribution(page):
    assert "complete Every stage has passed its gate." in page.text
    assert "CC0-1.0" in page.text
    assert "the tests" in page.text


def test_every_chart_has_its_figures_as_a_table_and_says_where(run, page, skilled_page):
    for one in (page, skilled_page):
        plots = [a for _, a in one.tags if a.get("class") == "plot"]
        ids = {a["id"] for _, a in one.tags if "id" in a}
        assert len(plots) == len(one.figures)
        for plot in plots:
            assert {plot["aria-details"], *plot["aria-describedby"].split()} <= ids
            assert plot["aria-details"].startswith("figures-")
            assert (
                f"told-{plot['aria-details'].removeprefix('figures-')}" in plot["aria-describedby"]
            )


def test_the_table_of_a_chart_tells_the_ends_of_its_curves(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    told = loss_chart(gather(run)).figures
    assert [len(piece.ends) for piece in told.pieces] == [4] * 5
    for piece in told.pieces:
        stage = piece.name[0].value
        # Stage 2 was trained twice; of the other stages every row belongs to the run.
        attempt = piece.name[2].value if len(piece.name) > 1 else 1
        own = [row["loss"] for row in rows if row["stage"] == stage
               and (stage != "stage2_reasoning" or row["attempt"] == attempt)]  # fmt: skip
        end = piece.ends[0]
        found = (end.first, end.lowest, end.highest, end.last)
        assert [one.value for one in found] == [own[0], min(own), max(own), own[-1]]
        assert 2 <= len(piece.rows) <= MOST_TABLE_POINTS
        drawn = [values[0].value for _, values in piece.rows]
        assert (drawn[0], drawn[-1]) == (own[0], own[-1])
        assert {min(own), max(own)} <= set(drawn)


def test_the_tables_of_a_run_of_many_attempts_stay_small(run):
    rows = gather(run).metrics
    curves = [
        ((str(number),), curves_of_rows(rows, (Column("loss", "loss"),))) for number in range(300)
    ]
    told = table_of(curves)
    assert sum(len(piece.rows) for piece in told.pieces) == 2 * len(curves)


def test_every_event_of_the_lineage_is_an_incident(copied):
    lineage = copied / "lineage.jsonl"
    record_event(lineage, "set aside", checkpoint="step-00000250-a0", to="bad-step-00000250-a0",
                 why="its manifest names another sha256")  # fmt: skip
    record_event(lineage, "diverged", step=310, attempt=1, why="three steps were skipped")
    register_gate(lineage, "stage4_code", attempt=1, sha256="ab" * 32)
    record_event(lineage, BY_NAME, checkpoint="step-00000300-a0")
    record_event(lineage, "moved house", to="another room", boxes=12, fragile=True, why=None)
    page = read(copied)
    told = section(page, "incidents")
    assert (
        "Checkpoint step-00000250-a0 was damaged and set aside as bad-step-00000250-a0: "
        "its manifest names another sha256."
    ) in told
    assert "Attempt 1 diverged at step 310: three steps were skipped." in told
    fixed = "The gate of stage4_code was fixed before its first step in attempt 1."
    assert fixed in told
    assert "went on from its newest checkpoint, which was named: step-00000300-a0." in told
    assert "moved house; to another room; boxes 12; fragile true." in told
    assert "Step 20: no weight was moved" in told
    assert wrong_values(copied, page) == []
    assert page.untraced == []


def test_starts_are_counted_and_another_machine_is_named(run, page, copied):
    told = section(page, "incidents")
    assert "2 processes have worked on the run." in told
    assert "Process 1 went on, its first row after 1,013,760 tokens spent." in told
    assert "another machine" not in told
    move(copied, "8 x NVIDIA H100 80GB HBM3", "1 x NVIDIA H200")
    moved = read(copied)
    assert (
        "tokens spent, on another machine: 1 x NVIDIA H200 after 8 x NVIDIA H100 80GB HBM3."
    ) in section(moved, "incidents")
    assert wrong_values(copied, moved) == []
    assert moved.untraced == []


def test_a_second_computation_that_differed_is_an_incident(copied):
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    rows[7]["hardware"] = "it came out otherwise a second time"
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"Step {rows[7]['step']}: it came out otherwise" in section(read(copied), "incidents")


def test_machine_and_optimisations_are_told_as_those_of_the_newest_start(page):
    """Every start writes environment.json anew, so nothing of the first one may be claimed."""
    told = page.text.partition("Machine and optimisations")[2].partition("Do it again")[0]
    assert "as the newest start of the run found them" in told
    assert "when the run began" not in told


def test_a_run_of_the_first_version_says_what_it_did_not_record(run, copied):
    (copied / "samples.jsonl").unlink()
    rows = [json.loads(line) for line in (run / "gates.jsonl").read_text().splitlines()]
    (copied / "gates.jsonl").unlink()
    for row in rows:
        if row.pop("row") == "verdict":
            del row["ledger"], row["gate_sha256"]
            append_row(copied / "gates.jsonl", row)
    environment = json.loads((copied / "environment.json").read_text())
    del environment["features"]
    (copied / "environment.json").write_text(json.dumps(environment))
    text = read(copied).text
    for missing in ("single checks of this gate, only its verdict", "continuations of prompts",
                    "which optimisations were active",
                    "how many tokens came from which source"):  # fmt: skip
        assert f"This run did not record {missing}." in text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("config.yaml", "This run did not record its configuration."),
        ("environment.json", "This run did not record the machine it ran on."),
        ("gates.jsonl", "No gate has been asked yet."),
        ("lineage.jsonl", "This run did not record its attempts."),
        ("data/manifest.json", "its sources cannot be listed"),
        ("exit.json", "complete"),
        ("scores", "This run did not record scores of held-out documents yet."),
    ],
)
def test_a_part_that_is_not_there_is_said_in_a_sentence(copied, name, told):
    place = copied / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    page = read(copied)
    assert told in page.text
    assert page.untraced == []


def test_prepared_data_elsewhere_is_found_and_its_absence_is_said(copied, tmp_path):
    shared = (copied / "data").rename(tmp_path / "shared data")
    (copied / "data.json").write_text(json.dumps({"prepared": str(shared)}))
    page = read(copied)
    assert "CC0-1.0" in page.text
    assert any("shared%20data/manifest.json" in value.sources[0] for value in page.values)
    shutil.rmtree(shared)
    assert "its sources cannot be listed" in read(copied).text


def test_prepared_data_of_another_version_keeps_nothing_else_of_a_run_from_its_page(copied):
    manifest = copied / "data" / "manifest.json"
    manifest.write_text(json.dumps({"format_version": 1, "datasets": []}))
    assert "its sources cannot be listed" in read(copied).text


def going_on(root):
    """A run in the middle of its second stage."""
    recorder = Recorder(root)
    recorder.begin()
    one, two = recorder.plans[:2]
    recorder.stage(one, attempt=0)
    recorder.train(two, attempt=0, steps=40)
    return recorder


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Another process holds the folder as long as the block lasts, as one that trains does."""
    program = (
        "import sys; from pathlib import Path; from yxanul.runfolder.layout import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(root)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield
        holder.communicate()


def test_a_run_that_is_going_on_says_so_at_the_top(tmp_path):
    root = going_on(tmp_path / "run").root
    with held(root):
        text = read(root).text
    said = "still running This run is still going: the page shows it as far as its rows go."
    assert text.index(said) < text.index("In ten seconds")
    assert "The newest row is step 340 of stage2_reasoning." in text
    assert "gate not asked" in text
    assert "no end recorded" in read(root).text


def test_a_run_that_prepares_its_data_is_told_as_one(tmp_path):
    RunFolder(tmp_path).create()
    with held(tmp_path), pytest.raises(UsageError, match="still prepares its data"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="is no run folder"):
        write_report(tmp_path)


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Be nobody as long as the block lasts: no folder is closed to root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_prepared_data_in_a_private_folder_is_as_data_that_is_gone(run):
    with tempfile.TemporaryDirectory() as open_to_all:  # those of pytest are not
        place = Path(open_to_all)
        place.chmod(0o755)
        root, private = shutil.copytree(run, place / "run"), place / "private"
        private.mkdir()
        (root / "data").rename(private / "data")
        (root / "data.json").write_text(json.dumps({"prepared": str(private / "data")}))
        private.chmod(0)
        with without_roots_rights():
            found = gather(root)
        private.chmod(0o755)
    assert found.manifest is None
    assert found.metrics


def write_both(roots):
    return write_comparison(roots, roots[0].parent / "comparison.html")


@pytest.mark.parametrize("write", [lambda roots: write_report(roots[0]), write_both])
def test_a_page_may_be_written_by_two_at_once(copied, monkeypatch, write):
    roots = [copied, shutil.copytree(copied, copied.with_name("other"))]
    fsync = os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(os, "fsync", fsync)
        write(roots)  # another process comes, and ends, before the page is whole
        fsync(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    page = write(roots)
    assert page.read_text(encoding="utf-8").endswith("</html>\n")
    assert [path.name for path in page.parent.glob(".*.tmp")] == []


def say_at_the_gate(root, stage, word):
    """Let the last verdict on a stage be another one."""
    rows = [json.loads(line) for line in (root / "gates.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["row"] == "verdict" and row["stage"] == stage][-1]
    last["verdict"] = word
    (root / "gates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_was_killed_while_its_last_stage_was_lengthened_is_not_complete(copied):
    say_at_the_gate(copied, "stage4_code", "extend")
    assert "The command ended before every stage had passed its gate." in read(copied).text
    (copied / "exit.json").unlink()
    head = read(copied).text.partition("In ten seconds")[0]
    assert "no end recorded" in head
    assert "complete" not in head


def test_a_stage_whose_gate_could_judge_nothing_is_done(copied):
    say_at_the_gate(copied, "stage1_wikipedia", "not run")
    told = "Every stage is done; nothing could be judged by the gate of stage1_wikipedia."
    assert f"complete {told}" in read(copied).text


def test_the_tokens_of_all_attempts_are_told_when_the_first_stage_is_begun_anew(copied):
    """Then no checkpoint is an attempt's parent."""
    rows = [json.loads(line) for line in (copied / "lineage.jsonl").read_text().splitlines()]
    anew = "".join(json.dumps(row | {"parent": None}) + "\n" for row in rows)
    (copied / "lineage.jsonl").write_text(anew)
    page = read(copied)
    assert "1.01M tokens spent in all" in page.text
    assert wrong_values(copied, page) == []


@pytest.mark.parametrize("is_first_stage", [False, True])
def test_the_tokens_of_all_attempts_are_told_where_no_process_wrote_them(copied, is_first_stage):
    """As of an older version, and for an earlier checkpoint."""
    (copied / "spending.jsonl").unlink()
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    entry = [row for row in rows if row["stage"] == "stage1_wikipedia"][-1]
    step, seen = (0, 0) if is_first_stage else (entry["step"], entry["tokens_seen"])
    first, last = map(json.loads, (copied / "lineage.jsonl").read_text().splitlines())
    last |= {"step": step, **({"parent": None} if is_first_stage else {})}
    (copied / "lineage.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
    page = read(copied)
    wanted = last["tokens_spent"] + rows[-1]["tokens_seen"] - seen
    assert f"{format_count(wanted)} tokens spent in all" in page.text
    assert wrong_values(copied, page) == []


def test_one_slow_step_is_not_the_time_of_all_steps_since_the_row_before(copied):
    """A restart compiles for a minute, at a step whose row is due."""
    before = trained_seconds(gather(copied))
    assert before.number == 115.0
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    rows[20] |= {"step_s": 60.0}
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert trained_seconds(gather(copied)) == before


def test_a_run_begun_at_a_later_stage_is_complete_without_those_before(copied):
    begin_late(copied)
    page = read(copied)
    assert "complete Every stage from stage4_code on has passed its gate." in page.text
    assert page.untraced == []


def test_a_run_begun_at_a_later_stage_is_told_with_its_own_tokens_and_steps(copied):
    """Its clock, on the charts' axis too, counts the stages before it, which it never trained."""
    begin_late(copied)
    page = read(copied)
    run = gather(copied)
    last = run.course[-1]
    own = {v.how: v for v in page.values if v.how in ("own tokens", "since")}
    assert {how: int(v.value) for how, v in own.items()} == {
        "own tokens": last.tokens,
        "since": last.total_steps,
    }
    assert all(int(v.value) == recompute(copied, v) for v in own.values())
    told = {line.title: line.cells[0].value for line in facts([run])}
    assert (told["tokens seen"].value, told["steps"].value) == (last.tokens, last.total_steps)
    assert [(one.tokens, one.index) for one in borders(run)] == [(last.first_token, last.index)]


def test_a_run_whose_first_stage_has_no_row_was_begun_with_it(copied):
    """Rows may be rarer than its steps: the first one lies in the stage after it."""
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    later = [row for row in rows if row["stage"] != "stage1_wikipedia"]
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in later))
    assert "complete Every stage has passed its gate." in read(copied).text
    say_at_the_gate(copied, "stage1_wikipedia", "extend")
    assert "The command ended before every stage had passed its gate." in read(copied).text


def test_the_process_that_trains_may_write_the_report_itself(run, copied):
    (copied / "exit.json").unlink()
    with RunFolder(copied).locked():
        assert "still running" not in read(copied).text


@pytest.mark.parametrize(
    ("code", "reason", "word"),
    [
        (0, "done", "ended The command ended before every stage had passed its gate."),
        (10, "stopped by SIGINT", "stopped on request"),
        (20, "the gate says stop", "stopped by a gate"),
        (33, "the loss is not finite", "stopped: numerics"),
        (1, "KeyError: 'x'", "failed: internal error"),
    ],
)
def test_how_a_run_ended_stands_at_its_top(tmp_path, code, reason, word):
    recorder = going_on(tmp_path / "run")
    recorder.end(code, reason)
    text = read(recorder.root).text.partition("In ten seconds")[0]
    assert word in text
    assert code == 0 or f"exit code {code}: {reason}" in text


def test_half_a_last_line_is_left_out(copied, run):
    for name in ("metrics.jsonl", "gates.jsonl", "samples.jsonl", "lineage.jsonl"):
        with (copied / name).open("a") as file:
            file.write('{"step": 496, "loss"')
    assert len(read(copied).values) == len(Page((run / "report.html").read_text()).values)


def test_a_loss_that_was_not_finite_is_a_gap(copied):
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    rows[7]["loss"] = None
    (copied / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = read(copied).figures["loss"]["data"][0]["y"]
    assert losses[7] is None
    assert losses[8] is not None


def test_a_long_run_is_thinned_says_so_and_stays_small(copied):
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    last = rows[-1]
    more = [{**last, "step": last["step"] + i, "stage_step": last["stage_step"] + i,
             "tokens_seen": last["tokens_seen"] + 2048 * i, "loss": 2.0 + (i == 777)}
            for i in range(1, 4001)]  # fmt: skip
    with (copied / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in more)
    page = read(copied)
    losses = [y for t in page.figures["loss"]["data"] if t["meta"]["y"] == "loss" for y in t["y"]]
    assert len(losses) < len(rows) + 1600
    assert 3.0 in losses
    assert "Of so many rows only the lowest and the highest" in page.text
    assert (copied / "report.html").stat().st_size < MOST_BYTES


def test_scores_that_no_row_places_are_counted_in_words(copied):
    record = json.loads((copied / "scores" / "step-00000000-a0-math.json").read_text())
    record |= {"step": 7, "bpb": 1.0}
    (copied / "scores" / "step-00000007-a0-math.json").write_text(json.dumps(record))
    assert "tells their tokens: 1 of the scores" in read(copied).text
