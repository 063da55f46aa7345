"""Skills, later checks, overrides and promises on the page of a run that has them."""

import json
import math
import re
import shutil

import pytest

from tests.report.formulas import OF_LISTS, wilson_ends
from tests.report.recorded import Recorder
from tests.report.recorded_skills import (
    CLOZE,
    ITEMS,
    OVERRIDE,
    REASON,
    evaluated,
    write_evaluation,
)
from tests.report.test_traces import wrong_values
from tests.report.written_page import Page, resolve
from yxanul.curriculum.checks.kinds import kinds
from yxanul.curriculum.statistics.intervals import wilson
from yxanul.errors import CorruptDataError
from yxanul.plan.expected import EXPECTATIONS
from yxanul.report.reading.gather import gather
from yxanul.report.sections.transfer import transfer
from yxanul.report.write import write_report
from yxanul.runfolder.rows import append_row


def read(root) -> Page:
    return Page(write_report(root).read_text(encoding="utf-8"))


def section(page: Page, name: str) -> str:
    """The words of one section."""
    return words_of(page.html.partition(f'<section id="{name}">')[2].partition("</section>")[0])


def words_of(html: str) -> str:
    """The words of a piece of the page, cell by cell, one space between any two."""
    joined = " ".join(" ".join(Page(f"<main>{html}</main>").words).split())
    return re.sub(r"(?<=[_“]) | (?=[,.:;”])", "", joined)


@pytest.fixture
def copied(skilled, tmp_path):
    return shutil.copytree(skilled, tmp_path / "copy")


# The section


def test_a_run_without_skills_has_no_section_of_them(page):
    assert not [a for tag, a in page.tags if a.get("id") == "skills"]
    assert not [a for tag, a in page.tags if a.get("href") == "#skills"]
    assert "Contamination" not in page.text


def test_every_task_says_its_newest_figure_with_interval_items_and_guessing(skilled_page):
    told = section(skilled_page, "skills")
    low, high = wilson(CLOZE[4, 1], ITEMS["cloze"])
    share = f"{100 * CLOZE[4, 1] / ITEMS['cloze']:.1f} %"
    assert f"cloze acc {share} {100 * low:.1f} % to {100 * high:.1f} % 25.0 % 120 6.13 pp" in told
    assert "version 1.0 · worked examples 5 · every moment" in told
    assert "sandbox L1" in told


def test_what_never_gates_says_so_and_how_little_it_can_show(skilled_page):
    told = section(skilled_page, "skills")
    assert re.search(r"gsm8k exact_match 1\.1 % .* no gate: MDE 4\.17 pp gsm8k gold_bpb", told)
    assert "What has “no gate” is reported and never stops one" in told
    assert re.search(r"gsm8k gold_bpb [\d.]+ – – 90 1\.5 % gates warn", told)


def test_what_was_not_run_says_why(skilled_page):
    told = section(skilled_page, "skills").partition("Not run")[2]
    assert f"G4 humaneval pass_at_1 after stage4_code: {REASON}" in told
    assert told.count("humaneval") == 1  # by the check, and not by the score again
    assert told.count("triviaqa") == 2  # the newest check, and its reason
    assert "the split of triviaqa holds no item" in told


def test_a_measure_that_no_check_speaks_of_is_missed_by_its_score(copied):
    rows = (copied / "gates.jsonl").read_text().splitlines()
    kept = [row for row in rows if '"humaneval pass_at_1"' not in row]
    (copied / "gates.jsonl").write_text("".join(f"{row}\n" for row in kept))
    assert f"humaneval pass_at_1: {REASON}" in section(read(copied), "skills")


def test_a_task_that_was_asked_for_and_left_no_score_is_missed(copied):
    for path in (copied / "scores" / "skills").glob("*-cloze.json"):
        path.unlink()
    rows = (copied / "gates.jsonl").read_text().splitlines()
    kept = [row for row in rows if '"cloze acc"' not in row]
    (copied / "gates.jsonl").write_text("".join(f"{row}\n" for row in kept))
    told = section(read(copied), "skills")
    assert "cloze, in stage1_wikipedia: RUN/scores has no score of it" in told


def test_text_that_is_kin_to_a_tasks_problems_is_declared(skilled_page):
    told = section(skilled_page, "skills")
    assert "made from the same problems or their kin: gsm_symbolic." in told
    assert "kin: gsm_symbolic" in section(skilled_page, "expected")


