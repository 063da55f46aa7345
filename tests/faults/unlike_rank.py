"""A program for torchrun's ranks: yxanul, where every rank says that its device is another one."""

import os

from yxanul.cli.main import main
from yxanul.hardware.device import DeviceKind
from yxanul.train.processes import agreement

agreement.device_kind = lambda _device: DeviceKind("card", "cpu", os.environ["RANK"])
main()
