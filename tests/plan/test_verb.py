"""`yxanul plan` as a user starts it: one object, one page, or one clear sentence."""

import json
import shutil
from pathlib import Path

import pytest

from yxanul.cards import CARDS
from yxanul.cli.main import main
from yxanul.config.load import load_config
from yxanul.errors import UsageError
from yxanul.plan.compare import fresh_tokens
from yxanul.plan.summary import plan_run
from yxanul.plan.tables import percent
from yxanul.units import format_count

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def plan(capsys):
    """Return a function that runs the verb here: flags -> (exit code, stdout, stderr)."""

    def run(*flags: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["plan", "--config_dir", str(CONFIGS), *flags])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


def test_json_is_exactly_one_object_and_nothing_else_is_said(plan):
    code, out, err = plan("--json", "--gpus", "8xH100", "--usd_per_gpu_hour", "2.5", "--mfu", "0.4")
    told = json.loads(out)
    assert (code, err, len(out.splitlines())) == (0, "", 1)
    assert told["parameters"] == 302_882_304
    assert told["hardware"]["name"] == "8xH100"
    assert told["total_hours"] == pytest.approx(11.66, abs=0.01)
    assert told["total_usd"] == pytest.approx(8 * 2.5 * told["total_hours"])


def test_a_budget_is_answered_in_tokens(plan):
    code, out, _ = plan("--gpus", "8xH100", "--budget_usd", "200")
    assert code == 0
    assert "$200 buys" in out
    assert "tokens on 8xH100" in " ".join(out.split())


def test_a_budget_is_answered_in_parameters(plan):
    """What a budget of four times the price trains is twice as large."""
    _, out, _ = plan("--json", "--gpus", "8xH100")
    price = json.loads(out)["total_usd"]
    _, out, _ = plan("--json", "--gpus", "8xH100", "--budget_usd", str(4 * price))
    told = json.loads(out)["budget"]
    assert told["parameters"] == pytest.approx(2 * 302_882_304)
    assert told["parameters_low"] < told["parameters"] < told["parameters_high"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--gpus", "8xRTX-4091"], ["did you mean RTX-4090?"]),
        (["--gpus", "8xH800"], ["--gpus '8xH800'", *(card.name for card in CARDS)]),
        (["--gpus", "8xH100-94GB"], ["--gpus '8xH100-94GB' names no card"]),
        (["--gpus", "8xH100-NVL"], ["--gpus '8xH100-NVL' names no card"]),
        (["--gpus", "8xA100-80G"], ["write A100-80GB"]),
        (["--gpus", "2xCPU"], ["--gpus '2xCPU'", "yxanul preflight"]),
        (["--gpus", "8xA100"], ["A100-40GB or A100-80GB"]),
        (["--gpus", "0xA100"], ["from 1 to 99,999"]),
        (["--gpus", "100000xH100"], ["from 1 to 99,999"]),
        (["--gpus", "-1xH100"], ["--gpus '-1xH100'"]),
        (["--gpus", ""], ["--gpus ''", "8xA100-80GB"]),
        (["--mfu", "40"], ["--mfu 40", "--mfu 0.40"]),
        (["--mfu", "1"], ["below 1"]),
        (["--mfu", "0"], ["--mfu 0 "]),
        (["--mfu", "-0.4"], ["--mfu -0.4"]),
        (["--mfu", "nan"], ["--mfu nan"]),
        (["--mfu", "inf"], ["--mfu inf"]),
        (["--mfu", "1e-300"], ["--mfu 1e-300"]),
        (["--mfu", "much"], ["--mfu"]),
        (["--gpus", "H100", "--usd_per_gpu_hour", "-1"], ["--usd_per_gpu_hour -1"]),
        (["--gpus", "H100", "--usd_per_gpu_hour", "nan"], ["--usd_per_gpu_hour nan"]),
        (["--gpus", "H100", "--usd_per_gpu_hour", "inf"], ["--usd_per_gpu_hour inf"]),
        (["--gpus", "H100", "--usd_per_gpu_hour", "1e-9"], ["--usd_per_gpu_hour 1e-09"]),
        (["--usd_per_gpu_hour", "2"], ["--usd_per_gpu_hour", "add --gpus"]),
        (["--budget_usd", "0"], ["--budget_usd 0"]),
        (["--budget_usd", "nan"], ["--budget_usd nan"]),
    ],
)
def test_a_wrong_flag_is_one_sentence_that_says_what_to_write(plan, flags, words):
    code, out, err = plan(*flags, "--json")
    assert code == UsageError.exit_code
    assert len(err.strip().splitlines()) == 1
    assert json.loads(out)["exit_code"] == code
    for word in words:
        assert word in err


