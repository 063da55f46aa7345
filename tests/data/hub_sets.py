"""The promised recipe's data sets, and public benchmarks, with a few hand-written rows each."""

import random
from typing import Any

from tests.data.bench_rows import gsm8k_rows, hellaswag_rows, humaneval_rows, triviaqa_rows
from tests.data.hub_standin import HubSet, card, parquet

_NOUNS = ("river", "bridge", "mill", "harbour", "orchard", "valley", "tower", "garden", "market")
_VERBS = ("crosses", "borders", "feeds", "shelters", "overlooks", "serves", "connects", "divides")


def promised_sets() -> dict[str, HubSet]:
    """Return the five public sets and the private one, by name."""
    return {
        "wikimedia/wikipedia": HubSet(_wikipedia()),
        "open-r1/Mixture-of-Thoughts": HubSet(_mixture()),
        "openai/gsm8k": HubSet(_gsm8k()),
        "nvidia/AceReason-Math": HubSet(_acereason()),
        "microsoft/rStar-Coder": HubSet(_rstar()),
        "Yxanul/wikipedia-2k-high-quality": HubSet(_private(), token="hf_private"),
    }


def article(number: int, *, sentences: int) -> str:
    """Return prose of about twelve tokens a sentence, another one for each number."""
    draw = random.Random(number)
    return " ".join(_sentence(draw) for _ in range(sentences))


def _sentence(draw: random.Random) -> str:
    """Return a sentence with words of its own, so that a text does not repeat itself."""
    names = [
        "".join(draw.choices(("ra", "to", "mel", "sin", "ka", "bor", "ve"), k=3)) for _ in "ab"
    ]
    orders = (
        f"The {draw.choice(_NOUNS)} of {names[0]} {draw.choice(_VERBS)} the {names[1]}.",
        f"In {names[0]} a {draw.choice(_NOUNS)} {draw.choice(_VERBS)} what {names[1]} have built.",
        f"Near {names[0]} and {names[1]}, it {draw.choice(_VERBS)} an old {draw.choice(_NOUNS)}.",
        f"{names[0].title()} {draw.choice(_VERBS)} more of {names[1]} and {names[0]}.",
    )
    return draw.choice(orders)


def _wikipedia() -> dict[str, bytes]:
    rows = [
        {
            "id": str(n),
            "url": f"https://en.wikipedia.org/wiki/District_{n}",
            "title": f"District {n}",
            "text": article(n, sentences=250 if n % 3 else 20),
        }
        for n in range(60)
    ]
    name = "20231101.en/train-0000{}-of-00002.parquet"
    files = {name.format(n): parquet(rows[30 * n : 30 * n + 30]) for n in range(2)}
    german = {"20231101.de/train-00000-of-00001.parquet": parquet([{**rows[0], "text": "Ein Ort"}])}
    return {"README.md": _card("20231101.de", "20231101.en"), **files, **german}


def _mixture() -> dict[str, bytes]:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + {n}?"},
                {
                    "role": "assistant",
                    "content": f"<think>\n{n} and {n}.\n</think>\n{2 * n + 1}",
                },
            ],
            "num_tokens": 20,
            "source": "hand-written",
        }
        for n in range(80)
    ]
    cut_off = {"role": "assistant", "content": "<think>\nIt was cut"}
    rows.append({**rows[0], "messages": [rows[0]["messages"][0], cut_off]})
    rows.append({"messages": rows[0]["messages"][:1], "num_tokens": 5, "source": "hand-written"})
    parts = ("all", "code", "math", "science")
    files = {f"{part}/train-00000-of-00001.parquet": parquet(rows) for part in parts}
    return {"README.md": _card(*parts), **files}


def _gsm8k() -> dict[str, bytes]:
    def row(n: int) -> dict[str, Any]:
        working = f"{n}/2 = <<{n}/2={n / 2:g}>>{n / 2:g} loaves are left.\n#### {n / 2:g}"
        return {"question": f"Ada bakes {n} loaves and sells half. How many?", "answer": working}

    files = {}
    for part in ("main", "socratic"):
        for split, first in (("train", 0), ("test", 1)):
            rows = [row(n) for n in range(first, 160, 2)]
            files[f"{part}/{split}-00000-of-00001.parquet"] = parquet(rows)
    return {"README.md": _card("main", "socratic"), **files}


def _acereason() -> dict[str, bytes]:
    rows = [{"problem": f"Find $x$ with $x - {n} = {n}$.", "answer": str(2 * n)} for n in range(80)]
    return {"README.md": card(default="math.parquet"), "math.parquet": parquet(rows)}


def _rstar() -> dict[str, bytes]:
    rows = [
        {
            "question": f"Print the numbers below {n}.",
            "seed_question": f"Count to {n}.",
            "seed_source": "hand-written",
            "response": f"<think>\nA {n}.\n</think>\nfor i{n} in range({n}):\n    print(i{n})",
            "code": f"for i in range({n}):\n    print(i)",
        }
        for n in range(80)
    ]
    tests = [{"question_id": "q", "question": "Count.", "inputs": "[]", "outputs": "[]"}]
    files = {"synthetic_sft/data-00000.parquet": parquet(rows)}
    files["synthetic_rl_testcase/data-00000.parquet"] = parquet(tests)
    patterns = {"synthetic_sft": "synthetic_sft/*", "synthetic_rl_testcase": "synthetic_rl_*/*"}
    return {"README.md": card(**patterns), **files}


def _private() -> dict[str, bytes]:
    rows = [{"text": article(1000 + n, sentences=250)} for n in range(30)]
    return {"README.md": card(default="data/train-*"), "data/train-0.parquet": parquet(rows)}


def _card(*parts: str) -> bytes:
    return card(**{part: f"{part}/train-*" for part in parts})


def public_sets() -> dict[str, HubSet]:
    """Return the sets of the four public benchmarks, by name."""
    return {
        "Rowan/hellaswag": HubSet(
            files_of_splits(
                "default",
                train=parquet(hellaswag_rows(9, first=40)),
                validation=parquet(hellaswag_rows(12)),
            )
        ),
        "mandarjoshi/trivia_qa": HubSet(
            files_of_splits(
                "rc.nocontext",
                train=parquet(triviaqa_rows(9, first=40)),
                validation=parquet(triviaqa_rows(12)),
            )
        ),
        "openai/gsm8k": HubSet(
            files_of_splits(
                "main", train=parquet(gsm8k_rows(9, first=40)), test=parquet(gsm8k_rows(12))
            )
        ),
        "openai/openai_humaneval": HubSet(
            files_of_splits("openai_humaneval", test=parquet(humaneval_rows(12)))
        ),
    }


def files_of_splits(config: str, **splits: bytes) -> dict[str, bytes]:
    """Return the files of a set whose card names each split's file."""
    lines = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split in splits:
        lines += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    text = "\n".join([*lines, "---", "A set of the tests."]).encode()
    return {"README.md": text} | {
        f"{config}/{split}-0.parquet": content for split, content in splits.items()
    }
