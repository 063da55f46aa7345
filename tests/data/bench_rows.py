"""Hand-written rows in the schemas of the four public sets, and a folder laid out like them."""

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

_THINGS = ("kettle", "ladder", "violin", "canoe", "lantern", "saddle", "anvil", "quilt")
_DOERS = ("a man", "the girl", "an old woman", "two boys", "a baker", "the crew", "a clown")


def hellaswag_rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Rows of Rowan/hellaswag, with the marks, blanks and capitals that its texts have."""
    return [
        {
            "ind": n,
            "activity_label": ("Mending", "Having an ice cream", "Work World")[n % 3],
            "ctx_a": f"{_DOERS[n % 7].capitalize()} holds up {n} of the parts [header] of a "
            f"{_THINGS[n % 8]} [title] How to go on",
            "ctx_b": ("", f"{_DOERS[(n + 1) % 7]} watches Ada, ÉMILE and  Ötzi.")[n % 2],
            "ctx": "unused",
            "endings": [
                f"turns the {_THINGS[(n + k) % 8]} over [step] and  nods{'.' * k}" for k in range(4)
            ],
            "source_id": f"made~{n // 2}",
            "split": "val",
            "split_type": "indomain",
            "label": str((3 * n + first) % 4),
        }
        for n in range(first, first + count)
    ]


def triviaqa_rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Rows of mandarjoshi/trivia_qa, rc.nocontext; some questions lack their question mark."""
    return [
        {
            "question": f"Which tool number {n} is a {_THINGS[n % 8]}, or a “thing”"
            + ("?", "")[n % 3 == 0],
            "question_id": f"tc_{n // 2}",
            "question_source": "made up",
            "entity_pages": {"doc_source": [], "title": []},
            "search_results": {"rank": [], "url": []},
            "answer": {
                "aliases": [f"The {_THINGS[n % 8]}s' (№ {n})", _THINGS[n % 8], f"{n}"],
                "normalized_aliases": [_THINGS[n % 8]],
                "value": _THINGS[n % 8].capitalize(),
                "type": "made",
            },
        }
        for n in range(first, first + count)
    ]


def gsm8k_rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Rows of openai/gsm8k, main, with calculator marks, dollars and thousands."""
    return [
        {
            "question": f"A {_THINGS[n % 8]} costs {n} thousand dollars. What do two cost?",
            "answer": f"Two cost 2*{n} = $<<2*{n}={2 * n}>>{2 * n} thousand.\n#### {2000 * n:,}",
        }
        for n in range(first, first + count)
    ]


def humaneval_rows(count: int) -> list[dict[str, Any]]:
    """Rows of openai/openai_humaneval."""
    return [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": f'def add_{n}(x: int) -> int:\n    """ Add {n}.\n    >>> add_{n}(1)\n'
            f'    {n + 1}\n    """\n',
            "canonical_solution": f"    return x + {n}\n",
            "test": f"\n\ndef check(candidate):\n    assert candidate(1) == {n + 1}\n\n",
            "entry_point": f"add_{n}",
        }
        for n in range(count)
    ]


def write_bench_folder(
    folder: Path, *, items: int = 12, programs: list[dict[str, Any]] | None = None
) -> Path:
    """Write a folder with a file per set, as `yxanul.data.benchmarks.sets` names them."""
    for name in ("hellaswag", "triviaqa", "gsm8k", "human-eval"):
        (folder / name).mkdir(parents=True)
    lines = [line for n in range(items) for line in _hellaswag_lines(n)]
    packed = bz2.compress("".join(f"{line}\n" for line in lines).encode())
    (folder / "hellaswag/hellaswag_val_full.txt.bz2").write_bytes(packed)
    write_lines(folder / "triviaqa/triviaqa_sm_sub.jsonl", triviaqa_lines(items))
    write_lines(folder / "gsm8k/test.jsonl", gsm8k_rows(items))
    write_lines(folder / "gsm8k/train.jsonl", gsm8k_rows(items, first=50))
    write_lines(folder / "human-eval/HumanEval.jsonl.gz", programs or humaneval_rows(items))
    return folder


def triviaqa_lines(count: int) -> list[dict[str, Any]]:
    """Lines of the folder's TriviaQA, whose prompts are whole."""
    return [
        {
            "context": f"Question: {row['question'].removesuffix('?')}?\nAnswer:",
            "answer": row["answer"]["value"],
            "aliases": row["answer"]["aliases"],
        }
        for row in triviaqa_rows(count)
    ]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines, packed if the name says so."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _hellaswag_lines(n: int) -> list[str]:
    context = f"Mending: {_DOERS[n % 7].capitalize()} holds {n} parts of a {_THINGS[n % 8]}. he"
    endings = [f"turns the {_THINGS[(n + k) % 8]} over{' twice' * k}." for k in range(4)]
    return [context, str(3 * n % 4), *endings]
