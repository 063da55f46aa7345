"""What was promised of the finished model on five benchmarks, and what may be expected of it.

The one idea: a figure that others published is a fact with its source, and stands here once. The
claims of `yxanul plan`, the report and the table of README.md are written from it. Promises: the
predecessor's public README of 21 August 2025. Estimates: ours, of November 2026, judged from the
published models beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE = "TinyLlama 1.1B"
ESTIMATED = "an estimate of November 2026 for 302.9M parameters and 57.4B tokens, not measured"


@dataclass(frozen=True, slots=True)
class Published:
    """What a public model reached, in percent."""

    value: float
    model: str
    parameters: str
    tokens: str
    source: str
    note: str = ""

    @property
    def told(self) -> str:
        """The figure with what it cost: "34.3 (MicroLlama: 300M parameters, 50B tokens)"."""
        more = f"; {self.note}" if self.note else ""
        return f"{self.value:.1f} ({self.model}: {self.parameters} parameters, {self.tokens}{more})"


@dataclass(frozen=True, slots=True)
class Expectation:
    """One benchmark: promised, published, realistic, and how the promise stands."""

    name: str
    task: str | None
    """Key of `yxanul.config.evaluation.TASKS`; None: perplexity, which is no task."""
    claim: str
    """The promise in its own words."""
    promised: float
    """In `unit`."""
    unit: str
    """% or "" (perplexity has none)."""
    reference: Published | None
    """What TinyLlama reached; None = not reported in its repository."""
    realistic: str
    """Range that we expect; an estimate."""
    public: tuple[Published, ...]
    """Models near in size, from which the estimate is judged."""
    verdict: str
    why: str

    @property
    def promised_text(self) -> str:
        """The promise as a figure: "65 %", "below 9"."""
        return f"{self.promised:g} %" if self.unit else f"below {self.promised:g}"

    @property
    def anchors(self) -> str:
        """The published figures behind the estimate, in words."""
        return ", ".join(one.told for one in self.public)


_MICROLLAMA = ("MicroLlama", "300M", "50B tokens", "README of MicroLlama")
_LINGUA = ("Meta Lingua", "1B", "60B tokens", "README of Meta Lingua")
_SMOL = ("SmolLM2-360M", "360M", "4T tokens", "card of SmolLM2-360M")
_R1 = "README of MobileLLM-R1"

EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation(
        name="Perplexity",
        task=None,
        claim="perplexity below 9",
        promised=9.0,
        unit="",
        reference=None,
        realistic="web text 17-22, mathematics 5-8, code 3-5",
        public=(),
        verdict="undefined",
        why="names no text and no vocabulary, so nothing can be compared; bits per byte per domain "
        "can",
    ),
    Expectation(
        name="HellaSwag",
        task="hellaswag",
        claim="HellaSwag 65 %",
        promised=65.0,
        unit="%",
        reference=Published(59.2, REFERENCE, "1.1B", "3T tokens", "EVAL.md of TinyLlama, acc_norm"),
        realistic="33-38 %; 42-47 % if most of the text were web text",
        public=(
            Published(34.3, *_MICROLLAMA),
            Published(46.0, "zoof-v1.2", "394M", "67B tokens", "README of zoof"),
            Published(54.5, *_SMOL),
            Published(63.6, *_LINGUA),
        ),
        verdict="out of reach",
        why="360M parameters needed 4T tokens for 54.5",
    ),
    Expectation(
        name="TriviaQA",
        task="triviaqa",
        claim="TriviaQA 30 %",
        promised=30.0,
        unit="%",
        reference=None,
        realistic="3-8 %",
        public=(
            Published(9.1, "SmolLM-360M", "360M", "600B tokens", "card of SmolLM2-360M"),
            Published(15.4, "Gemma-3-270M", "270M", "6T tokens", "card of Gemma 3"),
            Published(16.9, *_SMOL),
            Published(26.3, *_LINGUA),
        ),
        verdict="out of reach",
        why="even 1B parameters reached 26.3, and facts need parameters and text",
    ),
    Expectation(
        name="GSM8K",
        task="gsm8k",
        claim="GSM8K 20 %",
        promised=20.0,
        unit="%",
        reference=None,
        realistic="1-4 %; 10-20 % with mathematics aimed at it",
        public=(
            Published(1.1, "Gemma-3-270M", "270M", "6T tokens", _R1),
            Published(3.2, *_SMOL),
            Published(
                39.4,
                "MobileLLM-R1-360M",
                "360M",
                "4.2T tokens",
                _R1,
                note="much mathematics, and training sets of benchmarks",
            ),
        ),
        verdict="out of reach as planned",
        why="only mathematics aimed at it, its own training set or fine-tuning came near, and then "
        "it must be said",
    ),
    Expectation(
        name="HumanEval",
        task="humaneval",
        claim="HumanEval 30 %",
        promised=30.0,
        unit="%",
        reference=Published(9.15, REFERENCE, "1.1B", "2.5T tokens", "EVAL.md of TinyLlama, pass@1"),
        realistic="2-6 %; 10-15 % with programming exercises",
        public=(
            Published(0.0, "SmolLM2-360M", "360M", "4T tokens", _R1),
            Published(3.1, "Gemma-3-270M", "270M", "6T tokens", _R1),
            Published(30.5, "Qwen3-0.6B", "0.6B", "36T tokens", _R1),
        ),
        verdict="out of reach",
        why="it is what 0.6B parameters reached after 36T tokens",
    ),
)


def expected_table() -> str:
    """Return the table of README.md.

    The promised model has not been trained, so nothing is reached; for a run that was,
    `yxanul report` fills that column.
    """
    head = f"| | {REFERENCE} | promised | realistic (estimate) | reached | the promise |"
    rows = [head, "|---|---|---|---|---|---|"]
    for one in EXPECTATIONS:
        reference = "not reported"
        if one.reference is not None:
            reference = f"{one.reference.value:.1f} % ({one.reference.tokens})"
        verdict = f"**{one.verdict}**: {one.why}"
        cells = (one.name, reference, one.promised_text, one.realistic, "not run", verdict)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(expected_table(), end="")
