"""FlashAttention where there is no card: torch's operators take what they are given, and version 3
takes the place of version 2 and leaves it again."""

import sys
import types

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.attention import current_flash_attention_impl

from yxanul.model.attention import attention_path, document_layout
from yxanul.model.flash import use_version


@pytest.fixture
def version_3(monkeypatch):
    """A module that has what torch looks for in FlashAttention 3's; its kernels do nothing."""
    library = torch.library.Library("flash_attn_3", "DEF")
    library.define("fwd(Tensor q) -> Tensor")
    library.define("bwd(Tensor q) -> Tensor")
    monkeypatch.setitem(sys.modules, "flash_attn_interface", types.ModuleType("stand-in"))
    yield
    use_version(2)
    library._destroy()


def laid_out(rows: int, seq: int, *, heads: int = 4) -> list[torch.Tensor]:
    """Return q, k, v as a block hands them on: heads first, but laid out tokens first."""
    size = (rows, seq, heads, 64)
    parts = (torch.randn(size, device="meta", dtype=torch.bfloat16) for _ in range(3))
    return [part.requires_grad_().transpose(1, 2) for part in parts]


def test_torch_takes_documents_and_gives_their_gradients_by_shape():
    q, k, v = laid_out(2, 32)
    bounds = torch.tensor([0, 5, 32, 64], dtype=torch.int32, device="meta")
    out = attention_path("flash")(q, k, v, documents=bounds)
    assert (out.shape, out.dtype) == (q.shape, torch.bfloat16)
    found = torch.autograd.grad(out, (q, k, v), torch.empty_like(out))
    assert [one.shape for one in found] == [q.shape] * 3


@pytest.mark.filterwarnings("default")  # torch.compile warns about torch's own code
def test_one_graph_serves_any_number_of_documents():
    counter = CompileCounter()
    compiled = torch.compile(
        attention_path("flash"), backend=counter, dynamic=False, fullgraph=True
    )
    lay_out = document_layout("flash")
    q, k, v = laid_out(2, 32)
    for documents in (2, 3, 7, 40, 2):
        bounds = torch.empty(documents + 1, dtype=torch.int32, device="meta")
        out = compiled(q, k, v, documents=lay_out(bounds, torch.Size((2, 32))))
        assert out.shape == q.shape
    assert counter.frame_count == 1
    compiled(*laid_out(4, 16), documents=lay_out(bounds, torch.Size((4, 16))))
    assert counter.frame_count == 2  # another length of rows is another graph


def test_version_3_takes_the_place_of_torchs_own_and_leaves_it(version_3):
    assert current_flash_attention_impl() is None
    attention_path("flash3")
    assert current_flash_attention_impl() == "FA3"
    attention_path("flash3")
    assert current_flash_attention_impl() == "FA3"
    attention_path("cudnn")
    assert current_flash_attention_impl() == "FA3"
    attention_path("flash")
    assert current_flash_attention_impl() is None
    attention_path("flash")


def test_version_3_that_cannot_be_loaded_is_an_error_and_changes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn_interface", None)
    with pytest.raises(ImportError, match="flash_attn_interface"):
        attention_path("flash3")
    assert current_flash_attention_impl() is None
