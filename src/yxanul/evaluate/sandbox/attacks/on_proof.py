"""Programs that would be counted as passed without having reached their last statement.

Each ends in a false assertion or leaves before it; none may import ctypes.
"""

from yxanul.evaluate.sandbox.attacks.attack import Attack

_SEND = """
import os
def send(candidates):
    for candidate in candidates:
        os.write(4, candidate)
        os._exit(0)
    raise AssertionError('nothing to send')
"""
_PROGRAMS = {
    "leave by os._exit": "import os; os._exit(0)",
    "leave by sys.exit": "import sys; sys.exit(0)",
    "raise SystemExit": "raise SystemExit",
    "leave by a hook": """
import os, sys
sys.excepthook = lambda *details: os._exit(0)
assert False
""",
    "leave while the interpreter ends": """
import atexit, os
atexit.register(os._exit, 0)
assert False
""",
    "leave by a signal handler": """
import os, signal
signal.signal(signal.SIGUSR1, lambda *details: os._exit(0))
os.kill(os.getpid(), signal.SIGUSR1)
""",
    "send a guess": _SEND + "send([bytes(32)])",
    "send what the secret's pipe holds": _SEND + "send([os.read(3, 32)])",
    "send the byte of the jail again": _SEND + "send([b'R' + bytes(32)])",
    "search the frames": _SEND
    + """
import sys
frame, found = sys._getframe(), []
while frame:
    for values in (frame.f_locals, frame.f_globals):
        found += [x for x in values.values() if isinstance(x, bytes) and len(x) == 32]
    frame = frame.f_back
send(found)
""",
    "search the memory that gc knows": _SEND
    + """
import gc
gc.unfreeze()
found = [
    x for holder in gc.get_objects() for x in gc.get_referents(holder)
    if type(x) is bytes and len(x) == 32 and b'\\0' not in x and max(x) > 127
]
send(found)
""",
    "search the frames of a trace": _SEND
    + """
import gc, sys
try:
    1 / 0
except ZeroDivisionError as error:
    frame = error.__traceback__.tb_frame
found = []
while frame:
    found += [x for x in gc.get_referents(frame) if type(x) is bytes and len(x) == 32]
    frame = frame.f_back
send(found)
""",
    "listen to every call": _SEND
    + """
import sys
found = []
def listen(frame, event, details):
    found.extend(x for x in (details, *frame.f_locals.values()) if type(x) is bytes)
    return listen
sys.setprofile(listen)
sys.settrace(listen)
frame = sys._getframe()
while frame:
    frame.f_trace = listen
    frame = frame.f_back
sys.excepthook = lambda *details: send(x for x in found if len(x) == 32)
assert False
""",
    "replace the functions that send": """
import builtins, os
os.write = os._exit = builtins.exec = builtins.open = lambda *details: 0
assert False
""",
    "replace the runner's code": """
import sys
frame = sys._getframe(1)
for value in list(frame.f_globals.values()):
    if hasattr(value, '__code__'):
        value.__code__ = (lambda *details: None).__code__
frame.f_globals['run'] = lambda: None
assert False
""",
    "have the runner run an empty program": """
import os, sys
open('program.py', 'w').close()
os.read = lambda *details: bytes(32)
sys._getframe(1).f_globals['run']()
""",
    "jump over the assertion of the runner's frame": """
import sys
def jump(frame, event, details):
    if event in ('return', 'exception'):
        frame.f_lineno += 1
    return jump
sys._getframe(1).f_trace = jump
sys.settrace(jump)
assert False
""",
    "import ctypes": "import ctypes",
    "import _ctypes under another name": """
import importlib.machinery, importlib.util, sysconfig
suffix = sysconfig.get_config_var('EXT_SUFFIX')
path = sysconfig.get_path('platstdlib') + '/lib-dynload/_ctypes' + suffix
loader = importlib.machinery.ExtensionFileLoader('other._ctypes', path)
spec = importlib.util.spec_from_loader('other._ctypes', loader)
importlib.util.module_from_spec(spec)
""",
    "import ctypes by a name that lies": """
class Name(str):
    def rpartition(self, other):
        return '', '', ''
    def startswith(self, *others):
        return False
    def __str__(self):
        return 'math'
__import__(Name('_ctypes'))
""",
    "replace what refuses ctypes": """
import builtins, sys
runner = sys._getframe(1).f_globals
for name, value in list(runner.items()):
    if callable(value):
        runner[name] = lambda *details: None
builtins.str = builtins.ImportError = lambda *details: 'math'
import ctypes
""",
    "replace the code that refuses ctypes": """
import sys
hook = sys._getframe(1).f_globals['refuse_memory']
hook.__code__ = (lambda event, details: None).__code__
import ctypes
""",
    "import ctypes in another interpreter": """
try:
    import _interpreters as interpreters
except ModuleNotFoundError:
    import _xxsubinterpreters as interpreters
try:
    new = interpreters.create('legacy')
except (TypeError, ValueError):
    new = interpreters.create()
interpreters.run_string(new, 'import ctypes; open("reached", "w").close()')
open('reached')
""",
}

ATTACKS = [Attack(name, program, ends_as=()) for name, program in _PROGRAMS.items()]
