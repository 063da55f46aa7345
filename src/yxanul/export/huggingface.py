"""A folder for `AutoModelForCausalLM` and `AutoTokenizer` of transformers 4 and 5.

Weights are safetensors under Gemma's own names; the tokenizer is GPT-2's vocabulary as one
tokenizer.json, read as it is (a class of its own would build another one in transformers 5). No
code comes with it. The same model always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from yxanul.config.schema import ModelConfig
from yxanul.config.tokens import END_OF_TEXT
from yxanul.data.tokenizer import vocabulary_files
from yxanul.errors import ExportCheckError, MissingExtraError
from yxanul.export.checks import Subject, Tolerance
from yxanul.export.gemma import TENSOR_PREFIX, gemma_config
from yxanul.model.fp8 import hush_torchao
from yxanul.runfolder.durable import disk_error, error_in, write_atomic, write_json

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
TOLERANCES = {
    "f32": Tolerance(logits=1e-5, perplexity=5e-5),
    "bf16": Tolerance(logits=5e-2, perplexity=1e-2),
    "f16": Tolerance(logits=5e-3, perplexity=1e-3),
}
"""fp32 is held to what two libraries' order of adding explains, the others to their rounding."""
_END_TEXT = "<|endoftext|>"


def write_folder(subject: Subject, folder: Path, *, kind: str, card: str) -> None:
    """Write the files into an empty folder, weights in `kind`, one of `DTYPES`.

    Raises what `import_transformers` does, and `DiskError`.
    """
    import_transformers()
    config = subject.model.config
    name = str(DTYPES[kind]).removeprefix("torch.")
    write_json(folder / "config.json", gemma_config(config, dtype=name))
    ends = {"bos_token_id": END_OF_TEXT, "eos_token_id": END_OF_TEXT}
    write_json(folder / "generation_config.json", ends)
    tensors = {
        TENSOR_PREFIX + name: tensor.to(DTYPES[kind]).contiguous()
        for name, tensor in subject.model.state_dict().items()
    }
    weights = folder / "model.safetensors"
    try:
        save_file(tensors, weights, metadata={"format": "pt"})
    except SafetensorError as error:  # safetensors reports the disk's errors as its own
        raise disk_error(error_in(str(error)), weights) from error
    _write_tokenizer(folder, config)
    write_atomic(folder / "README.md", card)


def _write_tokenizer(folder: Path, config: ModelConfig) -> None:
    from tokenizers import ByteLevelBPETokenizer  # comes with transformers

    files = vocabulary_files()
    tokenizer = ByteLevelBPETokenizer(str(files["encoder.json"]), str(files["vocab.bpe"]))
    tokenizer.add_special_tokens([_END_TEXT])
    write_atomic(folder / "tokenizer.json", tokenizer.to_str())
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": _END_TEXT,
            "eos_token": _END_TEXT,
            "unk_token": _END_TEXT,
            "clean_up_tokenization_spaces": False,
            "model_max_length": config.max_position_embeddings,
            # transformers 4 would add token_type_ids, which `generate` of a Gemma refuses.
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )


class TransformersReader:
    """A folder as transformers reads it, computing in fp32 whatever the weights are stored in."""

    def __init__(self, folder: Path) -> None:
        """Load the folder; whatever the library says against it is an `ExportCheckError`."""
        library = import_transformers()
        library.utils.logging.disable_progress_bar()
        self.name = f"transformers {version('transformers')}"
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = library.AutoTokenizer.from_pretrained(folder, **options)
            self._model, found = library.AutoModelForCausalLM.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, **options
            )
        except Exception as error:  # the library's errors have no common base; none is swallowed
            raise ExportCheckError(f"{self.name} does not read the export: {error}") from error
        wrong = [*found["missing_keys"], *found["unexpected_keys"]]
        if wrong:
            raise ExportCheckError(f"{self.name} finds no place for {sorted(wrong)[0]}")
        self._model.float().eval()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added."""
        # Not verbose: a text that is longer than the model's positions is no mistake here.
        found = self._tokenizer(text, add_special_tokens=False, verbose=False)
        ids: list[int] = found["input_ids"]
        return ids

    @torch.no_grad()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return (seq, vocab) fp32 logits."""
        found: Tensor = self._model(input_ids=torch.tensor([list(ids)])).logits[0]
        return found


def import_transformers() -> Any:
    """Return the package; without it this is a `MissingExtraError`."""
    hush_torchao()  # which it loads where it is installed
    try:
        import transformers  # an optional extra
    except ImportError as error:
        raise MissingExtraError(
            "an export for Hugging Face is read back by the package transformers, which is not "
            'installed: pip install "yxanul[export]"'
        ) from error
    return transformers