def test_items_found_in_the_training_text_are_counted_once_each(skilled_page):
    told = section(skilled_page, "skills").partition("Contamination")[2]
    assert "gsm8k 90 2 2 arithmetic, gsm_symbolic" in told
    assert "180K tokens were looked through" in told


def test_a_run_that_did_not_look_for_its_items_says_so(copied):
    (copied / "contamination.json").unlink()
    assert "did not record whether items of its tasks stand" in section(read(copied), "skills")


# Charts


def panels(page):
    return {name: figure for name, figure in page.figures.items() if name.startswith("skill-")}


def test_there_is_a_panel_for_what_stands_for_a_task_and_for_what_it_is_judged_by(skilled_page):
    drawn = {(trace["name"], trace["meta"]["y"])
             for figure in panels(skilled_page).values() for trace in figure["data"]
             if "abandoned" not in trace["name"]}  # fmt: skip
    assert drawn == {("hellaswag", "acc_norm"), ("cloze", "acc"), ("gsm8k", "exact_match"),
                     ("gsm8k", "gold_bpb"), ("humaneval", "gold_bpb")}  # fmt: skip


def test_every_point_of_a_panel_is_a_score_with_its_interval(skilled, skilled_page):
    points = 0
    for figure in panels(skilled_page).values():
        for trace in figure["data"]:
            for index, (place, x_of) in enumerate(
                zip(trace["customdata"], trace["meta"]["x"], strict=True)
            ):
                tokens = 0 if "step-00000000" in x_of else resolve(skilled, x_of)
                assert trace["x"][index] == tokens
                measures = resolve(skilled, f"{place}#/measures")
                name = trace["meta"]["y"]
                if name == "gold_bpb":
                    value = OF_LISTS["bits per byte"](measures["gold_nats"], measures["gold_bytes"])
                else:
                    value = OF_LISTS["mean"](measures[name])
                    low, high = wilson_ends(measures[name])
                    bars = trace["error_y"]
                    assert value + bars["array"][index] == pytest.approx(high)
                    assert value - bars["arrayminus"][index] == pytest.approx(low, abs=1e-12)
                assert trace["y"][index] == pytest.approx(value, rel=1e-12)
                points += 1
    assert points > 25


def test_guessing_is_a_line_where_it_means_something(skilled_page):
    for figure in panels(skilled_page).values():
        levels = [s["y0"] for s in figure["layout"]["shapes"] if s["xref"] == "paper"]
        name, measure = figure["data"][-1]["name"], figure["data"][-1]["meta"]["y"]
        guessed = name in ("hellaswag", "cloze") and measure != "gold_bpb"
        assert levels == ([0.25] if guessed else [])


def test_an_abandoned_attempt_is_grey_in_the_panels_too(skilled_page):
    left = [t for f in panels(skilled_page).values() for t in f["data"] if "abandoned" in t["name"]]
    assert left
    assert all((t["line"]["dash"], t["line"]["color"]) == ("dash", "@quiet") for t in left)


# Gates


@pytest.mark.parametrize(
    ("check", "subject", "written"),
    [
        ("G1", "", ("small share", "small share")),
        ("G3", "math", ("change", "share")),
        ("G4", "hellaswag acc_norm", ("points", "points size")),
        ("G4", "gsm8k gold_bpb", ("change", "share")),
        ("G5", "math", ("change", "share")),
        ("G6", "", ("small change", "small share")),
        ("G4", "gsm8k exact_match", ("share", "points size")),
        ("G4", "humaneval pass_at_1", ("share", "points size")),
        ("G7", "triviaqa exact_match", ("points", "points size")),
        ("G7", "gsm8k gold_bpb", ("plain", "plain")),
        ("G8", "", ("share", "share")),
        ("G9", "", ("plain", "plain")),
    ],
)
def test_a_checks_figures_have_the_unit_of_what_it_compares(check, subject, written):
    assert kinds(check, subject) == written


