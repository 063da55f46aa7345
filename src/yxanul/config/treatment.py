"""What is done to a source's texts, and which are good enough: repair, rules, near duplicates.

The one idea: a rule set is off (null) or on with thresholds, by the names and with the defaults of
the library that applies them (datatrove). Rules made for web prose eat code and mathematics, so
they belong to a source and every threshold can be moved.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from yxanul.config.base import PositiveInt, Section, refuse


class GopherQuality(Section):
    """Rules of Gopher (arXiv 2112.11446, appendix A) over words; 0 switches a rule off."""

    min_doc_words: int = Field(default=50, ge=0, description="Fewest words.")
    max_doc_words: int = Field(default=100_000, ge=0, description="Most words.")
    min_avg_word_length: float = Field(
        default=3, ge=0, description="Shortest mean word, in characters."
    )
    max_avg_word_length: float = Field(
        default=10, ge=0, description="Longest mean word, in characters."
    )
    max_symbol_word_ratio: float = Field(
        default=0.1, ge=0, description="Most hash signs per word, and most ellipses per word."
    )
    max_bullet_lines_ratio: float = Field(
        default=0.9, ge=0, description="Most lines that begin with a bullet, as a share."
    )
    max_ellipsis_lines_ratio: float = Field(
        default=0.3, ge=0, description="Most lines that end in an ellipsis, as a share."
    )
    max_non_alpha_words_ratio: float = Field(
        default=0.8,
        ge=0,
        description="Least share of words with a letter (the name is datatrove's, and misleads).",
    )
    min_stop_words: int = Field(
        default=2, ge=0, description="Fewest different words of the, be, to, of, and, that, ..."
    )


class GopherRepetition(Section):
    """Repetition rules of Gopher (arXiv 2112.11446, table A1); 0 switches a rule off."""

    dup_line_frac: float = Field(default=0.3, ge=0, description="Most repeated lines, a share.")
    dup_para_frac: float = Field(
        default=0.3, ge=0, description="Most repeated paragraphs, a share."
    )
    dup_line_char_frac: float = Field(
        default=0.2, ge=0, description="Most characters in repeated lines, a share."
    )
    dup_para_char_frac: float = Field(
        default=0.2, ge=0, description="Most characters in repeated paragraphs, a share."
    )
    top_n_grams: tuple[float, ...] = Field(
        default=(0.2, 0.18, 0.16),
        strict=False,
        max_length=9,
        description="Most characters in the commonest run of 2, 3, 4, ... words, as shares.",
    )
    dup_n_grams: tuple[float, ...] = Field(
        default=(0.15, 0.14, 0.13, 0.12, 0.11, 0.10),
        strict=False,
        max_length=9,
        description="Most characters in repeated runs of 5, 6, 7, ... words, as shares.",
    )


class C4Quality(Section):
    """Rules of C4 (arXiv 1910.10683): lines are removed, and what is left is judged."""

    filter_no_terminal_punct: bool = Field(
        default=True, description="Remove lines that do not end a sentence."
    )
    remove_citations: bool = Field(default=True, description="Remove Wikipedia's [12], [edit].")
    min_num_sentences: int = Field(
        default=5, ge=-1, description="Fewest sentences left; -1 = no such rule."
    )
    min_words_per_line: int = Field(
        default=3, ge=-1, description="Remove lines with fewer words; -1 = none."
    )
    max_word_length: int = Field(
        default=1000, ge=-1, description="Remove lines with a longer word; -1 = none."
    )
    filter_lorem_ipsum: bool = Field(default=True, description="Drop texts with lorem ipsum.")
    filter_javascript: bool = Field(default=True, description="Remove lines with javascript.")
    filter_curly_bracket: bool = Field(default=True, description="Drop texts with a {.")
    filter_policy: bool = Field(
        default=True, description="Remove lines about cookies and terms of use."
    )


class FineWebQuality(Section):
    """Rules of FineWeb (arXiv 2406.17557) over lines."""

    line_punct_thr: float = Field(
        default=0.12, ge=0, description="Fewest lines that end a sentence, as a share."
    )
    line_punct_exclude_zero: bool = Field(
        default=False, description="Let texts pass in which no line ends a sentence."
    )
    short_line_thr: float = Field(default=0.67, ge=0, description="Most short lines, as a share.")
    short_line_length: PositiveInt = Field(
        default=30, description="A line of at most so many characters is short."
    )
    char_duplicates_ratio: float = Field(
        default=0.01, ge=0, description="Most characters in repeated lines, as a share."
    )
    new_line_ratio: float = Field(default=0.3, ge=0, description="Most line ends per word.")


class TreatmentConfig(Section):
    """Everything that a text goes through between its source and the tokenizer, in this order."""

    repair: bool = Field(
        default=False,
        description="Mend garbled Unicode and HTML entities in prose, with the library ftfy.",
    )
    remove_pattern: str | None = Field(
        default=None,
        description="Regular expression; what it matches is taken out of the text, e.g. the "
        "calculator marks of GSM8K. null = nothing is.",
    )
    require_pattern: str | None = Field(
        default=None,
        description="Regular expression; a text in which it matches nowhere is dropped, e.g. a "
        "trace that was cut off. null = none is.",
    )
    c4: C4Quality | None = Field(default=None, description="Rules of C4; null = not applied.")
    fineweb: FineWebQuality | None = Field(
        default=None, description="Rules of FineWeb; null = not applied."
    )
    gopher_quality: GopherQuality | None = Field(
        default=None, description="Rules of Gopher; null = not applied."
    )
    gopher_repetition: GopherRepetition | None = Field(
        default=None, description="Repetition rules of Gopher; null = not applied."
    )
    decontaminate: tuple[Literal["hellaswag", "triviaqa", "gsm8k", "humaneval"], ...] = Field(
        default=(),
        strict=False,
        description="Benchmarks whose items are looked for; a text that holds one is dropped. They "
        "come from where evaluation.bench says.",
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="A text is dropped if so much of it stands in an earlier one (Jaccard "
        "similarity of runs of five words, which MinHash estimates within 0.04); null = only "
        "equal texts are.",
    )

    @property
    def has_rules(self) -> bool:
        """Whether rules of datatrove are applied."""
        return any((self.c4, self.fineweb, self.gopher_quality, self.gopher_repetition))

    @model_validator(mode="after")
    def _patterns_are_patterns(self) -> TreatmentConfig:
        problems = []
        for key in ("remove_pattern", "require_pattern"):
            try:
                re.compile(getattr(self, key) or "")
            except re.error as error:
                problems.append(f"{key} is no regular expression ({error}); mend it")
        refuse(problems)
        return self
