"""The older door: what follows `python src/trainer.py` is what follows `yxanul train`.

torchrun and the deepspeed launcher start this file too; it works from a checkout without
installing the package.
"""

import sys

from yxanul.cli.main import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
