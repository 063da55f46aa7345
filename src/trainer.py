"""The older door: what follows `python src/trainer.py` is what follows `yxanul train`.

torchrun and the deepspeed launcher start this file too; it works from a checkout without
installing the package.
"""

import sys

from yxanul.cli.entry import start

if __name__ == "__main__":
    start(["train", *sys.argv[1:]])
