"""A program for a server's process: yxanul, whose model takes ten milliseconds more for a token.

So no text is at its end while a test looks, however busy the machine is. The first word is how many
seconds texts are given where the server ends. A body is waited for for two.
"""

import sys
import time

from yxanul.cli.main import main
from yxanul.model.decoding import Decoder
from yxanul.serve import app, server

app._BODY_S = 2.0
server._GRACE_S = float(sys.argv.pop(1))
read = Decoder.hidden_states


def read_slowly(*args, **options):
    """Read as ever, later."""
    time.sleep(0.01)
    return read(*args, **options)


Decoder.hidden_states = read_slowly
main()
