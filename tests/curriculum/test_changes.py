"""What gates change of a stage: more replay and lower rates, or more steps, and a way back."""

import json

import pytest

from yxanul.config.schema import RollbackConfig
from yxanul.curriculum.changes import (
    Segment,
    StageChanges,
    extended,
    extension_steps,
    parts_read,
    read_before,
    rolled_back,
)


def back(changes, stage, **more):
    return rolled_back(changes, stage, **{"can_replay": True, "steps": 100, "attempt": 1, **more})


def test_a_rollback_doubles_the_replay_and_lowers_every_rate(tiny_stage):
    once = back(StageChanges(), tiny_stage)
    twice = back(once, tiny_stage, attempt=2)
    assert (once.replay_share, twice.replay_share) == (0.2, 0.4)
    assert twice.rate_factor == pytest.approx(0.7 * 0.7)
    assert twice.rollbacks == 2
    assert twice.segments == (Segment(0, 100, 2),)
    trained = twice.applied(tiny_stage)
    assert trained.data.replay_share == 0.4
    assert trained.training.learning_rate == pytest.approx(0.049)
    assert trained.training.norm_learning_rate == pytest.approx(0.098)
    assert trained.training.embedding_learning_rate is None


def test_replay_has_a_floor_and_a_ceiling(tiny_stage):
    def stage(share):
        data = tiny_stage.data.model_copy(update={"replay_share": share})
        return tiny_stage.model_copy(update={"data": data})

    assert back(StageChanges(), stage(0.0)).replay_share == RollbackConfig().min_replay_share
    assert back(StageChanges(), stage(0.4)).replay_share == 0.5
    assert back(StageChanges(), stage(0.0), can_replay=False).replay_share == 0.0


def test_a_rollback_forgets_extensions(tiny_stage):
    longer = extended(StageChanges(segments=(Segment(0, 100, 0),)), first=100, end=110, attempt=1)
    assert back(longer, tiny_stage, attempt=2).segments == (Segment(0, 100, 2),)
    assert back(longer, tiny_stage, attempt=2).extensions == 0


def test_an_extension_keeps_the_order_of_what_was_read(tiny_stage):
    first = StageChanges(segments=(Segment(0, 100, 0),))
    at_end = extended(first, first=100, end=110, attempt=1)
    assert at_end.segments == (Segment(0, 100, 0), Segment(100, 110, 1))
    before_decay = extended(first, first=70, end=110, attempt=1)
    again = extended(before_decay, first=80, end=120, attempt=2)
    assert again.segments == (Segment(0, 100, 0), Segment(70, 110, 1), Segment(80, 120, 2))
    assert again.extensions == 2


def test_what_was_read_is_told_where_an_attempt_goes_back_into_a_segment_before():
    base, longer = Segment(0, 100, 0), Segment(100, 110, 1)
    assert parts_read((base,)) == [(0, 100)]
    assert parts_read((base, longer)) == [(0, 100), (100, 110)]
    # A divergence early in the extension goes back to before it.
    back = Segment(90, 110, 2, left_out=200)
    assert parts_read((base, longer, back)) == [(0, 90), (100, 100), (90, 110)]
    assert read_before((base, longer, back), 95) == (base, longer, back)
    assert read_before((base, longer, back), 90) == (base,)
    assert read_before((base, longer, back), 0) == ()


def test_an_extension_is_a_tenth_and_at_least_one_step(tiny_stage):
    assert extension_steps(tiny_stage.gate, 100) == 10
    assert extension_steps(tiny_stage.gate, 3) == 1


def test_changes_survive_a_row_of_json(tiny_stage):
    changes = extended(back(StageChanges(), tiny_stage), first=100, end=110, attempt=2)
    assert StageChanges.from_row(json.loads(json.dumps(changes.as_row()))) == changes
    assert StageChanges.from_row(None) == StageChanges()
    with pytest.raises((TypeError, KeyError)):
        StageChanges.from_row({"replay_share": 1})
