"""Programs that must pass: a sandbox that refuses everything contains every attack."""

PROGRAMS = {
    "compute": "assert sum(range(1000)) == 499500",
    "nothing at all": "",
    "the standard library": """
import abc, ast, asyncio, base64, bisect, calendar, cmath, collections, concurrent.futures, copy
import csv, dataclasses, datetime, decimal, difflib, enum, fractions, functools, hashlib, heapq
import inspect, io, itertools, json, logging, math, numbers, operator, os, pathlib, queue, random
import re, secrets, statistics, string, struct, subprocess, sys, tempfile, textwrap, threading
import time, typing, unicodedata, unittest, urllib.parse, uuid, warnings, zlib
assert hashlib.md5(b'x').hexdigest() == '9dd4e461268c8034f5c8564e155c67a6'
assert random.random() < 1 and len(secrets.token_hex()) == 64 and time.time() > 0
assert datetime.datetime.now().year > 2000
@dataclasses.dataclass
class Point:
    x: int
class Pair(typing.NamedTuple):
    x: int
assert Point(1) == Point(1) and Pair(1) == (1,)
assert collections.namedtuple('Named', 'x')(1).x == 1
""",
    "a file of its own": """
import os, tempfile
with open('own', 'w') as file:
    file.write('é')
os.rename('own', 'other')
assert open('other').read() == 'é' and 'other' in os.listdir('.')
os.unlink('other')
with tempfile.TemporaryFile() as file:
    file.write(b'x')
""",
    "much output": "for number in range(20000): print('a line of output', number)",
    "100 MB of memory": "x = bytearray(100 << 20)",
    "its own signals and timers": """
import os, signal, time
heard = []
signal.signal(signal.SIGUSR1, lambda *details: heard.append(1))
signal.signal(signal.SIGALRM, lambda *details: heard.append(2))
os.kill(os.getpid(), signal.SIGUSR1)
signal.setitimer(signal.ITIMER_REAL, 0.001)
time.sleep(0.01)
assert heard == [1, 2]
""",
    "an error that is caught": """
import sys
def deep(n): return n and 1 + deep(n - 1)
assert deep(800) == 800
try:
    sys.exit(1)
except SystemExit:
    pass
""",
    "text in UTF-8": "assert len('日本') == 2 and open.__name__ == 'open'",
    "not being the main module": "if __name__ == '__main__': assert False",
}