def test_recipes_are_compared_side_by_side(plan):
    recipes = [CONFIGS / "recipes" / name for name in ("evidence", "no_replay")]
    words = [word for recipe in recipes for word in ("--compare", str(recipe))]
    code, out, err = plan("--json", "--gpus", "8xH100", *words)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert list(told["compared"]) == [str(CONFIGS), *map(str, recipes)]
    assert told["compared"][str(CONFIGS)]["total_usd"] == told["total_usd"]
    replayed, plain = (told["compared"][str(path)] for path in (CONFIGS, recipes[1]))
    assert replayed["stages"][2]["epochs"] < plain["stages"][2]["epochs"]
    code, out, _ = plan("--gpus", "8xH100", *words)
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert lines["3 recipes on 8xH100"]
    assert lines["tokens"].split()[1:] == ["57.4B"] * 3
    assert lines["worth in fresh tokens"].split()[-3:] == ["30.05B", "?", "31.07B"]


def test_a_budget_buys_tokens_of_every_recipe_that_is_compared(plan):
    words = ("--gpus", "8xH100", "--budget_usd", "200",
             *("--compare", str(CONFIGS / "recipes" / "evidence")))  # fmt: skip
    _, out, _ = plan("--json", *words)
    told = json.loads(out)["compared"]
    code, out, _ = plan(*words)
    assert code == 0
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    bought = [one["budget"]["tokens"] for one in told.values()]
    assert lines["tokens for $200"].split()[-2:] == [format_count(tokens) for tokens in bought]
    shares = [percent(one["budget"]["tokens"] / one["total_tokens"]) for one in told.values()]
    assert [f"{part} %" for part in lines["share of the plan"].split()[-4::2]] == shares
    _, out, _ = plan(*words[:2], *words[4:])
    assert "share of the plan" not in out


def test_at_no_rent_a_budget_has_no_bound_and_the_comparison_says_so(plan):
    _, out, _ = plan("--gpus", "8xH100", "--usd_per_gpu_hour", "0", "--budget_usd", "200",
                     "--compare", str(CONFIGS / "recipes" / "evidence"))  # fmt: skip
    assert "At no rent there is no bound" in " ".join(out.split())
    share = next(row for row in out.splitlines() if "share of the plan" in row)
    assert share.split()[-2:] == ["?", "?"]


def test_what_the_machine_cannot_do_is_said_of_the_recipes_it_concerns(plan, tmp_path):
    recipe = str(CONFIGS / "recipes" / "evidence")
    _, out, _ = plan("--gpus", "7xH100", "--compare", recipe)
    told = " ".join(out.split())
    assert told.count("7 processes cannot share the") >= 1
    assert "fit the 80 GB of one H100" in told
    narrow = shutil.copytree(CONFIGS, tmp_path / "narrow")
    settings = (narrow / "optimization.yaml").read_text()
    assert "micro_batch_tokens: null" in settings
    (narrow / "optimization.yaml").write_text(
        settings.replace("micro_batch_tokens: null", "micro_batch_tokens: 65536")
    )
    _, out, _ = plan("--gpus", "8xRTX-4090", "--compare", str(narrow))
    told = " ".join(out.split())
    assert "narrow: compute.micro_batch_tokens=65,536 does not fit" in told
    assert "configs: " in told


def test_fresh_tokens_are_what_the_stages_own_tokens_are_worth():
    planned = plan_run(load_config(CONFIGS))
    worth = [stage.budget.unique_tokens * stage.budget.effective_epochs for stage in planned.stages]
    assert fresh_tokens(planned) == pytest.approx(sum(worth))


def test_a_recipe_that_is_named_twice_or_is_not_there_is_one_sentence(plan):
    for words, part in (((str(CONFIGS),), "twice"), (("nowhere",), "nowhere")):
        code, _, err = plan("--compare", *words)
        assert code == 30
        assert part in err
        assert len(err.strip().splitlines()) == 1
