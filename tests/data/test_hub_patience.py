"""Waiting for the hub grows, is drawn at random, is told, and has an end."""

import email.utils
import time

import pytest

from yxanul.data.progress import unheard
from yxanul.data.sources.hub.client import asked_wait_s
from yxanul.data.sources.hub.patience import Again, GaveUp, Line, Patience

QUICK = Patience(tries=5, first_wait_s=0.001, longest_wait_s=0.004)


def failing(times: int, *, asked: float | None = None):
    """Return an attempt that fails so often, and then returns how often it was made."""
    made = []

    def attempt() -> int:
        made.append(1)
        if len(made) <= times:
            raise Again("answered 503", asked)
        return len(made)

    return attempt


def test_an_attempt_is_repeated_until_it_succeeds_and_every_wait_is_told() -> None:
    told: list[str] = []
    assert Line("some/set", told.append, QUICK, reached=True).call(failing(3)) == 4
    assert [line.rpartition(", ")[2] for line in told] == [f"try {n} of 5" for n in (2, 3, 4)]
    assert all(line.startswith("some/set: the hub answered 503; waiting 0.0 s") for line in told)


def test_the_last_failure_ends_it() -> None:
    line = Line("some/set", unheard, QUICK, reached=True)
    with pytest.raises(GaveUp, match="answered 503, 5 times"):
        line.call(failing(5))


def test_a_hub_that_never_answered_is_given_up_sooner() -> None:
    told: list[str] = []
    with pytest.raises(GaveUp, match="2 times"):
        Line("some/set", told.append, QUICK).call(failing(9))
    assert len(told) == 1


def test_waits_double_up_to_their_limit() -> None:
    patience = Patience()
    limits = [patience.limit_s(n) for n in range(1, 9)]
    assert limits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert patience.limit_s(10_000) == 30


class Clock:
    """Time that passes in `sleep` alone."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for name in ("monotonic", "sleep"):
        monkeypatch.setattr(time, name, getattr(clock, name))
    return clock


def test_what_the_hub_asks_for_is_waited_for_but_not_for_ever(clock: Clock) -> None:
    Line("some/set", unheard, QUICK, reached=True).call(failing(1, asked=0.2))
    assert clock.waits == [0.2]
    short = Patience(longest_asked_wait_s=0.01)
    Line("some/set", unheard, short, reached=True).call(failing(3, asked=9_999.0))
    assert clock.waits[1:] == pytest.approx([0.01] * 3)


def test_all_tries_together_are_bounded(clock: Clock) -> None:
    line = Line("some/set", unheard, Patience(total_s=5.0), reached=True)
    with pytest.raises(GaveUp, match="answered 503"):
        line.call(failing(9, asked=60.0))
    assert clock.waits == []


def test_a_long_wait_can_be_stopped_by_whoever_listens(clock: Clock) -> None:
    class StoppedError(Exception):
        """Raised by the listener, as at SIGTERM."""

    told: list[str] = []

    def listen(line: str) -> None:
        told.append(line)
        if len(told) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        Line("some/set", listen, Patience(), reached=True).call(failing(1, asked=100.0))
    assert told[1].startswith("some/set: waiting for the hub, 85 s more")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 56.0),
        ({"ratelimit": '"api";r=3;t=55'}, None),
        ({"retry-after": "-1"}, None),
    ],
)
def test_the_headers_of_a_refusal_say_how_long(headers: dict, seconds: float | None) -> None:
    assert asked_wait_s(headers) == seconds


def test_a_date_to_come_back_at_is_understood() -> None:
    at = email.utils.formatdate(time.time() + 100, usegmt=True)
    waited = asked_wait_s({"retry-after": at})
    assert waited is not None
    assert 97 < waited <= 100
    assert asked_wait_s({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0
