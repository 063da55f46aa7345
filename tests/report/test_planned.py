"""What was planned stands beside what came of it, and what cannot be compared says so."""

import json

import pytest

from tests.report.formulas import OF_PLAN, seconds_of_rows
from tests.report.recorded import begin_late, move
from tests.report.test_traces import wrong_values
from tests.report.written_page import Page
from yxanul.config.load import parse_config
from yxanul.plan.hardware import Wishes
from yxanul.plan.summary import plan_run
from yxanul.report.write import write_report
from yxanul.units import format_duration


def lines(root):
    """Return {name: [planned, measured, remark]} of the section, as it is read."""
    section = section_of(root)
    rows = section.partition("<tbody>")[2].split("<tr>")[1:]
    found = {}
    for row in rows:
        name, *cells = row.partition("</tr>")[0].split("<td")
        found[Page(name).text.strip()] = [Page(f"<td{cell}").text.strip() for cell in cells]
    return found


def section_of(root):
    html = write_report(root).read_text(encoding="utf-8")
    return html[html.index('<section id="planned">') :].partition("</section>")[0]


def keep_lines(path, count):
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def test_every_stage_the_clock_the_memory_and_the_mfu_are_compared(run):
    found = lines(run)
    assert found["steps of stage2_reasoning"] == ["65", "65", ""]
    assert len([name for name in found if name.startswith("steps of ")]) == 4
    _, took, remark = found["wall clock, forecast after a tenth of the tokens"]
    assert took == "3 min 32 s"
    assert "against the forecast; restarts and rollbacks are not foreseen" in remark
    planned, measured, remark = found["memory of the main process"]
    assert "MiB" in planned
    assert measured == "1.15 GiB"
    assert remark.endswith(
        "; planned without Python, torch, data, scores and skills, of the stage that needs most"
    )


def test_a_run_that_is_not_over_is_not_held_against_its_plan(copied):
    gates = (copied / "gates.jsonl").read_text().splitlines(keepends=True)
    kept = [row for row in gates if json.loads(row)["stage"] == "stage1_wikipedia"]
    (copied / "gates.jsonl").write_text("".join(kept))
    found = lines(copied)
    assert found["steps of stage1_wikipedia"][2] == ""
    assert found["steps of stage4_code"][2] == "not over yet"
    assert found["wall clock, forecast after a tenth of the tokens"][2].startswith(
        "the run is not over"
    )


def test_before_a_tenth_of_the_tokens_there_is_no_forecast_to_judge(copied):
    keep_lines(copied / "spending.jsonl", 1)
    assert not [name for name in lines(copied) if name.startswith("wall clock")]


def test_a_run_that_had_gone_back_before_a_tenth_has_no_forecast_to_judge(copied):
    rows = [json.loads(row) for row in (copied / "lineage.jsonl").read_text().splitlines()]
    for row in rows[1:]:
        row["tokens_spent"] = 50_000
    (copied / "lineage.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not [name for name in lines(copied) if name.startswith("wall clock")]


def put_on(root, device):
    """Let the recorded run have been one of a wide model on a card."""
    path = root / "environment.json"
    more = {"device": device, "device_type": "cuda", "world_size": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    config = (root / "config.yaml").read_text()
    (root / "config.yaml").write_text(
        config.replace("hidden_size: 128", "hidden_size: 768").replace("fp32", "bf16")
    )


def test_on_a_card_the_assumed_mfu_and_its_source_stand_there(copied):
    put_on(copied, "NVIDIA H200")
    found = lines(copied)
    assert found["MFU, PaLM convention"][0] == "49 % (45 to 52)"
    assert "measured on one H200" in section_of(copied)
    assert found["memory of the main process"][2].endswith(
        "; planned without scores and skills, of the stage that needs most"
    )


def test_time_speed_and_dollars_are_held_against_the_planner(copied):
    """As `yxanul plan --gpus 2xH200` tells them; the run paid its own price of an hour."""
    put_on(copied, "NVIDIA H200")
    found = lines(copied)
    settings = parse_config((copied / "config.yaml").read_text(), "config.yaml")
    bill = plan_run(settings, Wishes(gpus="2xH200")).bill
    planned, took, remark = found["training time"]
    assert planned == format_duration(3600 * bill.total.hours.value)
    low, high = (
        format_duration(3600 * end) for end in (bill.total.hours.low, bill.total.hours.high)
    )
    counted = "abandoned attempts are counted in, what precedes a start's first row is not"
    assert remark == f"planned {low} to {high}; {counted}"
    assert took == format_duration(seconds_of_rows(copied))
    assert found["tokens/s"][0] == f"{bill.tokens_per_s:,.0f}"
    planned, paid, _ = found["dollars"]
    assert planned == f"${12.5 * bill.total.hours.value:,.2f}"
    assert paid == f"${12.5 * (150.75 + 61.25) / 3600:,.2f}"
    page = Page((copied / "report.html").read_text(encoding="utf-8"))
    assert wrong_values(copied, page) == []
    assert {value.how for value in page.values} >= OF_PLAN.keys()
    assert "left out" not in section_of(copied)


def test_a_run_without_a_price_is_planned_without_dollars(copied):
    put_on(copied, "NVIDIA H200")
    config = (copied / "config.yaml").read_text()
    assert "usd_per_hour: 12.5" in config
    (copied / "config.yaml").write_text(config.replace("usd_per_hour: 12.5", "usd_per_hour: null"))
    found = lines(copied)
    assert "training time" in found
    assert "dollars" not in found
    assert "left out" not in section_of(copied)


def test_a_price_that_changed_leaves_the_planned_dollars_out_and_the_page_says_so(copied):
    put_on(copied, "NVIDIA H200")
    path = copied / "spending.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    paid = [row | {"usd_per_hour": 10.0 + row["process"]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in paid))
    found = lines(copied)
    assert "training time" in found
    assert "dollars" not in found
    assert "not all of the run was paid at one price of an hour" in Page(section_of(copied)).text


def test_a_run_that_goes_on_says_that_its_time_is_not_all(copied):
    put_on(copied, "NVIDIA H200")
    (copied / "gates.jsonl").write_text("")
    assert "the run is not over" in lines(copied)["training time"][2]


def test_of_a_cpu_the_planner_says_nothing_and_the_page_says_so(run):
    assert not {"training time", "tokens/s", "dollars"} & lines(run).keys()
    assert "assumes no MFU for this machine" in section_of(run)


def test_rows_of_several_machines_are_not_held_against_one(copied):
    put_on(copied, "NVIDIA H200")
    move(copied, "2 x NVIDIA H100 80GB HBM3", "2 x NVIDIA H200")
    found = lines(copied)
    assert not {"training time", "tokens/s", "dollars", "MFU, PaLM convention"} & found.keys()
    told = Page(section_of(copied)).text
    assert "several machines (2 x NVIDIA H100 80GB HBM3, then 2 x NVIDIA H200)" in told
    assert "the MFU" in told
    page = Page((copied / "report.html").read_text(encoding="utf-8"))
    assert wrong_values(copied, page) == []


def test_memory_is_held_against_the_settings_and_machine_that_took_it(copied):
    """An earlier process had others: it may have run out of memory and been then held less."""
    put_on(copied, "NVIDIA H200")
    move(copied, "1 x NVIDIA H100 80GB HBM3", "2 x NVIDIA H200")
    path = copied / "spending.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for row in rows:
        row["memory_bytes"] = (63 - 50 * row["process"]) << 30
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, measured, remark = lines(copied)["memory of the main process"]
    assert measured == "13 GiB"
    # One that only scores the end of a stage holds next to nothing.
    scored = rows[-1] | {"process": 2, "seconds": 1.0, "memory_bytes": 1 << 20}
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows, scored)))
    assert lines(copied)["memory of the main process"][1] == "13 GiB"
    assert remark.startswith("of the newest process that trained; planned without")
    path.write_text(json.dumps(rows[0]) + "\n")
    assert lines(copied)["memory of the main process"][1:] == [
        "63 GiB",
        "planned without scores and skills, of the stage that needs most",
    ]


