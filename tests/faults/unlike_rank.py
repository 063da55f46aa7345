"""A program for torchrun's ranks: yxanul, where every rank says that its device is another one."""

import os

from yxanul.cli.main import main
from yxanul.train import agreement

agreement.device_name = lambda _device: f"card {os.environ['RANK']}"
main()
