"""What the model writes over time: the same prompts continued at every border of the run."""

from yxanul.evaluate.answers.completion import complete
from yxanul.model.generation import GenerationOptions, decoding_copy
from yxanul.runfolder.rows import append_row, read_rows
from yxanul.train.running.session import Session
from yxanul.train.updates.state import Position

_SHOWN_CHARACTERS = 100


def write_samples(session: Session, position: Position) -> None:
    """Continue the prompts of `logging.prompts` and write what is new to RUN/samples.jsonl.

    The same weights and seed give the same text, so what an earlier process wrote is not written
    again. The main rank does it; model and random state stay as they are.
    """
    logging = session.config.optimization.logging
    if not session.engine.processes.is_main:
        return
    path = session.folder.samples
    here = (position.step, position.attempt)
    known = {r["prompt"] for r in read_rows(path) if (r["step"], r["attempt"]) == here}
    options = GenerationOptions(
        max_new_tokens=logging.prompt_tokens,
        temperature=logging.prompt_temperature,
        seed=session.config.optimization.seed,
    )
    missing = [prompt for prompt in logging.prompts if prompt not in known]
    if not missing:
        return
    model = decoding_copy(session.model)
    for prompt in missing:
        with session.watchdog.pieces("a sample", f"a sample at step {position.step}"):
            done = complete(model, session.tokenizer, prompt=prompt, options=options)
        row = {
            "step": position.step,
            "attempt": position.attempt,
            "stage": position.stage,
            "tokens_seen": position.tokens_seen,
            "prompt": prompt,
            "continuation": done.text,
            "temperature": options.temperature,
            "seed": options.seed,
            "max_new_tokens": options.max_new_tokens,
        }
        append_row(path, row)
        shown = " ".join(f"{prompt}{done.text}".split())[:_SHOWN_CHARACTERS]
        session.progress.say(f"sample: {shown}")