def test_later_checks_stand_in_the_cards_with_their_units(skilled_page):
    told = section(skilled_page, "gates")
    assert re.search(r"G4 skills cloze acc pass \+10\.83 pp \+7\.83 pp to \+14\.23 pp", told)
    assert re.search(r"G4 skills gsm8k gold_bpb pass \+29\.3 % .* noise of training 1\.2 %", told)
    assert "noise of training 0.41 pp" in told
    assert re.search(r"G5 level math fail → stop \+12\.0 % – \+3\.0 %", told)
    assert re.search(r"G6 plateau pass \+0\.28 % – \+0\.30 %", told)
    assert re.search(r"G7 contamination hellaswag acc_norm pass \+0\.31 pp", told)
    assert re.search(r"G8 budget pass 25\.0 % – 100\.0 %", told)


def test_a_rate_that_does_not_gate_is_told_as_it_stands(skilled_page):
    told = section(skilled_page, "gates")
    assert "G4 skills gsm8k exact_match not applicable 1.1 % 0.2 % to 6.0 % – 90 4.17 pp" in told


def test_the_question_whether_decay_may_begin_has_its_own_card(skilled_page):
    told = section(skilled_page, "gates")
    assert re.search(r"stage4_code may the decay begin\? pass attempt 1, step 4\d\d", told)
    assert told.index("may the decay begin?") > told.index("stage3_math")
    assert "no verdict yet" not in told


def test_a_percentage_is_written_in_one_way_on_the_page(skilled_page):
    page = re.sub(r"<script.*?</script>|<pre.*?</pre>|<blockquote.*?</blockquote>", "",
                  skilled_page.html, flags=re.DOTALL)  # fmt: skip
    words = [word for word in Page(page).words if re.search(r"\d%", word)]
    assert words == [OVERRIDE]  # a person's own words stay as they are


def test_an_override_is_seen_and_the_gates_own_words_stay(skilled, skilled_page):
    card = section(skilled_page, "gates").partition("stage3_math stop")[2]
    said = "Overridden by ada, 2026-11-24 18:13 UTC: warn instead of stop. Reason: "
    assert f"{said}“{OVERRIDE}” What the gate said stands below" in card
    assert "12.00 % above the forecast" in card
    top = section(skilled_page, "summary")
    assert "stage3_math gate: stop, overridden: warn" in top
    head = skilled_page.text.partition("In ten seconds")[0]
    assert "a person decided against the gate of stage3_math" in head


def test_without_the_override_the_run_is_not_complete(copied):
    rows = (copied / "gates.jsonl").read_text().splitlines()
    kept = [row for row in rows if '"override"' not in row]
    (copied / "gates.jsonl").write_text("".join(f"{row}\n" for row in kept))
    text = read(copied).text
    assert "before every stage had passed its gate" in text
    assert "Overridden" not in text


# Transfer


def test_transfer_is_computed_from_the_matrix_with_negative_for_forgetting(run, tmp_path):
    told = transfer(gather(run))
    rows = {row.domain.value: row for row in told.domains}
    after = {v.find("stage"): v.find("bpb_after") for v in gather(run).verdicts}
    one, two, three, four = after.values()
    expected = [one["wikipedia"] / two["wikipedia"], one["factbook"] / two["factbook"]]
    losses = [1 - two[d] / one[d] for d in ("wikipedia", "factbook")]
    assert told.backward[0].value.number == pytest.approx(sum(losses) / 2)
    assert told.backward[0].value.number < 0
    assert all(share < 1 for share in expected)
    assert [one.stage.value for one in told.backward] == ["stage2_reasoning", "stage3_math",
                                                          "stage4_code"]  # fmt: skip
    assert rows["math"].forward.number == pytest.approx(1 - two["math"] / 5.1410)
    assert rows["wikipedia"].forward is None
    assert rows["math"].forgetting.number == pytest.approx(four["math"] / three["math"] - 1)
    assert rows["code"].forgetting.number == 0


def test_one_stage_has_nothing_to_transfer(tmp_path):
    recorder = Recorder(tmp_path / "run")
    recorder.begin()
    recorder.stage(recorder.plans[0], attempt=0)
    assert transfer(gather(recorder.root)) is None
    assert "Transfer between stages" not in read(recorder.root).text


def test_a_skill_that_was_lost_is_forgetting_whichever_way_it_counts(skilled_page):
    told = skilled_page.html.partition("<h3>Skills</h3>")[2].partition("</table>")[0]
    last = told.split("<tr>")[-1]
    tones = re.findall(r'<td class="(\w+)', last)
    assert tones == ["forgotten"] * 4  # cloze and HellaSwag fell, both gold_bpb rose
    first = told.split("<tr>")[3]
    assert re.findall(r'<td class="(\w+)', first) == ["learned"] * 4


