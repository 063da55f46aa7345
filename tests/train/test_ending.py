"""What RUN/exit.json keeps when a run is started again and ends early."""

import json
from contextlib import suppress

import pytest

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
    errors = {e.exit_code: e for e in (StoppedOnRequest, InfrastructureError)}
    with suppress(*errors.values()), owned(folder, ALONE, stop=stop, say=print):
        if not is_done:
            forget_ending(folder, ALONE)
        if code in errors:
            raise errors[code]("a test")
        stop._last_words(code, "a second signal")
        after = folder.exit_record.read_bytes()
    after = after if code == 130 else folder.exit_record.read_bytes()
    assert json.loads(after)["code"] == (0 if is_done else code)
    assert (after == before) is is_done
