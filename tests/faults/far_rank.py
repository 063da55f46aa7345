"""A program for torchrun's ranks: yxanul, whose rank 1 sees no file of gates that others write.

So it is on another machine, where a network's disk has said once that the file is not there.
"""

import os

from yxanul.cli.main import main
from yxanul.runfolder.layout import RunFolder

if os.environ["RANK"] == "1":
    RunFolder.gates = property(lambda self: self.root / "not-seen-yet.jsonl")
main()