# Promises


def rows_of(page):
    """The cells of the table of promises, in words."""
    told = page.html.partition('<table class="expected')[2].partition("</table>")[0]
    cells = [[words_of(cell) for cell in re.split(r"<t[hd][^>]*>", row)[1:]]
             for row in re.sub(r"</t[hdr]>|</?tbody>", "", told).split("<tr>")[2:]]  # fmt: skip
    return {row[0]: row[1:] for row in cells}


def test_promises_stand_beside_what_was_published_and_only_what_was_run(skilled_page):
    rows = rows_of(skilled_page)
    assert list(rows) == [one.name for one in EXPECTATIONS]
    for one in EXPECTATIONS:
        reference, promised, realistic, _, verdict = rows[one.name]
        assert promised == one.promised_text
        assert realistic == one.realistic
        assert verdict == f"{one.verdict} {one.why}"
        assert (reference == "not reported") == (one.reference is None)
    assert rows["HellaSwag"][3].startswith("32.0 %, 25.9 % to 38.8 % after stage4_code; 200 items")
    assert rows["TriviaQA"][3] == "not run"
    assert rows["HumanEval"][3] == f"not run {REASON}"


def newest_scored(root) -> str:
    """The name of the newest checkpoint that a gate scored."""
    newest = max((root / "scores" / "skills").glob("*-hellaswag.json"))
    return newest.name.removesuffix("-hellaswag.json")


def test_what_evaluate_scored_of_a_checkpoint_stands_beside_the_promise(copied):
    write_evaluation(copied, newest_scored(copied), evaluated("hellaswag", 400, right=300))
    write_evaluation(copied, "step-00000010-a0", evaluated("triviaqa", 80, right=20))
    page = read(copied)
    told = {name: row[3] for name, row in rows_of(page).items()}
    assert told["HellaSwag"].startswith("75.0 %, ")
    assert "400 items, 0 worked examples; items from a made-up set" in told["HellaSwag"]
    assert told["TriviaQA"].startswith("25.0 %, ")
    assert "at step 10; 80 items" in told["TriviaQA"]
    assert (wrong_values(copied, page), page.untraced) == ([], [])
    # The course of a skill is the gates' alone, whose scores are all of the same items.
    assert "75.0 %" not in section(page, "skills")


def test_items_of_a_file_with_other_texts_than_the_hubs_are_said_not_to_compare(copied):
    assert "not comparable" not in rows_of(read(copied))["HellaSwag"][3]
    path = copied / "scores" / "skills" / f"{newest_scored(copied)}-hellaswag.json"
    origin = "hellaswag_val_full.txt.bz2, sha256 0123456789abcdef"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": origin}))
    said = f"{origin} (other texts than the hub's: not comparable with published scores)"
    assert said in rows_of(read(copied))["HellaSwag"][3]


def test_what_kept_the_model_from_the_whole_of_a_task_is_a_line_beside_its_scores(copied):
    assert "lost their beginning" not in section(read(copied), "skills")
    path = copied / "scores" / "skills" / f"{newest_scored(copied)}-hellaswag.json"
    kept = {"origin": "hellaswag_val_full.txt.bz2, sha256 0123456789abcdef", "cut_prompts": 7}
    path.write_text(json.dumps(json.loads(path.read_text()) | kept))
    page = read(copied)
    assert (
        "hellaswag: its items are other texts than the hub's: not comparable with published "
        "scores; 7 of 200 prompts lost their beginning"
    ) in section(page, "skills")
    assert (wrong_values(copied, page), page.untraced) == ([], [])


def test_kin_that_evaluate_found_is_told_though_the_prepared_data_is_gone(copied):
    (copied / "data" / "manifest.json").unlink()
    scores = [evaluated("gsm8k", 400, right=9, shots=5, kin=["gsm_symbolic"])]
    scores += [evaluated("humaneval", 400, right=9, kin=[])]
    for score in scores:
        write_evaluation(copied, newest_scored(copied), score)
    page = read(copied)
    told = {name: row[3] for name, row in rows_of(page).items()}
    assert "the same problems or their kin: gsm_symbolic" in told["GSM8K"]
    assert "kin" not in told["HumanEval"]
    assert (wrong_values(copied, page), page.untraced) == ([], [])


