"""A micro-batch is the largest that fits, for all processes alike."""

import pytest

from yxanul.errors import UsageError
from yxanul.train.probes import largest_that_fits, least_that_fits, worth_rounding

BYTES_PER_TOKEN = 1000


def need(tokens: int) -> float:
    return BYTES_PER_TOKEN * tokens


def alone(flag: bool) -> bool:
    return flag


@pytest.mark.parametrize(
    ("limit", "found"),
    [(32768, 32768), (32767, 16384), (8192, 8192), (5000, 4096), (3000, 3000)],
)
def test_halves_are_tried_until_one_fits_and_one_sequence_is_the_last(limit, found):
    tried = largest_that_fits(
        32768, need, limit=limit * BYTES_PER_TOKEN, smallest=3000, agree=alone
    )
    assert tried == found


def test_less_than_one_sequence_is_refused_in_one_sentence():
    with pytest.raises(UsageError, match="one sequence of 4,096 tokens does not fit"):
        largest_that_fits(32768, need, limit=4095 * BYTES_PER_TOKEN, smallest=4096, agree=alone)


def test_too_much_for_another_process_is_too_much():
    others = iter([True, True, False])
    tried = largest_that_fits(
        32768, need, limit=1e12, smallest=512, agree=lambda mine: mine or next(others)
    )
    assert tried == 8192


def test_a_first_try_is_at_least_one_sequence():
    assert largest_that_fits(1024, need, limit=1e12, smallest=4096, agree=alone) == 4096


@pytest.mark.parametrize(
    ("ffn", "blocks", "best"),
    [(90.0, 80.0, "blocks"), (85.0, 88.0, "ffn"), (98.0, 99.0, "off"), (110.0, 120.0, "off")],
)
def test_fp8_is_taken_where_it_is_faster_by_more_than_noise(ffn, blocks, best):
    assert worth_rounding({"off": 100.0, "ffn": ffn, "blocks": blocks}) == best


@pytest.mark.parametrize(("spare", "found"), [(27, 1), (20, 8), (1, 27), (0, 28), (-1, 28)])
def test_as_few_blocks_are_recomputed_as_make_it_fit(spare, found):
    """28 blocks of which each that is recomputed frees one part of memory."""
    tried = []

    def need(blocks: int) -> float:
        tried.append(blocks)
        return 28.0 - blocks

    assert least_that_fits(28, need, limit=spare, agree=alone) == found
    assert len(tried) <= 5
