"""The cache holds rows of uneven length: what stands beside a row changes none of its logits."""

from collections.abc import Iterator

import pytest
import torch

from tests.model.tiny import difference, model_with_norms, rows, shape
from yxanul.model.cache import KeyValueCache
from yxanul.model.decoding import Decoder

LENGTHS = [9, 4, 7, 1]


@pytest.fixture(autouse=True)
def memory_full_of_nan() -> Iterator[None]:
    """What nobody has written is NaN, so that whoever looks at it shows it."""
    torch.use_deterministic_algorithms(True)  # torch then fills what it gives without a value
    yield
    torch.use_deterministic_algorithms(False)


def empty(model, *, batch: int, columns: int) -> KeyValueCache:
    return KeyValueCache(model.config.num_hidden_layers, rows=batch, columns=columns)


def prompts() -> torch.Tensor:
    return rows(len(LENGTHS), max(LENGTHS))[0]


def joined(model, *, columns: int = 40) -> KeyValueCache:
    """A cache in which row i has read the first LENGTHS[i] tokens of prompt i."""
    read = empty(model, batch=len(LENGTHS), columns=max(LENGTHS))
    model.next_logits(prompts(), read)
    cache = empty(model, batch=len(LENGTHS), columns=columns)
    cache.adopt(read, list(enumerate(LENGTHS)), first=0)
    return cache


def decoder(**changes) -> Decoder:
    return Decoder(model_with_norms(shape(**changes), attention="plain"))


def alone(model, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model.hidden_states(torch.tensor([tokens]))[0])


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_uneven_rows_go_on_as_each_would_alone(kv_heads):
    model = decoder(num_key_value_heads=kv_heads)
    cache = joined(model)
    more = rows(len(LENGTHS), 6, seed=2)[0]
    with torch.no_grad():
        first = model.logits(model.hidden_states(more[:, :4], cache))
    then = [model.next_logits(more[:, at : at + 1], cache) for at in (4, 5)]
    for row, length in enumerate(LENGTHS):
        seen = prompts()[row, :length].tolist()
        wanted = alone(model, seen + more[row].tolist())[length:]
        found = torch.cat([first[row], *(step[row : row + 1] for step in then)])
        assert difference(found, wanted) < 1e-5


def test_a_row_may_move_and_the_others_go_on():
    model = decoder()
    cache = joined(model)
    cache.move(3, 0)
    token = torch.tensor([[5], [6], [7]])
    found = model.next_logits(token, cache)
    for row, prompt in enumerate((3, 1, 2)):
        seen = prompts()[prompt, : LENGTHS[prompt]].tolist()
        wanted = alone(model, [*seen, int(token[row])])[-1]
        assert difference(found[row], wanted) < 1e-5


def test_a_full_cache_gives_up_the_columns_that_no_row_needs():
    model = decoder()
    cache = joined(model, columns=max(LENGTHS))
    cache.move(1, 0)
    # Rows 0 and 1 have read 4 tokens, so 5 of the 9 columns hold nothing of theirs.
    more = rows(2, 5, seed=2)[0]
    for at in range(5):
        found = model.next_logits(more[:, at : at + 1], cache)
    seen = prompts()[1, :4].tolist()
    for row in range(2):
        assert difference(found[row], alone(model, seen + more[row].tolist())[-1]) < 1e-5
    assert cache.used == cache.columns


def test_a_row_is_adopted_beside_rows_that_have_gone_on():
    model = decoder()
    cache = joined(model)
    more = rows(2, 3, seed=2)[0]
    for at in range(3):
        model.next_logits(more[:, at : at + 1], cache)
    read = empty(model, batch=1, columns=5)
    model.next_logits(torch.tensor([[1, 2, 3, 4, 5]]), read)
    cache.adopt(read, [(0, 5)], first=2)
    found = model.next_logits(torch.tensor([[8], [9], [10]]), cache)
    assert difference(found[2], alone(model, [1, 2, 3, 4, 5, 10])[-1]) < 1e-5
    seen = [*prompts()[0].tolist(), *more[0].tolist(), 8]
    assert difference(found[0], alone(model, seen)[-1]) < 1e-5


def test_a_row_longer_than_the_columns_in_use_is_not_adopted_beside_them():
    model = decoder()
    cache = joined(model)
    read = empty(model, batch=1, columns=12)
    model.next_logits(rows(1, 12)[0], read)
    with pytest.raises(ValueError, match="12 tokens do not fit beside rows of 9 columns"):
        cache.adopt(read, [(0, 12)], first=2)


# 30: beyond all columns in use, so that some between hold nothing yet.
@pytest.mark.parametrize("length", [12, 30])
def test_rows_are_shifted_so_that_a_longer_one_is_adopted_beside_them(length):
    model = decoder()
    cache = joined(model)
    longer = rows(1, length, seed=4)[0]
    read = empty(model, batch=1, columns=length)
    model.next_logits(longer, read)
    cache.reach(length, rows=2)
    cache.adopt(read, [(0, length)], first=2)
    assert (cache.used, cache.starts[:3]) == (length, [length - 9, length - 4, 0])
    found = model.next_logits(torch.tensor([[8], [9], [10]]), cache)
    for row, seen in enumerate([prompts()[0, :9], prompts()[1, :4], longer[0]]):
        wanted = alone(model, [*seen.tolist(), 8 + row])[-1]
        assert difference(found[row], wanted) < 1e-5


def test_rows_beyond_a_column_stay_and_one_beyond_the_cache_is_refused():
    model = decoder()
    cache = joined(model)
    cache.reach(5, rows=4)
    assert cache.used == 9
    with pytest.raises(ValueError, match="column 41 is beyond the 40"):
        cache.reach(41, rows=4)
