"""A GGUF file as llama.cpp reads it, through llama-cpp-python where that is installed.

llama.cpp computes GELU from a table of half precision and keeps keys and values as it likes, so its
logits differ by more than fp32 explains; they are kept in fp32 here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yxanul.errors import ExportCheckError
from yxanul.export.checks import Tolerance

LLAMA_TOLERANCES = {
    "f32": Tolerance(logits=1e-2, perplexity=1e-3),
    "f16": Tolerance(logits=2e-2, perplexity=2e-3),
    "bf16": Tolerance(logits=5e-2, perplexity=1e-2),
    "q8_0": Tolerance(logits=0.3, perplexity=5e-2),
    "q4_0": Tolerance(logits=math.inf, perplexity=math.inf),
}
_FP32 = 0
"""ggml's number of that type."""


def has_llama_cpp() -> bool:
    """Tell whether llama-cpp-python is installed."""
    return find_spec("llama_cpp") is not None


class LlamaReader:
    """A model in llama.cpp; `close` frees it."""

    def __init__(self, path: Path) -> None:
        """Load the file; a refusal of llama.cpp is an `ExportCheckError`."""
        import llama_cpp  # an optional extra

        self.name = f"llama-cpp-python {version('llama-cpp-python')}"
        try:
            self._llama: Any = llama_cpp.Llama(
                str(path),
                n_ctx=0,  # the model's own
                logits_all=True,
                type_k=_FP32,
                type_v=_FP32,
                verbose=False,
            )
        except ValueError as error:
            raise ExportCheckError(f"{self.name} does not read the export: {error}") from error

    def close(self) -> None:
        """Free what llama.cpp holds."""
        self._llama.close()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added."""
        ids: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return (seq, vocab) fp32 logits."""
        self._llama.reset()
        self._llama.eval(list(ids))
        return torch.from_numpy(np.array(self._llama.scores[: len(ids)], dtype=np.float32))
