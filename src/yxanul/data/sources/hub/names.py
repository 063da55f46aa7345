"""What things on the hub are called, models as well as data sets."""

import re

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
"""owner/name."""
