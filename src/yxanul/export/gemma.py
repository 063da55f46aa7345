"""Our shape as Hugging Face's Gemma configuration writes it, and back.

The model is the block of Gemma 1 (arXiv 2403.08295), so nothing is renamed or changed: a
configuration is written out, with the keys of transformers 4 and 5 (`rope_theta`, `torch_dtype` and
`rope_parameters`). GemmaConfig's own ids (pad 0, begin 2, end 1) belong to another tokenizer: with
pad 0, token 0 would have no gradient and end a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yxanul.config.problems import check
from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import END_OF_TEXT
from yxanul.config.yamltext import Document
from yxanul.errors import UsageError

_SAME_NAMES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "initializer_range",
    "tie_word_embeddings",
)
_GELU = "gelu_pytorch_tanh"
TENSOR_PREFIX = "model."
"""Before the name of each tensor in a Hugging Face file; the rest of the name is ours."""


def gemma_config(model: ModelConfig, *, dtype: str) -> dict[str, Any]:
    """Return what config.json says of a model whose weights are written in a torch dtype."""
    return {
        "architectures": ["GemmaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
        "hidden_act": _GELU,
        "hidden_activation": _GELU,
        "model_type": "gemma",
        "pad_token_id": None,
        "rope_parameters": {"rope_theta": model.rope_theta, "rope_type": "default"},
        "rope_theta": model.rope_theta,
        "torch_dtype": dtype,
        "use_cache": True,
        **{name: getattr(model, name) for name in _SAME_NAMES},
    }


def shape_of(config: Mapping[str, Any], *, label: str) -> ModelConfig:
    """Return the shape that a config.json describes; `label` names it in errors.

    Whatever our block is not (another class, activation, biases, a scaled rotary embedding, an
    untied head) is a `UsageError`, as weights would be read into the wrong model.
    """
    rope: dict[str, Any] = {}
    for key in ("rope_scaling", "rope_parameters"):
        block = config.get(key) or {}
        if not isinstance(block, dict):
            raise UsageError(f"{label}: {key} is {block!r}, and should be a block of keys")
        rope |= block
    activation = config.get("hidden_act")
    found = {
        "model_type": (config.get("model_type"), "gemma"),
        # transformers 4 has both, 5 only the first, in which Gemma's authors wrote gelu for it.
        "hidden_act": (_GELU if activation in (None, "gelu") else activation, _GELU),
        "hidden_activation": (config.get("hidden_activation") or _GELU, _GELU),
        "attention_bias": (config.get("attention_bias", False), False),
        "tie_word_embeddings": (config.get("tie_word_embeddings", True), True),
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
    }
    for key, (value, ours) in found.items():
        if value != ours:
            raise UsageError(f"{label}: {key} is {value!r}, and this model's is {ours!r}")
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    values = {name: config[name] for name in _SAME_NAMES if name in config}
    model, problems = check(
        ModelConfig, Document(label, {"name": "imported", "rope_theta": theta, **values})
    )
    if model is None:
        raise UsageError(f"{label} describes no model of this kind: {problems[0]}")
    return model
