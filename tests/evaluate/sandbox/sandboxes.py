"""What the tests of the sandbox share: the levels that this machine offers."""

from functools import cache

import pytest

from yxanul.errors import InfrastructureError
from yxanul.evaluate.sandbox.outcome import ProgramOutcome
from yxanul.evaluate.sandbox.process import LevelName, Sandbox, run_program

LEVELS = ("L3", "L2")


@cache
def why_not(level: LevelName) -> str:
    try:
        run_program("", Sandbox(level))
    except InfrastructureError as error:
        return str(error)
    return ""


def need(level: LevelName) -> None:
    if why_not(level):
        pytest.skip(f"{level} is not offered here: {why_not(level)}")


def run_at(level: LevelName, program: str, **settings) -> ProgramOutcome:
    need(level)
    return run_program(program, Sandbox(level, **settings))
