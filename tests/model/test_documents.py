"""Where documents share a row and are masked, each is read as if it were alone."""

import numpy as np
import pytest
import torch
from torch.nn.attention import varlen

from tests.model.apart import read_apart
from tests.model.tiny import difference, gradients, model_with_norms, shape
from yxanul.config.tokens import END_OF_TEXT, IGNORED
from yxanul.data.batches.loader import StepRows

PATHS = ["plain", "sdpa", "flash"]
LENGTHS = (5, 9, 2)


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """The kernel for rows of unequal length is a card's."""
    monkeypatch.setattr(varlen, "varlen_attn", read_apart)


def documents() -> list[torch.Tensor]:
    """Three documents of random tokens, each after the token that begins it."""
    generator = torch.Generator().manual_seed(4)
    begin = torch.tensor([END_OF_TEXT])
    texts = [torch.randint(0, 1000, (length,), generator=generator) for length in LENGTHS]
    return [torch.cat((begin, text)) for text in texts]


def bounds_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    rows = StepRows.whole(inputs.numpy(), targets.numpy())
    return torch.from_numpy(rows.bounds(slice(None)))


def loss_and_gradients(rows: list[torch.Tensor], **options):
    """Sum the nats of every token after the first of its document, in these rows."""
    model = model_with_norms(shape(vocab_size=50_257), **options)
    total = torch.zeros(())
    for row in rows:
        inputs, targets = row[:-1].unsqueeze(0), row[1:].clone().unsqueeze(0)
        targets[targets == END_OF_TEXT] = IGNORED  # the next one's beginning is foretold by none
        total = total + model(inputs, targets, bounds=bounds_of(inputs, targets))
    total.backward()
    return total.detach(), gradients(model)


@pytest.mark.parametrize("path", PATHS)
def test_a_document_in_a_row_costs_what_it_costs_alone(path):
    apart, wanted = loss_and_gradients(documents(), attention=path)
    whole = [torch.cat(documents())]
    masked, found = loss_and_gradients(whole, attention=path, mask_documents=True)
    assert masked.item() == pytest.approx(apart.item(), rel=1e-6)
    for name, gradient in found.items():
        assert difference(gradient, wanted[name]) < 1e-4, name
    _, unmasked = loss_and_gradients(whole, attention=path)
    name = "layers.0.self_attn.v_proj.weight"
    assert difference(unmasked[name], wanted[name]) > 0.01


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_documents_of_several_rows_are_read_alone(path, kv_heads):
    """A document that goes on in the next row is two: a row never looks into another."""
    small = shape(vocab_size=50_257, num_key_value_heads=kv_heads)
    model = model_with_norms(small, mask_documents=True, attention=path)
    generator = torch.Generator().manual_seed(5)
    rows = torch.randint(0, 1000, (3, 12), generator=generator)
    cuts = {0: [4], 1: [], 2: [1, 7]}
    rows[0, 4] = rows[2, 1] = rows[2, 7] = END_OF_TEXT
    found = model.hidden_states(rows, bounds=bounds_of(rows, rows))
    for number, row in enumerate(rows):
        for begin, end in zip([0, *cuts[number]], [*cuts[number], 12], strict=True):
            alone = model.hidden_states(row[None, begin:end])
            assert difference(found[number, begin:end], alone[0]) < 1e-5, (number, begin)


@pytest.mark.parametrize("path", PATHS)
def test_a_part_of_a_cut_document_is_read_alone_where_it_is_said_to_begin(path):
    """Packing puts the rest of a long document, which no end of text begins, behind another."""
    model = model_with_norms(shape(vocab_size=50_257), mask_documents=True, attention=path)
    generator = torch.Generator().manual_seed(5)
    parts = [torch.randint(0, 1000, (1, length), generator=generator) for length in (6, 7)]
    alone = torch.cat([model.hidden_states(part) for part in parts], dim=1)
    row = torch.cat(parts, dim=1)
    starts = np.zeros(row.shape, dtype=np.bool_)
    starts[0, 6] = True
    bounds = StepRows(row.numpy(), row.numpy(), starts, row.numel()).bounds(slice(None))
    found = model.hidden_states(row, bounds=torch.from_numpy(bounds))
    assert difference(found, alone) < 1e-5
    assert difference(model.hidden_states(row, bounds=bounds_of(row, row)), alone) > 0.01


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("blocks", [1, 2])
def test_recomputed_blocks_keep_documents_apart(path, blocks):
    whole = [torch.cat(documents())]
    options = {"mask_documents": True, "attention": path}
    plain, wanted = loss_and_gradients(whole, **options)
    again, found = loss_and_gradients(whole, **options, checkpointed_blocks=blocks)
    assert torch.equal(plain, again)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


def test_bounds_are_ends_of_text_said_beginnings_and_rows():
    inputs = np.array([[7, END_OF_TEXT, 8, 9], [1, 2, 3, END_OF_TEXT]], dtype=np.int64)
    targets = np.roll(inputs, -1)
    starts = np.zeros(inputs.shape, dtype=np.bool_)
    starts[1, 2] = True
    rows = StepRows(inputs, targets, starts, 8)
    assert rows.bounds(slice(None)).tolist() == [0, 1, 4, 6, 7, 8]
    assert rows.bounds(slice(1, 2)).tolist() == [0, 2, 3, 4]
    assert rows.bounds(slice(None)).dtype == np.int32


def test_the_work_of_attention_goes_by_the_document_that_a_token_is_in():
    inputs = np.array([[7, END_OF_TEXT, 8, 9], [1, 2, 3, 4]], dtype=np.int64)
    rows = StepRows.whole(inputs, np.roll(inputs, -1))
    assert rows.document_tokens() == (1 * 1 + 3 * 3 + 4 * 4) / 8
    assert StepRows.whole(inputs[1:], inputs[1:]).document_tokens() == 4


def test_the_padding_of_a_row_is_one_document():
    """Else a kernel would be asked for as many sequences as there are tokens of padding."""
    inputs = np.array([[5, 6, *[END_OF_TEXT] * 4], [END_OF_TEXT] * 6], dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    targets[0, 0] = 6
    rows = StepRows(inputs, targets, np.zeros(inputs.shape, dtype=np.bool_), 1)
    assert rows.bounds(slice(None)).tolist() == [0, 2, 6, 12]
