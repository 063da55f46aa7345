"""Marks of tests that ask for what not every system has: they are skipped on others."""

import sys
from pathlib import Path

import pytest

PROC = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
FULL_DISK = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
ANY_NAME = pytest.mark.skipif(sys.platform == "darwin", reason="APFS has names in UTF-8 only")
