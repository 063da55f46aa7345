"""Do the gates G3 and G4 keep their word on real models? A table, with 1,000 trials a row.

    python -m benchmarks.calibration --model RUN --other RUN2 [--trials 1000]

RUN and RUN2 are finished runs of configs/embedded with two seeds. In a trial their held-out
documents, or items, are drawn again (items of one template together), and the gate's own checks
judge them:

- *identical*: the scores of two seeds, and for every document a coin tells which is before and
  which after, so that on average nothing changed;
- *at the limit*: the same, made worse by just what may not fail, where it fails the likeliest;
- *planted*: one domain, or all skills, scored by a model that was made worse (benchmarks/planting),
  the others identical. Where the gate's number of documents does not find it, a second row has the
  number that should.

`not pass` counts warnings too; `again` what is rolled back now or at a second such warning in a
row; `rollback` what is now, with its Wilson interval.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.calibrating_domains import calibrate_retention
from benchmarks.calibrating_skills import calibrate_skills
from benchmarks.planting import held_out_text, open_checkpoint
from benchmarks.trials import Table
from yxanul.config.load import parse_config
from yxanul.config.schema import GateConfig


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--step", type=int, default=430, help="of both checkpoints")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=16_000, help="held-out ones, per domain")
    parser.add_argument("--checks", default="G3,G4")
    asked = parser.parse_args()
    config = parse_config((asked.model / "config.yaml").read_text(encoding="utf-8"))
    text = held_out_text(asked.model, config, seq_len=256, most=asked.tokens)
    name = f"step-{asked.step:08d}-a0"
    models = [open_checkpoint(run / "checkpoints" / name) for run in (asked.model, asked.other)]
    table = Table(asked.trials)
    table.head()
    if "G3" in asked.checks:
        gates = (GateConfig(), config.stages[-1].gate)  # the default margins, and the run's
        calibrate_retention(table, text, models=models, gates=gates)
    if "G4" in asked.checks:
        calibrate_skills(table, text, models=models)


if __name__ == "__main__":
    main()
