"""A GGUF file as llama.cpp reads it, through llama-cpp-python where that is installed.

llama.cpp computes GELU from a table of half precision and keeps keys and values as it likes, so its
logits differ by more than fp32 explains; they are kept in fp32 here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yxanul.errors import ExportCheckError, MissingExtraError, in_words
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


def import_llama_cpp() -> tuple[Any, str]:
    """Return its class of a model, and its version.

    Where the package is not there, or not whole, or does not load: `MissingExtraError`.
    """
    try:
        import llama_cpp  # an optional extra

        return llama_cpp.Llama, version("llama-cpp-python")
    except Exception as error:  # what its library of C says has no common base; none is swallowed
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == "llama_cpp"
        told = in_words(error)
        reason = "is not installed" if is_absent else f"cannot be loaded: {told}"
        raise MissingExtraError(f"llama-cpp-python {reason}") from error


class LlamaReader:
    """A model in llama.cpp; `close` frees it."""

    def __init__(self, path: Path) -> None:
        """Load the file; raises what `import_llama_cpp` does.

        A refusal of llama.cpp, then or later, is an `ExportCheckError`.
        """
        model, installed = import_llama_cpp()
        self.name = f"llama-cpp-python {installed}"
        with _refusals(f"{self.name} does not read the export"):
            self._llama: Any = model(
                str(path),
                n_ctx=0,  # the model's own
                logits_all=True,
                type_k=_FP32,
                type_v=_FP32,
                verbose=False,
            )

    def close(self) -> None:
        """Free what llama.cpp holds."""
        self._llama.close()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, nothing added."""
        with _refusals(f"{self.name} does not tokenise with the export"):
            ids: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Return (seq, vocab) fp32 logits."""
        with _refusals(f"{self.name} does not compute with the export"):
            self._llama.reset()
            self._llama.eval(list(ids))
        return torch.from_numpy(np.array(self._llama.scores[: len(ids)], dtype=np.float32))


@contextmanager
def _refusals(told: str) -> Iterator[None]:
    """Turn what llama-cpp-python raises for a failure of llama.cpp into an `ExportCheckError`.

    A model that llama.cpp cannot compute with (`eval`: a RuntimeError) has not been proved there.
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise ExportCheckError(f"{told}: {error}") from error