def test_programs_of_a_few_items_stand_where_the_gate_ran_none_of_all(copied):
    few = evaluated("humaneval", 50, right=5)
    write_evaluation(copied, newest_scored(copied), few, of="-first50")
    told = rows_of(read(copied))["HumanEval"][3]
    assert told.startswith("10.0 %, ")
    assert "50 items" in told


def test_perplexity_stands_per_domain_with_its_bits_per_byte(skilled_page):
    told = rows_of(skilled_page)["Perplexity"][3]
    assert re.match(r"wikipedia 193\.4 1\.709 bpb factbook", told)
    # The recorded documents have 400 bytes and 90 tokens.
    assert math.exp(1.709 * math.log(2) * 400 / 90) == pytest.approx(193.4, abs=0.05)


def test_every_cited_fact_names_its_source_and_is_one_of_the_plan(skilled_page):
    facts = {one.promised_text for one in EXPECTATIONS} | {one.why for one in EXPECTATIONS}
    facts |= {one.realistic for one in EXPECTATIONS} | {one.name for one in EXPECTATIONS}
    facts |= {f"{one.reference.value:.1f} % ({one.reference.tokens})"
              for one in EXPECTATIONS if one.reference}  # fmt: skip
    cited = [pair for pair in skilled_page.cited if pair[0] != "25.0 %"]
    assert {text for text, _ in cited} == facts
    assert all(source for _, source in cited)
    assert any("not measured" in source and "MicroLlama" in source for _, source in cited)


def test_a_run_that_reaches_a_promise_says_reached(copied):
    path = max((copied / "scores" / "skills").glob("*-hellaswag.json"))
    score = json.loads(path.read_text())
    score["measures"]["acc_norm"] = [1.0] * 190 + [0.0] * 10
    path.write_text(json.dumps(score))
    assert rows_of(read(copied))["HellaSwag"][4].startswith("reached")


def test_a_run_without_skills_says_not_run_for_every_task(page):
    rows = rows_of(page)
    assert [row[3] for row in rows.values()][1:] == ["not run"] * 4
    assert "bpb" in rows["Perplexity"][3]


# Damage


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("scores/skills/step-00000000-a0-cloze.json", "{"),
        ("scores/skills/step-00000000-a0-cloze.json", '{"task": "cloze"}'),
        ("scores/skills/step-late.json", "{}"),
        ("contamination.json", "[]"),
        ("contamination.json", '{"findings": [{"task": 4}]}'),
    ],
)
def test_a_damaged_file_is_named(copied, name, damage):
    (copied / name).write_text(damage)
    with pytest.raises(CorruptDataError, match=re.escape(str(copied / name))):
        write_report(copied)


def test_an_override_without_a_verdict_is_damage_and_one_without_a_reason_is_shown(copied):
    place = {"row": "override", "stage": "stage1_wikipedia", "attempt": 0, "step": 300}
    append_row(copied / "gates.jsonl", {**place, "verdict": "stop", "at": "yesterday"})
    told = section(read(copied), "gates")
    assert "Overridden, yesterday: stop instead of pass. No reason is recorded." in told
    append_row(copied / "gates.jsonl", place)
    with pytest.raises(CorruptDataError, match="verdict"):
        write_report(copied)


def test_answers_of_a_stages_end_are_not_hidden_by_the_next_attempts_entry(copied):
    """Attempt 1 scores the weights of step 300 again, without letting them write."""
    old = copied / "scores" / "skills" / "step-00000300-a0-gsm8k.json"
    score = json.loads(old.read_text())
    del score["measures"]["exact_match"]
    old.with_name("step-00000300-a1-gsm8k.json").write_text(json.dumps(score))
    told = section(read(copied), "skills")
    assert "after stage1_wikipedia exact_match 0.0 %" in told


def test_a_score_of_no_item_is_a_gap_and_no_crash(copied):
    path = copied / "scores" / "skills" / "step-00000000-a0-cloze.json"
    score = json.loads(path.read_text())
    score |= {"ids": [], "clusters": [], "measures": {name: [] for name in score["measures"]}}
    path.write_text(json.dumps(score))
    page = read(copied)
    assert page.untraced == []
    assert "cloze acc" in section(page, "skills")
