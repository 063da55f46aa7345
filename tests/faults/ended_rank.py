"""A program for torchrun's ranks: yxanul, where rank 1 cannot read the weights of a run that ended.

The main rank's copy to the mirror takes longer than others wait for an error of it.
"""

import os
import time
from datetime import timedelta

from yxanul.cli.main import main
from yxanul.errors import CorruptCheckpointError
from yxanul.parallel import processes
from yxanul.runfolder.mirror import Mirror
from yxanul.train.starting import ended

publish = Mirror.publish


def publish_slowly(self, checkpoint, name):
    """Copy as ever, to a storage that takes its time."""
    time.sleep(4)
    publish(self, checkpoint, name)


def refuse(path):
    """Find nothing whole, as where a disk is away for one machine of several."""
    raise CorruptCheckpointError(f"{path} cannot be read by this rank")


processes._PATIENCE = timedelta(seconds=1)
if os.environ["RANK"] == "1":
    ended.verify_checkpoint = refuse
Mirror.publish = publish_slowly
main()