def test_a_process_that_goes_on_from_before_a_kill_has_trained(copied):
    """Its count begins at the checkpoint, below the last row of the one that was killed."""
    rows = [
        {"process": process, "seconds": 9.0, "tokens_spent": tokens, "memory_bytes": held << 30}
        for process, tokens, held in (
            (0, 80_000, 60),
            (0, 99_000, 63),
            (1, 82_000, 7),
            (1, 84_000, 9),
        )
    ]
    (copied / "spending.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert lines(copied)["memory of the main process"][1] == "9 GiB"


@pytest.mark.parametrize("device", ["Tesla T4", "NVIDIA H100 NVL"])
def test_of_a_card_that_the_table_lacks_nothing_is_assumed(copied, device):
    put_on(copied, device)
    found = lines(copied)
    assert found["MFU, PaLM convention"][0] == "–"
    assert "assumes none for this machine" in found["MFU, PaLM convention"][2]
    assert found["memory of the main process"][2].endswith(
        "; planned without scores and skills, of the stage that needs most"
    )


def test_the_planned_memory_is_that_of_one_process_of_several(copied):
    before = lines(copied)["memory of the main process"][0]
    put_on(copied, "NVIDIA H200")
    planned, measured, _ = lines(copied)["memory of the main process"]
    assert planned != before
    assert measured == "1.15 GiB"


def test_a_run_begun_at_a_later_stage_is_held_against_that_stage(copied):
    begin_late(copied)
    paid = [{"process": 0, "seconds": 10.0 + n, "tokens_spent": 2048 * (n + 1), "seq_len": 64}
            for n in range(65)]  # fmt: skip
    (copied / "spending.jsonl").write_text("".join(json.dumps(row) + "\n" for row in paid))
    (copied / "gates.jsonl").write_text("")
    found = lines(copied)
    assert [name for name in found if name.startswith("steps")] == ["steps of stage4_code"]
    # A second a step, whatever its length: those of longer rows are foreseen to cost more.
    forecast, took, _ = found["wall clock, forecast after a tenth of the tokens"]
    assert took == "1 min 14 s"
    assert forecast.startswith("1 min")


def test_rows_of_an_older_version_have_no_memory_to_compare(copied):
    path = copied / "spending.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    for row in rows:
        del row["memory_bytes"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "memory of the main process" not in lines(copied)


def test_a_beginning_after_all_that_is_planned_is_no_crash(copied):
    path = copied / "lineage.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | {"step": 10**6}) + "\n" for row in rows))
    assert "cannot read what this run was planned to do" in section_of(copied)


def test_settings_of_another_version_are_not_computed_with(copied):
    path = copied / "config.yaml"
    path.write_text(path.read_text() + "a_later_part: {}\n")
    html = write_report(copied).read_text(encoding="utf-8")
    assert "cannot read what this run was planned to do from its configuration" in html
