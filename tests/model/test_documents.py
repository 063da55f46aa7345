"""Where documents share a row and are masked, each is read as if it were alone."""

import pytest
import torch

from tests.model.tiny import difference, gradients, model_with_norms, shape
from yxanul.config.tokens import END_OF_TEXT
from yxanul.hardware.choices import attention_obstacle

PATHS = ["plain", "sdpa"]
LENGTHS = (5, 9, 2)


def documents() -> list[torch.Tensor]:
    """Three documents of random tokens, each after the token that begins it."""
    generator = torch.Generator().manual_seed(4)
    begin = torch.tensor([END_OF_TEXT])
    texts = [torch.randint(0, 1000, (length,), generator=generator) for length in LENGTHS]
    return [torch.cat((begin, text)) for text in texts]


def loss_and_gradients(rows: list[torch.Tensor], **options):
    """Sum the nats of every token after the first of its document, in these rows."""
    model = model_with_norms(shape(vocab_size=50_257), **options)
    total = torch.zeros(())
    for row in rows:
        inputs, targets = row[:-1].unsqueeze(0), row[1:].clone().unsqueeze(0)
        targets[targets == END_OF_TEXT] = -100  # the next document's beginning is foretold by none
        total = total + model(inputs, targets)
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


def test_a_part_of_a_cut_document_is_read_alone_where_it_is_said_to_begin():
    """Packing puts the rest of a long document, which no end of text begins, behind another."""
    model = model_with_norms(shape(vocab_size=50_257), mask_documents=True)
    generator = torch.Generator().manual_seed(5)
    parts = [torch.randint(0, 1000, (1, length), generator=generator) for length in (6, 7)]
    alone = torch.cat([model.hidden_states(part) for part in parts], dim=1)
    row = torch.cat(parts, dim=1)
    starts = torch.zeros(row.shape, dtype=torch.bool)
    starts[0, 6] = True
    assert difference(model.hidden_states(row, starts=starts), alone) < 1e-5
    assert difference(model.hidden_states(row), alone) > 0.01


@pytest.mark.parametrize("blocks", [0, 2])
def test_recomputed_blocks_keep_the_mask(blocks):
    whole = [torch.cat(documents())]
    plain, wanted = loss_and_gradients(whole, mask_documents=True)
    again, found = loss_and_gradients(whole, mask_documents=True, checkpointed_blocks=blocks)
    assert torch.equal(plain, again)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())


def test_kernels_that_know_one_mask_are_refused_in_one_sentence():
    card = torch.device("cuda", 0)
    for kernel in ("cudnn", "flash"):
        said = attention_obstacle(kernel, card, precision="bf16", document_masking=True)
        assert "takes no mask, and compute.document_masking is true" in str(said)
    assert attention_obstacle("efficient", card, precision="bf16", document_masking=True) is None
