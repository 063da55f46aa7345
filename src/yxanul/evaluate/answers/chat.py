"""A question in the form in which the stages of reasoning and mathematics present theirs.

The model was trained on texts, not on roles. A question is put as the beginning of such a text, and
what the model writes is the rest of it: a trace, a border, an answer. Two forms exist: the words of
the embedded sources (`yxanul.data.sources.traces.trace`), and the tags of the hub's traces, which
follow their question after an empty line. Which one a model knows, its checkpoint tells. Each
question stands alone: no training text held a second one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from yxanul.config.schema import RunConfig
from yxanul.data.sources.mathematics import ARITHMETIC_NAME, GSM_NAME
from yxanul.data.sources.reasoning import NAME as REASONING_NAME
from yxanul.data.sources.traces.trace import Trace
from yxanul.errors import UsageError
from yxanul.evaluate.answers.stops import longest_beginning
from yxanul.evaluate.models.loaded import LoadedModel, trained_sources

# In a treatment's require_pattern it tells the sources whose traces have tags.
_TAG = "</think>"
_WORDED = (REASONING_NAME, ARITHMETIC_NAME, GSM_NAME)


@dataclass(frozen=True)
class ChatForm:
    """What stands around a question, its trace and its answer."""

    before: str
    """Before the question."""
    opening: str
    """Between the question and its trace."""
    border: str
    """Between the trace and the answer."""

    def prompt(self, question: str) -> str:
        """Return the beginning of a text, up to where its trace begins."""
        return f"{self.before}{question.strip()}{self.opening}"

    def parts(self, text: str) -> tuple[str, str | None]:
        """Return the trace and the answer of what was written; None: it came to no answer."""
        trace, border, answer = text.partition(self.border)
        return trace.strip(), answer.strip() if border else None


_BEFORE, _OPENING, _BORDER, _ = Trace("\0", "\0", "\0").text().split("\0")
WORDS = ChatForm(_BEFORE, _OPENING, _BORDER.rstrip())
TAGS = ChatForm(before="", opening="\n\n<think>\n", border="</think>")


class Borders:
    """Tells trace from answer in a text that comes in pieces."""

    def __init__(self, form: ChatForm) -> None:
        self._border = form.border
        self._held = ""
        self._is_answer = False

    def push(self, piece: str) -> Iterator[tuple[str, bool]]:
        """Yield what is certain now, and whether it is the answer, which begins with its border."""
        self._held += piece
        at = self._held.find(self._border)
        if at < 0 or self._is_answer:
            doubtful = 0 if self._is_answer else longest_beginning(self._held, (self._border,))
            certain = len(self._held) - doubtful
            yield self._held[:certain], self._is_answer
        else:
            certain, self._is_answer = len(self._held), True
            yield self._held[:at], False
            yield self._held[at:], True
        self._held = self._held[certain:]

    def finish(self) -> tuple[str, bool]:
        """Return what was held back as the possible beginning of the border."""
        return self._held, self._is_answer


def chat_form(loaded: LoadedModel) -> ChatForm:
    """Return the form of the last traces that a model was trained on.

    A `UsageError` when it was trained on none of a known form.
    """
    forms = _known_forms(loaded.config)
    found = [forms[name] for name in trained_sources(loaded.info.path) if name in forms]
    if not found:
        raise UsageError(
            f"{loaded.info.path} was trained on no traces of a known form, so --chat has no form "
            f"for a question (it knows {', '.join(forms)}); write the prompt as your texts begin"
        )
    return found[-1]


def _known_forms(config: RunConfig) -> dict[str, ChatForm]:
    """Return the form of each source that has traces, by its name."""
    hub = [source for stage in config.stages for source in stage.data.hub_sources]
    tagged = [one.name for one in hub if _TAG in (one.treatment.require_pattern or "")]
    return dict.fromkeys(_WORDED, WORDS) | dict.fromkeys(tagged, TAGS)
