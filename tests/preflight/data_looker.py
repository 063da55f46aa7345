"""A program that makes the checks of what a configuration reads, as often as a line comes.

The hub's libraries look for its address when they are imported, so this takes a process of its own.
"""

import json
import sys
from pathlib import Path

from tests.data.hub_reader import QUICK
from yxanul.config.load import load_config
from yxanul.data.sources.hub.patience import Patience
from yxanul.preflight import sources
from yxanul.preflight.finding import made_in_turn
from yxanul.preflight.sources import (
    benchmark_checks,
    data_checks,
    needed_benchmarks,
)
from yxanul.runfolder.layout import RunFolder
from yxanul.train.starting.corpus import prepared_root

if __name__ == "__main__":
    sources._PATIENCE = Patience(**QUICK)
    config, folder = load_config(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
    for _ in sys.stdin:
        data = data_checks(config, folder, root=prepared_root(config, folder))
        needed = needed_benchmarks(config, is_prepared=False)
        checks = [*data, *benchmark_checks(needed, kept=())]
        found = made_in_turn(checks, limit_s=300.0)
        print(json.dumps([{**one.as_json(), "code": one.code} for one in found]), flush=True)
