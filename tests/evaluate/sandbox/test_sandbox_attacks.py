"""Every attack is contained at every level that this machine offers, and is a real attack."""

import os
from collections import Counter

import pytest

from tests.evaluate.sandbox.sandboxes import LEVELS, run_at
from yxanul.evaluate.sandbox.attacks import on_files
from yxanul.evaluate.sandbox.attacks.attack import SECRET
from yxanul.evaluate.sandbox.attacks.every import ATTACKS
from yxanul.evaluate.sandbox.attacks.harmless import PROGRAMS
from yxanul.evaluate.sandbox.self_test import traces

HERE = os.getpid()
# At L2 the slow kin of other attacks wait for `make test-slow`.
CASES = [
    pytest.param(
        level,
        attack,
        id=f"{level}-{attack.name}",
        marks=[] if level == "L3" or attack.in_self_test else pytest.mark.slow,
    )
    for level in LEVELS
    for attack in ATTACKS
]
CONTROLS = [pytest.param(attack, id=attack.name) for attack in ATTACKS if attack.control]


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    return str(tmp_path)


@pytest.mark.fault(38)
@pytest.mark.parametrize(("level", "attack"), CASES)
def test_the_attack_is_contained(level, attack, outside):
    before = traces(outside)
    program = attack.written_out(outside, HERE)
    outcome = run_at(level, program, limits=attack.limits, ctypes=attack.ctypes)
    assert attack.is_contained(outcome), outcome
    assert traces(outside) == before


@pytest.mark.parametrize("attack", CONTROLS)
def test_the_attack_works_where_nothing_contains_it(attack, outside):
    if attack.needs_root and os.geteuid():
        pytest.skip("needs root")
    program = attack.written_out(outside, HERE)
    outcome = run_at("L1", program, limits=attack.limits, ctypes=attack.ctypes)
    if attack.is_contained(outcome) and attack not in on_files.ATTACKS:
        pytest.skip(f"this machine refuses it by itself: {outcome.detail}")
    assert attack.worked(outcome), outcome


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_harmless_program_passes(level, name):
    outcome = run_at(level, PROGRAMS[name])
    assert outcome.result == "passed", outcome


def test_no_two_attacks_have_one_name():
    assert [name for name, count in Counter(a.name for a in ATTACKS).items() if count > 1] == []


def test_an_attack_that_never_took_place_is_not_contained():
    attack = next(a for a in ATTACKS if a.name == "read a secret file")
    assert not attack.is_contained(run_at("L1", "an_unknown_name"))
