"""Rules of quality are datatrove's own, decide as datatrove decides, and tell the number."""

import importlib.util
import random
import sysconfig
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yxanul.config.treatment import TreatmentConfig

datatrove = pytest.importorskip("datatrove", reason="needs the extra yxanul[data]")

from datatrove.data import Document  # noqa: E402  (after the skip)
from datatrove.pipeline.filters import (  # noqa: E402
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.word_tokenizers import SpaCyTokenizer, load_word_tokenizer  # noqa: E402

from yxanul.data.drop import Drop  # noqa: E402
from yxanul.data.quality.measures import _MEASURES  # noqa: E402
from yxanul.data.quality.rules import Rules  # noqa: E402
from yxanul.data.quality.words import SharedWords  # noqa: E402
from yxanul.data.treating.treatment import Treater, Treatment  # noqa: E402

PROSE = (
    "The river that runs through the old town has been there for as long as anybody knows, and "
    "the people of the town have built their houses with a view to it. In the summer they sit "
    "on its banks to talk of the day that was, and of the one that will be with them tomorrow."
)


@pytest.fixture(scope="module")
def real_texts() -> list[str]:
    """Files of the standard library, pages of its documentation, and prose."""
    from pydoc_data.topics import topics

    root = Path(sysconfig.get_path("stdlib"))
    code = [path.read_text(encoding="utf-8") for path in sorted(root.glob("*.py"))[:6]]
    draw = random.Random(1)
    prose = [" ".join(draw.sample(PROSE.split(), 50)) + "." for _ in range(10)]
    return [*code, *list(topics.values())[:12], *prose, PROSE, PROSE + "\n\n" + PROSE]


@pytest.mark.parametrize("least", [0, -1])
def test_a_text_of_which_the_rules_leave_no_line_is_dropped(least: int) -> None:
    config = TreatmentConfig.model_validate({"c4": {"min_num_sentences": least}})
    text = "a menu without an end\nanother one of them"
    (none,) = Treater(Treatment(config)).treat([text])
    assert Rules(config).judge(text)[0].strip() == ""
    assert none.drop is not None
    assert none.drop.rule == "empty"


@pytest.mark.parametrize("text", ["a menu without an end\nanother one of them", "IS_ALPHA"])
@pytest.mark.parametrize(
    "then",
    [
        {"gopher_quality": {"min_doc_words": 0}},
        {"fineweb": {"line_punct_thr": 0, "short_line_thr": 1}},
        {"gopher_repetition": {}},
    ],
)
def test_a_text_of_which_one_rule_leaves_no_word_is_not_judged_by_the_next(
    then: dict[str, Any], text: str
) -> None:
    c4 = {"c4": {"min_num_sentences": -1}} if text.islower() else {}
    drop = Rules(TreatmentConfig.model_validate(c4 | then)).judge(text)[1]
    assert drop == Drop("empty")


@pytest.mark.slow
def test_words_are_those_of_datatrove_on_real_text(real_texts: list[str]) -> None:
    theirs, ours = load_word_tokenizer("en"), SharedWords()
    for text in real_texts:
        assert ours.word_tokenize(text) == theirs.word_tokenize(text)
    long = "x" * 200 + " don't (U.S.A.)  e.g. " + "y-z " * 30
    assert ours.word_tokenize(long) == theirs.word_tokenize(long)


CHARACTERS = "aBz .,!?'\"()-\n\t$5éß…。 "


@settings(max_examples=200)
@given(
    # With the string that breaks spaCy where it is a token.
    text=st.lists(st.sampled_from([*CHARACTERS, "IS_ALPHA", " IS_ALPHA "]), max_size=60).map(
        "".join
    )
)
@example(text="The macro NOT_IS_ALPHA_2 is set here. So is that.")
@example(text="The macro NOT_IS_ALPHA_2 is set here, 'IS_ALPHA'. So is that.")
def test_words_and_sentences_are_those_of_datatrove_on_any_text(text: str) -> None:
    theirs, ours = _both()
    assert ours.word_tokenize(text) == theirs.word_tokenize(text)
    line = text.strip()
    assert len(ours.span_tokenize(line)) == len(theirs.span_tokenize(line))
    assert ours.sent_tokenize(line) == theirs.sent_tokenize(line)


class _Breaking(SpaCyTokenizer):
    """datatrove's tokenizer whose spaCy breaks at every IS_ALPHA.

    The plain one reads the first of its life, and at later ones memory that it gave back after the
    text before: mostly that breaks it, but not where that memory is as it was.
    """

    def __init__(self) -> None:
        super().__init__("en")
        self.tokenizer.memory_zone = nullcontext  # what was read stays

    def _do_tokenize(self, text: str) -> Any:
        found = super()._do_tokenize(text)
        if any(token.text == "IS_ALPHA" for part in found for token in part):
            return super()._do_tokenize(text.replace("IS_ALPHA", ""))
        return found


@cache
def _both() -> tuple[SpaCyTokenizer, SharedWords]:
    return _Breaking(), SharedWords()


def test_words_do_not_depend_on_what_was_read_before() -> None:
    text = "The macro NOT_IS_ALPHA_2 is set here, 'IS_ALPHA'. So is that."
    plain, (breaking, _), ours = SpaCyTokenizer("en"), _both(), SharedWords()
    assert "NOT_IS_ALPHA_2" in plain.word_tokenize(text), "the first of its life"
    for before in ("", "IS_ALPHA", text, "of 'IS_ALPHA'"):
        for one in (breaking, ours):
            one.word_tokenize(before)
            assert "NOT__2" in one.word_tokenize(text)


@pytest.mark.parametrize(
    ("key", "theirs"),
    [
        ("c4", C4QualityFilter),
        ("fineweb", FineWebQualityFilter),
        ("gopher_quality", GopherQualityFilter),
        ("gopher_repetition", GopherRepetitionFilter),
    ],
)
def test_every_decision_is_datatroves(real_texts: list[str], key: str, theirs: Any) -> None:
    ours, rules = Rules(TreatmentConfig.model_validate({key: {}})), theirs()
    dropped = 0
    for text in real_texts:
        document = Document(text=text, id="")
        result = rules.filter(document)
        kept, reason = result if isinstance(result, tuple) else (result, "")
        found, drop = ours.judge(text)
        assert (drop is None) == kept
        dropped += not kept
        if drop is None:
            assert found == document.text
        else:
            assert reason in drop.rule
    assert 0 < dropped < len(real_texts)


def test_the_number_of_a_drop_breaks_its_limit(real_texts: list[str]) -> None:
    reasons = set()
    for key in ("fineweb", "gopher_quality", "gopher_repetition"):
        rules = Rules(TreatmentConfig.model_validate({key: {}}))
        for text in [*real_texts, *_bad_texts()]:
            _, drop = rules.judge(text)
            if drop is None or drop.value is None or drop.limit is None:
                assert drop is None or drop.rule == "gopher_empty"
                continue
            reasons.add(drop.rule)
            at_least = drop.rule in {
                "gopher_short_doc",
                "gopher_below_avg_threshold",
                "gopher_below_alpha_threshold",
                "gopher_enough_stop_words",
                "fineweb_line_punct_ratio",
            }
            assert (drop.value < drop.limit) if at_least else (drop.value > drop.limit)
    known = {name if name.startswith("gopher") else f"x_{name}" for name in _MEASURES}
    assert len(reasons) >= len(known) - 4, "the texts above should break nearly every rule"


def _bad_texts() -> Iterator[str]:
    """Yield a text for each rule, made of prose by one change."""
    words = PROSE.split()
    yield "short text"
    yield " ".join(["a", "the", "of", "I"] * 40)
    yield " ".join([f"incomprehensibilities{n} the of" * 2 for n in range(40)])
    yield PROSE + " # " * 40
    yield PROSE + " ... x" * 40
    yield "\n".join(f"- {word} the of and" for word in words)
    yield "\n".join(f"{word} {number} the of..." for number, word in enumerate(words))
    yield " ".join(f"{number} 5{number} the" for number in range(60)) + " of"
    yield " ".join(f"word{number} river town" for number in range(40))
    yield "\n\n".join([PROSE] * 4)
    yield "\n".join(["same line here."] * 30 + [PROSE])
    yield "\n".join(words)
    yield "\n".join(
        f"{word} is a longer line without a stop number {n}" for n, word in enumerate(words)
    )
    yield PROSE + "\n" + PROSE + "\n" + "Another line that ends the text with a stop."
    yield PROSE + "\n" * 60 + PROSE[::-1] + "."
    yield " ".join(words + ["over and over"] * 60)


def test_a_threshold_that_is_moved_moves_the_decision() -> None:
    strict = Rules(TreatmentConfig.model_validate({"gopher_quality": {"min_doc_words": 30}}))
    loose = Rules(TreatmentConfig.model_validate({"gopher_quality": {"min_doc_words": 0}}))
    assert strict.judge(PROSE)[1] is None
    drop = strict.judge("The town and the river.")[1]
    assert drop is not None
    assert (drop.rule, drop.value, drop.limit) == ("gopher_short_doc", 5.0, 30.0)
    assert loose.judge("The town and the river.")[1] is None


def test_c4_takes_lines_out() -> None:
    rules = Rules(TreatmentConfig.model_validate({"c4": {"min_num_sentences": 1}}))
    text, drop = rules.judge("A line without an end\nA line with an end.")
    assert (text, drop) == ("A line with an end.", None)


def test_rules_of_one_source_come_from_one_extra() -> None:
    assert importlib.util.find_spec("spacy") is not None
