"""`generate`: let a trained model write on from a prompt, from many, or answer questions."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from yxanul.cli import options
from yxanul.cli.chatting import TraceView, ask_questions
from yxanul.cli.folders import is_folder
from yxanul.cli.output import print_json, say
from yxanul.cli.progress import StderrWatcher
from yxanul.cli.prompts import read_prompts, refuse_half_characters, standard_input
from yxanul.cli.writing import open_writing_model
from yxanul.errors import UsageError
from yxanul.evaluate.answers.chat import ChatForm, chat_form
from yxanul.evaluate.answers.completion import Completion, complete
from yxanul.evaluate.answers.completions import complete_all
from yxanul.evaluate.answers.stops import refuse_empty_stops
from yxanul.evaluate.models.loaded import WritingModel
from yxanul.evaluate.models.ours import as_language_model
from yxanul.hardware.failures import naming_failed_hardware
from yxanul.model.decoding import Decoder
from yxanul.model.generation import GenerationOptions, decoding_copy

Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help='Text to write on from; "" begins a document, - reads standard input. With --chat and '
        "without it, questions are asked for.",
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        help='Many prompts, written together: a .jsonl of {"prompt": ...}, or a .txt of lines.',
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Take PROMPT as a question, in the form of the traces that the model was trained on.",
    ),
]
MaxNewTokens = Annotated[
    int, typer.Option("--max_new_tokens", help="Tokens to write at most, from 1.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="0 = the likeliest token every time.")
]
TopK = Annotated[
    int | None, typer.Option("--top_k", help="Sample among so many tokens; default: all.")
]
TopP = Annotated[
    float,
    typer.Option(
        "--top_p",
        help="Sample among the likeliest tokens that together have this probability; 1 = all.",
    ),
]
RepetitionPenalty = Annotated[
    float,
    typer.Option(
        "--repetition_penalty",
        help="Above 1: what stands in prompt or text already is less likely; 1 = off.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed writes the same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help="End before this text. May be given many times."),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print a JSON object per text on stdout, one per line, in the order of --prompts.",
    ),
]
_DEFAULTS = GenerationOptions()


@dataclass(frozen=True)
class _Writer:
    """A model that writes, and how."""

    model: WritingModel
    decoder: Decoder
    form: ChatForm | None
    options: GenerationOptions
    stop_texts: tuple[str, ...]
    json: bool

    def shaped(self, text: str) -> str:
        """Return the prompt that the model reads for what a user gave."""
        return text if self.form is None else self.form.prompt(text)

    def write(self, text: str) -> None:
        """Write on from one prompt, or answer one question, and show it as it comes."""
        view = TraceView(self.form) if self.form is not None and not self.json else None
        show: Callable[[str], None] | None = _show if view is None else view.push
        done = complete(
            self.decoder,
            self.model.tokenizer,
            prompt=self.shaped(text),
            options=self.options,
            stop_texts=self.stop_texts,
            show=None if self.json else show,
        )
        if view is not None:
            view.finish()
        elif not self.json:
            print()
        self.tell([done], tokens_per_s=done.tokens_per_s)
        if self.json:
            print_json(self.as_json(done, asked=text))

    def write_all(self, texts: list[str]) -> None:
        """Write on from many prompts together, and show each when it is done, in their order."""
        watcher = StderrWatcher()
        found = complete_all(
            as_language_model(self.decoder, self.model.tokenizer, name="the model"),
            [self.shaped(text) for text in texts],
            options=self.options,
            watcher=watcher,
            stop_texts=self.stop_texts,
        )
        completions = []
        try:
            for number, (text, done) in enumerate(zip(texts, found, strict=True), 1):
                completions.append(done)
                with watcher.aside():
                    self._show_one(number, done, asked=text)
        finally:
            watcher.close()
        self.tell(completions, tokens_per_s=None)

    def _show_one(self, number: int, done: Completion, *, asked: str) -> None:
        if self.json:
            print_json(self.as_json(done, asked=asked))
        else:
            print(f"[{number}] {asked}\n{self._opening()}{done.text}\n", flush=True)

    def _opening(self) -> str:
        return "" if self.form is None else self.form.opening.lstrip()

    def tell(self, completions: list[Completion], *, tokens_per_s: float | None) -> None:
        """Say on stderr by what was written, how much, and why it ended."""
        reasons = dict.fromkeys(one.stop_reason for one in completions)
        speed = "" if tokens_per_s is None else f"{tokens_per_s:,.0f} tokens/s, "
        texts = "" if tokens_per_s is not None else f"{len(completions):,} texts, "
        say(
            f"{self.model.label}, seed {self.options.seed}: {texts}"
            f"{sum(len(one.tokens) for one in completions)} tokens, {speed}ended: "
            f"{', '.join(reasons)}"
        )

    def as_json(self, done: Completion, *, asked: str) -> dict[str, Any]:
        """Return what was written, and by what, as an object of plain values."""
        found: dict[str, Any] = {
            "prompt": done.prompt,
            "text": done.text,
            "tokens": len(done.tokens),
            "token_ids": done.tokens,
            "stop_reason": done.stop_reason,
            "tokens_per_s": done.tokens_per_s,
        }
        if self.form is not None:
            trace, answer = self.form.parts(done.text)
            found |= {"question": asked, "trace": trace, "answer": answer}
        origin = {"model": str(self.model.place), "step": self.model.step}
        return {**found, "seed": self.options.seed, **origin}


@naming_failed_hardware()
def generate(
    model: options.TrainedModel,
    prompt: Prompt = None,
    prompts: Prompts = None,
    chat: Chat = False,
    max_new_tokens: MaxNewTokens = _DEFAULTS.max_new_tokens,
    temperature: Temperature = _DEFAULTS.temperature,
    top_k: TopK = _DEFAULTS.top_k,
    top_p: TopP = _DEFAULTS.top_p,
    repetition_penalty: RepetitionPenalty = _DEFAULTS.repetition_penalty,
    seed: Seed = _DEFAULTS.seed,
    stop: Stop = None,
    json: Json = False,
) -> None:
    """Let a trained model write on from a prompt, the same text for the same seed.

    Example: yxanul generate runs/first "The city of" --temperature 0.7 --seed 3

    Example: yxanul generate runs/first --chat "Count the legs of 4 cows." --temperature 0
    """
    chosen = GenerationOptions(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    many, single = _asked(prompt, prompts, chat=chat)
    refuse_half_characters(*(many or ()), *([single] if single else []), *(stop or ()))
    refuse_empty_stops(stop or ())
    if chat:
        _refuse_folder(model)
    found = open_writing_model(model)
    for note in found.notes:
        say(note)
    form = chat_form(found.run) if chat and found.run else None
    decoder = decoding_copy(found.model)
    writer = _Writer(found, decoder, form, chosen, stop_texts=tuple(stop or ()), json=json)
    if many is not None:
        writer.write_all(many)
    elif single is not None:
        writer.write(single)
    else:
        _answer_all(writer)


def _refuse_folder(model: str) -> None:
    """Refuse --chat with what belongs to no run, before weights are downloaded or read."""
    if is_folder(model):
        raise UsageError(
            f"--chat needs a run folder or a checkpoint: {model} does not say on what traces "
            "it was trained; write the prompt as your texts begin"
        )


def _answer_all(writer: _Writer) -> None:
    for question in ask_questions():
        try:
            writer.write(question)
        except UsageError as error:
            # A question that is too long is no reason to leave.
            say(str(error))


def _asked(
    prompt: str | None, prompts: Path | None, *, chat: bool
) -> tuple[list[str] | None, str | None]:
    """Return the prompts of a file, or the one prompt; neither: a person will be asked."""
    if prompts is not None:
        if prompt is not None:
            raise UsageError("PROMPT and --prompts are both given; give one of them")
        return read_prompts(prompts), None
    if prompt is None and not (chat and sys.stdin.isatty()):
        raise UsageError(
            'there is no prompt; give PROMPT ("" begins a document, - reads standard input) or '
            "--prompts FILE; only --chat on a terminal asks for questions"
        )
    return None, standard_input() if prompt == "-" else prompt


def _show(piece: str) -> None:
    print(piece, end="", flush=True)
