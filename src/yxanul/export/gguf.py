"""A GGUF file for llama.cpp, architecture "gemma", with GPT-2's tokenizer.

llama.cpp's converter wants a SentencePiece vocabulary of a Gemma, and its Llama architecture has
another activation, so the file is written here with the package `gguf`. What differs from our names
and numbers: norms are stored as 1 + weight, the tied head is left out, and nothing is permuted (a
Gemma's rotary embedding turns the halves of a head, as ours does). Norms stay fp32 in every type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import END_OF_TEXT
from yxanul.data.tokenizer import vocabulary_files
from yxanul.errors import ExportCheckError, MissingExtraError, UsageError
from yxanul.export.checks import Subject, Tolerance
from yxanul.model.transformer import Transformer

TOLERANCES = {
    "f32": Tolerance(logits=1e-5, perplexity=5e-5),
    "f16": Tolerance(logits=5e-3, perplexity=1e-3),
    "bf16": Tolerance(logits=5e-2, perplexity=1e-2),
    "q8_0": Tolerance(logits=0.3, perplexity=5e-2),
    "q4_0": Tolerance(logits=math.inf, perplexity=math.inf),
}
"""What each type's rounding may change; that it rounds as the format says is compared exactly.

Four bits may ruin a small model, which is told and for its user to judge.
"""
_BLOCK = 32
"""Numbers that share a scale in the q types."""
_LAYER = re.compile(r"layers\.(\d+)\.(.+)\.weight")
_IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTSIDE = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}


def write_gguf(subject: Subject, path: Path, *, kind: str, title: str) -> None:
    """Write the file, matrices in `kind`, one of `TOLERANCES`.

    A shape that a q type cannot hold is a `UsageError`; without the package this is a
    `MissingExtraError`.
    """
    library, config = import_gguf(), subject.model.config
    _refuse_uneven(config, kind=kind)
    writer = library.GGUFWriter(path, "gemma")
    writer.add_name(title)
    writer.add_file_type(_file_type(kind))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    _add_tokenizer(writer, config)
    stored = _stored_type(kind)
    for name, tensor in subject.model.state_dict().items():
        array = tensor.numpy()
        if array.ndim == 1:
            writer.add_tensor(gguf_name(name), array + np.float32(1))
        else:
            content = library.quants.quantize(array, stored)
            writer.add_tensor(gguf_name(name), content, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Return what llama.cpp calls one of our tensors."""
    found = _LAYER.fullmatch(name)
    return f"blk.{found[1]}.{_IN_LAYER[found[2]]}.weight" if found else _OUTSIDE[name]


def _refuse_uneven(config: ModelConfig, *, kind: str) -> None:
    inner = config.num_attention_heads * config.head_dim
    uneven = [n for n in (config.hidden_size, config.intermediate_size, inner) if n % _BLOCK]
    if kind.startswith("q") and uneven:
        raise UsageError(
            f"--type {kind} stores numbers in blocks of {_BLOCK}, which {uneven[0]} is no multiple "
            "of; take f16"
        )


def _stored_type(kind: str) -> Any:
    return import_gguf().GGMLQuantizationType[kind.upper()]


def _file_type(kind: str) -> Any:
    types = import_gguf().LlamaFileType
    return types.ALL_F32 if kind == "f32" else types[f"MOSTLY_{kind.upper()}"]


def _add_tokenizer(writer: Any, config: ModelConfig) -> None:
    kinds, files = import_gguf().TokenType, vocabulary_files()
    ids: dict[str, int] = json.loads(files["encoder.json"].read_bytes())
    tokens = sorted(ids, key=ids.__getitem__)
    if len(tokens) != config.vocab_size:
        raise UsageError(
            f"the model has {config.vocab_size:,} rows and GPT-2's tokenizer {len(tokens):,} ids: "
            "a GGUF file needs as many"
        )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.NORMAL] * (len(tokens) - 1) + [kinds.CONTROL])
    writer.add_token_merges(files["vocab.bpe"].read_text(encoding="utf-8").split("\n")[1:-1])
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_eos_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)


class GgufReader:
    """A GGUF file read back into a model of ours: what is stored is what was meant.

    Each matrix is compared with what its type makes of the weight, number for number.
    """

    def __init__(self, path: Path, subject: Subject, *, kind: str) -> None:
        """Read the file; a tensor that is not what was written is an `ExportCheckError`."""
        library = import_gguf()
        self.name = f"gguf {version('gguf')}"
        content = read_gguf(path)
        self._encode = _encoder_of(content)
        self._model = Transformer.without_weights(subject.model.config)
        read = dict(_tensors(content))
        stored = _stored_type(kind)
        weights = {}
        for name, tensor in subject.model.state_dict().items():
            found = read.get(gguf_name(name))
            wanted = tensor.numpy()
            if wanted.ndim > 1:
                packed = library.quants.quantize(wanted, stored)
                wanted = library.quants.dequantize(packed, stored)
            elif found is not None:
                found = found - np.float32(1)
                wanted = (wanted + np.float32(1)) - np.float32(1)
            if found is None or not np.array_equal(found, wanted):
                raise ExportCheckError(f"{path.name} does not hold {name} as it was written")
            weights[name] = torch.from_numpy(found.copy())  # a mapped file cannot be a tensor
        self._model.load_state_dict(weights, assign=True)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text by the vocabulary that is stored in the file."""
        return self._encode(text)

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return (seq, vocab) fp32 logits."""
        hidden = self._model.hidden_states(torch.tensor([list(ids)]))
        return self._model.logits(hidden)[0]


def read_gguf(path: Path) -> Any:
    """Return the package's own reader of a file; without the package: `MissingExtraError`.

    It slices its memory map several times for each of 150,000 words, and a slice of numpy's class
    of maps costs many times one of a plain array over the same bytes.
    """
    library: Any = import_gguf()

    class Plain(library.GGUFReader):  # type: ignore[misc]
        @property
        def data(self) -> np.ndarray:
            return self._plain

        @data.setter
        def data(self, mapped: np.memmap) -> None:
            self._plain = np.asarray(mapped)

    return Plain(path)


def _tensors(content: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each tensor by its name in fp32, in our order of dimensions."""
    quants = import_gguf().quants
    for tensor in content.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        yield tensor.name, quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)


def _encoder_of(content: Any) -> Callable[[str], list[int]]:
    from tokenizers import ByteLevelBPETokenizer  # looked for by `import_gguf`

    tokens = content.fields["tokenizer.ggml.tokens"].contents()
    merges = content.fields["tokenizer.ggml.merges"].contents()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = ByteLevelBPETokenizer(vocabulary, pairs)
    return lambda text: tokenizer.encode(text).ids


def import_gguf() -> Any:
    """Return the package; without it, or what reads its words back, a `MissingExtraError`."""
    try:
        import gguf  # an optional extra
        import tokenizers  # noqa: F401  (gguf does not bring it)
    except ImportError as error:
        raise MissingExtraError(
            f"a GGUF file needs the package {error.name}, which is not installed: "
            'pip install "yxanul[export]"'
        ) from error
    return gguf
