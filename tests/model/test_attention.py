"""What attention holds beside its result."""

import pytest
import torch

from tests.model.storages import Storages
from yxanul.model.attention import attention_path, hidden_of_others, plain_attention

ROWS, HEADS, SEQ, HEAD_DIM = 2, 3, 40, 8


@pytest.mark.slow  # what loads the tracer takes seconds
@pytest.mark.filterwarnings("error:.*lru_cache:UserWarning")
def test_plain_attention_is_compiled_without_a_word():
    q, k, v = (torch.randn(ROWS, HEADS, SEQ, HEAD_DIM) for _ in range(3))
    traced = torch.compile(plain_attention, backend="eager", dynamic=False, fullgraph=True)
    assert torch.equal(traced(q, k, v), plain_attention(q, k, v))


@pytest.mark.parametrize("name", ["cudnn", "efficient"])
def test_a_token_by_itself_needs_no_kernel_of_a_card(name):
    """No kernel is here, as cuDNN has none for one key on a card; a document may be one token."""
    q, k, v = (torch.randn(ROWS, HEADS, 1, HEAD_DIM) for _ in range(3))
    assert torch.equal(attention_path(name)(q, k, v), plain_attention(q, k, v))


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_makes_its_scores_and_their_shares_and_no_third(masked):
    q, k, v = (torch.randn(ROWS, HEADS, SEQ, HEAD_DIM, requires_grad=True) for _ in range(3))
    bounds = torch.tensor([0, 25, SEQ, ROWS * SEQ], dtype=torch.int32)
    documents = hidden_of_others(bounds, torch.Size((ROWS, SEQ))) if masked else None
    with Storages((ROWS, HEADS, SEQ, SEQ), keep=True) as seen:
        out = plain_attention(q, k, v, documents=documents)
    assert len(seen.found) == 2
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=None if documents is None else ~documents, is_causal=not masked
    )
    assert torch.allclose(out, wanted, atol=1e-6)
    gradients, others = (
        torch.autograd.grad(one.square().sum(), (q, k, v)) for one in (out, wanted)
    )
    for ours, theirs in zip(gradients, others, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
