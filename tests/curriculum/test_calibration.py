"""The whole gate on models whose truth is known: harmless ones pass, damaged ones are found.

Scores are generated, with the heavy tails that documents have; benchmarks/calibration.py does the
same with real models, and more of it.
"""

from dataclasses import replace

import numpy as np
import pytest

from tests.curriculum.test_checks import WHOLE, falling
from yxanul.config.schema import GateConfig
from yxanul.curriculum.checks.skills import SkillEvidence
from yxanul.curriculum.gate import Evidence, decide

TRIALS = 60
GATE = GateConfig(retention_margin=0.04, retention_limit=0.06)
OLDER = ("wikipedia", "factbook", "reasoning", "math")
DOCUMENTS, ITEMS = 60, 300
RATE_MARGIN, GOLD_MARGIN = 0.12, 0.04
OWN = ([100.0, 120.0, 90.0, 110.0, 105.0], [80.0, 96.0, 72.0, 88.0, 84.0])


def documents(generator: np.random.Generator, rise: float) -> tuple[list, list]:
    """Nats before, and after a rise; a document differs by 5 % on average, some by much more."""
    before = generator.lognormal(5, 0.8, DOCUMENTS)
    each = 0.04 * generator.standard_t(4, DOCUMENTS)
    return before.tolist(), (before * (1 + rise + each)).tolist()


def answers(generator: np.random.Generator, loss: float) -> tuple[list, list]:
    """Right or wrong before, and after; a tenth of the items changes anyway, evenly."""
    kinds = generator.choice(4, size=ITEMS, p=[0.05 + loss, 0.05, 0.35 - loss, 0.55])
    return (
        np.isin(kinds, (0, 2)).astype(float).tolist(),
        np.isin(kinds, (1, 2)).astype(float).tolist(),
    )


def skills(generator: np.random.Generator, losses: tuple[float, float]) -> tuple:
    pairs = answers(generator, losses[0]), documents(generator, losses[1])
    cloze = SkillEvidence("cloze", "acc", "rate", gates=True, margin=RATE_MARGIN)
    gold = SkillEvidence("gsm8k", "gold_bpb", "bpb", gates=True, margin=GOLD_MARGIN)
    return tuple(
        replace(skill, before=before, after=after, dirty=frozenset())
        for skill, (before, after) in zip((cloze, gold), pairs, strict=True)
    )


def verdicts(
    rises: dict[str, float], losses: tuple[float, float] | None = None, *, trials: int = TRIALS
) -> list[str]:
    """What the gate said in every trial of a stage that learned its own domain."""
    generator = np.random.default_rng(11)
    found = []
    for _ in range(trials):
        pairs = {domain: documents(generator, rise) for domain, rise in rises.items()}
        pairs["code"] = OWN
        evidence = Evidence(
            own_domains=("code",),
            older_domains=tuple(rises),
            before={domain: before for domain, (before, _) in pairs.items()},
            after={domain: after for domain, (_, after) in pairs.items()},
            courses={},
            losses=falling(20),
            integrity=WHOLE,
            skills=() if losses is None else skills(generator, losses),
        )
        found.append(decide(GATE, evidence).verdict)
    return found


# Of 60 trials 3 are 5 %; 9 and more happen by chance once in 500 times at 5 %.
SELDOM = 8
# What is nearly always found is found in nearly all of these; 5 % again.
FEW = 20


@pytest.mark.slow
def test_models_that_are_alike_are_not_rolled_back():
    found = verdicts(dict.fromkeys(OLDER, 0.0), (0.0, 0.0))
    assert found.count("rollback") == 0
    assert found.count("stop") == 0


def test_a_family_at_its_limits_is_rolled_back_as_rarely_as_one_domain_would_be():
    found = verdicts(dict.fromkeys(OLDER, GATE.retention_limit))
    assert found.count("rollback") <= SELDOM
    assert found.count("pass") <= SELDOM


def test_skills_at_their_margins_are_rolled_back_and_passed_rarely():
    found = verdicts({}, (RATE_MARGIN, GOLD_MARGIN))
    assert found.count("rollback") <= SELDOM
    assert found.count("pass") <= SELDOM


@pytest.mark.parametrize("times", [2, 3])
def test_a_domain_that_rose_by_twice_its_margin_does_not_pass(times):
    """At twice the margin it is a warning at least, at twice the limit a rollback."""
    rises = dict.fromkeys(OLDER, 0.0) | {"math": times * GATE.retention_margin}
    found = verdicts(rises, trials=FEW)
    assert found.count("pass") <= 1
    if times * GATE.retention_margin >= 2 * GATE.retention_limit:
        assert found.count("rollback") >= FEW - 1


@pytest.mark.parametrize("losses", [(2 * RATE_MARGIN, 0.0), (0.0, 2 * GOLD_MARGIN)])
def test_a_skill_that_lost_twice_its_margin_is_rolled_back(losses):
    found = verdicts({}, losses, trials=FEW)
    assert found.count("rollback") >= FEW - 1
