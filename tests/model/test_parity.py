"""The model is Gemma 1: transformers' own class says the same, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F
from transformers import GemmaConfig, GemmaForCausalLM

from tests.model.tiny import difference, gradients, model_with_norms, rows, shape
from yxanul.config.schema import ModelConfig

CPU_PATHS = ["plain", "sdpa"]
GROUPS = [4, 2, 1]


def theirs_like(model) -> GemmaForCausalLM:
    c: ModelConfig = model.config
    config = GemmaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        max_position_embeddings=c.max_position_embeddings,
        rms_norm_eps=c.rms_norm_eps,
        hidden_activation="gelu_pytorch_tanh",
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = GemmaForCausalLM(config).float()
    missing = theirs.model.load_state_dict(model.state_dict(), strict=True)
    assert not missing.missing_keys
    return theirs


@pytest.mark.parametrize("kv_heads", GROUPS)
@pytest.mark.parametrize("attention", CPU_PATHS)
def test_logits_and_gradients_equal_those_of_transformers(attention, kv_heads):
    ours = model_with_norms(shape(num_key_value_heads=kv_heads), attention=attention)
    theirs = theirs_like(ours)
    inputs, targets = rows(3, 33)
    ours(inputs, targets).backward()
    logits = theirs(inputs).logits
    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    assert difference(ours.logits(ours(inputs)), logits) < 1e-5
    reference = dict(theirs.model.named_parameters())
    for name, gradient in gradients(ours).items():
        assert difference(gradient, reference[name].grad) < 1e-5, name


@pytest.mark.parametrize("kv_heads", GROUPS)
def test_all_attention_paths_of_a_cpu_agree(kv_heads):
    inputs, targets = rows(2, 40)
    found = []
    for attention in CPU_PATHS:
        model = model_with_norms(shape(num_key_value_heads=kv_heads), attention=attention)
        loss = model(inputs, targets)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    (loss, ours), (other_loss, others) = found
    torch.testing.assert_close(loss, other_loss, rtol=1e-6, atol=0)
    for name, gradient in ours.items():
        assert difference(gradient, others[name]) < 1e-5, name
