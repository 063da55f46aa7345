"""What RUN/exit.json keeps when a run is started again and ends early."""

import json
from contextlib import suppress

import pytest
import torch

from tests.train.world import STAGES, World
from yxanul.errors import InfrastructureError, StoppedOnRequest
from yxanul.parallel.processes import ALONE
from yxanul.runfolder.layout import RunFolder
from yxanul.signals import StopRequest
from yxanul.train.safety.ending import forget_ending, owned


@pytest.mark.parametrize("code", [10, 11, 130])
@pytest.mark.parametrize("is_done", [True, False], ids=["done", "begun again"])
def test_a_start_of_a_run_that_is_done_leaves_what_it_had_reached_where_it_ends_early(
    tmp_path, code, is_done
):
    """Its steps and its speed stand in that record alone."""
    folder, stop = RunFolder(tmp_path / "run"), StopRequest()
    folder.create()
    with owned(folder, ALONE, stop=stop, say=print) as record:
        record["outcome"] = {"steps": 16}
    before = folder.exit_record.read_bytes()
    ours = {"stop": stop, "say": print, "is_done": folder.exit_record.exists}
    errors = {e.exit_code: e for e in (StoppedOnRequest, InfrastructureError)}
    with suppress(*errors.values()), owned(folder, ALONE, **ours):
        if not is_done:
            forget_ending(folder, ALONE)
        if code in errors:
            raise errors[code]("a test")
        stop._last_words(code, "a second signal")
        after = folder.exit_record.read_bytes()
    after = after if code == 130 else folder.exit_record.read_bytes()
    assert json.loads(after)["code"] == (0 if is_done else code)
    assert (after == before) is is_done


def test_a_stage_that_ends_early_is_not_told_as_done_for_the_stage_before_it(tmp_path, monkeypatch):
    """Under torchrun, which turns every code into 1, scripts read the record alone."""
    world = World.create(tmp_path)
    world.finish("train", "run", "--stage", STAGES[0])
    environment = tmp_path / "run" / "environment.json"
    told = json.loads(environment.read_text())
    environment.write_text(json.dumps({**told, "device_type": "cuda"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    world.finish("train", "run", "--stage", STAGES[1], code=InfrastructureError.exit_code)
    assert world.exit_record("run")["code"] == InfrastructureError.exit_code
