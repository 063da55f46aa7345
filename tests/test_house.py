"""The house holds: floors, sizes, docstrings, torch-free rooms, and what is never done.

Everything is read with `ast`, so deferred imports and TYPE_CHECKING imports count. A rule is a
function from a file to its findings; the lower half of this file proves that each rule can fail.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"

# A room imports only from floors below its own; rooms on one floor never import one another.
# cards stands at the bottom since plan and hardware, on one floor, read its one table of peaks.
# report stands above watch, whose forecast it holds against the end; train writes the report.
# preflight stands above bench, whose measurement of a step it judges by the plan.
FLOORS = {
    0: "errors units failpoints cards cores terminal signals",
    1: "config runfolder",
    2: "model data parallel curriculum plan hardware",
    3: "optim evaluate export watch",
    4: "report",
    5: "train",
    6: "lab serve bench supervise",
    7: "preflight",
    8: "cli",
    9: "trainer __main__",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}

# The largest rooms have floors of their own, lowest first; "." are the files of the room itself:
# at the bottom of data since every part shares them, at the top of train and report since they are
# what the others come to. Parts on one floor never import one another.
INNER_FLOORS = {
    "data": """
        .
        sources prepared
        duplicates quality contamination packing
        treating
        benchmarks batches parts inspection
        places
        preparing
        cluster""",
    "train": """
        safety outward
        updates processes
        probing scoring
        starting
        running
        gates attempts foretelling
        .""",
    "report": """
        reading
        charts sections
        .""",
}
INNER_FLOOR_OF = {
    room: {part: i for i, floor in enumerate(floors.split("\n")) for part in floor.split()}
    for room, floors in INNER_FLOORS.items()
}

# These load without torch: the planner and the report work where it is not installed.
TORCH_FREE = ["errors", "units", "config", "runfolder", "data", "curriculum", "plan", "report"]
TORCH_FREE += ["watch", "cards", "optim.schedule"]

FILE_LINES, FUNCTION_LINES, ARGUMENTS, POSITIONAL, NESTING = 400, 60, 6, 2, 4

# "rule path::name" -> the reason why this one place may differ.
EXCEPTIONS: dict[str, str] = {
    "room_init yxanul/__init__.py": "the package itself: it holds __version__",
    "arguments yxanul/model/attention.py::plain_attention": "q, k, v: the order of every paper",
    "arguments yxanul/model/attention.py::Attention.__call__": "q, k, v, likewise",
    "arguments yxanul/model/attention.py::attention_path.pinned": "q, k, v, likewise",
    "arguments yxanul/model/attention.py::cached_attention": "q, k, v, likewise",
    "arguments yxanul/model/attention.py::_sdpa": "q, k, v, likewise",
    "arguments yxanul/model/attention.py::_by_length": "q, k, v, likewise",
    "arguments yxanul/model/flash.py::flash_attention": "q, k, v, likewise",
    "arguments yxanul/model/flash.py::_within_documents": "q, k, v, likewise",
    "arguments yxanul/serve/app.py::_Bounded.__call__": "ASGI calls it so",
    "arguments yxanul/data/cluster/steps.py::TreatStep.run": "datatrove calls it so",
    "forbidden yxanul/evaluate/sandbox/jail/runner.py::exec": "runs the program under test, in a "
    "process that may do nothing else; no frame of a library in between can be made to lie",
}

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "torch.load", "torch.save"}
FORBIDDEN_FLAGS = {"shell", "allow_pickle"}
BROAD = {"Exception", "BaseException"}
Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


@dataclass(frozen=True)
class SourceFile:
    """One Python file: its path below src/, its text, its tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """`train` for yxanul/train/loop.py, `errors` for yxanul/errors.py, `` for the package."""
        parts = Path(self.path).with_suffix("").parts
        inside = parts[1:] if parts[0] == "yxanul" else parts
        return "" if inside[0] == "__init__" else inside[0]


@dataclass(frozen=True)
class Finding:
    """A place that breaks a rule."""

    name: str
    why: str


def dotted(node: ast.AST) -> str:
    """`os.path.join` for the expression of that name, `` for anything else."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def functions(tree: ast.AST, owner: ast.ClassDef | None = None, name: str = "") -> Iterator[tuple]:
    """Every function with its dotted name and, for a method, its class."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from functions(node, node, f"{name}{node.name}.")
        elif isinstance(node, Function):
            yield f"{name}{node.name}", node, owner
            yield from functions(node, None, f"{name}{node.name}.")
        else:
            yield from functions(node, owner, name)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported name with its level: (0, "yxanul.data.batches.order"), (1, "loop")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = f"{node.module}." if node.module else ""
            yield from ((node.level, f"{stem}{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).endswith(
            ("import_module", "__import__")
        ):
            yield from ((0, arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


# The rules


def floors(file: SourceFile) -> Iterator[Finding]:
    own = FLOOR_OF.get(file.room, -1)
    if file.room and own == -1:
        yield Finding(file.room, "a room that FLOORS does not know")
    for level, name in imports(file.tree):
        if level:
            yield Finding(name, "a relative import")
        if not name.startswith("yxanul.") or name == "yxanul.__version__":
            continue
        room = name.split(".")[1]
        if room not in FLOOR_OF:
            yield Finding(name, "imports a room that FLOORS does not know")
        elif room != file.room and FLOOR_OF.get(room, -1) >= own:
            yield Finding(name, f"{file.room} (floor {own}) imports a room not below it")


def inner_floors(file: SourceFile) -> Iterator[Finding]:
    floor_of = INNER_FLOOR_OF.get(file.room)
    if floor_of is None:
        return
    inside = Path(file.path).parts[2:]
    own = inside[0] if len(inside) > 1 else "."
    if own not in floor_of:
        yield Finding(own, "a part that INNER_FLOORS does not know")
        return
    for _, name in imports(file.tree):
        if name.startswith(f"yxanul.{file.room}."):
            first = name.split(".")[2]
            other = first if first in floor_of else "."
            if other != own and floor_of[other] >= floor_of[own]:
                yield Finding(name, f"{file.room}/{own} imports a part not below it")


def file_size(file: SourceFile) -> Iterator[Finding]:
    lines = len(file.text.splitlines())
    if lines > FILE_LINES:
        yield Finding("", f"{lines} lines, more than {FILE_LINES}: two ideas in one file?")


def function_size(file: SourceFile) -> Iterator[Finding]:
    for name, node, _ in functions(file.tree):
        lines = node.end_lineno - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield Finding(name, f"{lines} lines, more than {FUNCTION_LINES}")


def arguments(file: SourceFile) -> Iterator[Finding]:
    """Counts what a caller writes: not self, cls, or the ctx that torch hands over."""
    if file.room == "cli":
        return  # a verb's flags are the parameters of its function: that is how typer reads them
    for name, node, owner in functions(file.tree):
        positional = [*node.args.posonlyargs, *node.args.args]
        if positional and positional[0].arg in {"self", "cls", "ctx"}:
            positional = positional[1:]
        rest = [arg for arg in (node.args.vararg, node.args.kwarg) if arg]
        count = len(positional) + len(node.args.kwonlyargs) + len(rest)
        if count > ARGUMENTS:
            yield Finding(name, f"{count} arguments, more than {ARGUMENTS}: a dataclass?")
        if len(positional) > POSITIONAL and not called_by_position(node.name, owner):
            yield Finding(name, f"{len(positional)} positional arguments: * after the second")


def called_by_position(name: str, owner: ast.ClassDef | None) -> bool:
    """Python calls magic methods by position, and torch the methods of autograd functions."""
    magic = name.startswith("__") and name not in {"__init__", "__call__"}
    bases = [dotted(base) for base in owner.bases] if owner else []
    return magic or any(base.endswith("autograd.Function") for base in bases)


def nesting(file: SourceFile) -> Iterator[Finding]:
    for name, node, _ in functions(file.tree):
        deepest = max(depth(child) for child in node.body)
        if deepest > NESTING:
            yield Finding(name, f"{deepest} blocks deep, more than {NESTING}")


def depth(node: ast.AST) -> int:
    """How deep blocks stand in one another; `elif` is no deeper than its `if`."""
    if isinstance(node, Function | ast.ClassDef):
        return 0
    below = max((depth(child) for child in ast.iter_child_nodes(node)), default=0)
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        body = max(depth(child) for child in node.body)
        return max(body + 1, depth(node.orelse[0]))
    return below + isinstance(node, BLOCKS)


def room_init(file: SourceFile) -> Iterator[Finding]:
    if file.path.endswith("__init__.py"):
        body = file.tree.body
        if len(body) != 1 or ast.get_docstring(file.tree) is None:
            yield Finding("", "holds something other than one docstring")


def docstrings(file: SourceFile) -> Iterator[Finding]:
    def visit(node: ast.AST, name: str) -> Iterator[Finding]:
        if ast.get_docstring(node) is None:
            yield Finding(name, "public, without a docstring")
        if isinstance(node, Function):
            return
        for child in node.body:
            if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
                yield from visit(child, f"{name}.{child.name}".lstrip("."))

    yield from visit(file.tree, "")


def forbidden(file: SourceFile) -> Iterator[Finding]:
    for _, name in imports(file.tree):
        if name.split(".")[0] in PICKLES:
            yield Finding(name, "pickle, in one of its forms")
        if name in FORBIDDEN_CALLS:
            yield Finding(name, "imports what is never called here")
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Call):
            continue
        if dotted(node.func) in FORBIDDEN_CALLS:
            yield Finding(dotted(node.func), f"called in line {node.lineno}")
        for keyword in node.keywords:
            off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in FORBIDDEN_FLAGS and not off:
                yield Finding(str(keyword.arg), f"switched on in line {node.lineno}")


def swallowed(file: SourceFile) -> Iterator[Finding]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call) and dotted(node.func).endswith("suppress"):
            if BROAD & {dotted(arg) for arg in node.args}:
                yield Finding("suppress", f"suppresses everything in line {node.lineno}")
        elif isinstance(node, ast.ExceptHandler):
            silent = len(node.body) == 1 and (
                isinstance(node.body[0], ast.Pass | ast.Continue | ast.Break)
                or (isinstance(node.body[0], ast.Expr | ast.Return) and is_constant(node.body[0]))
            )
            if node.type is None:
                yield Finding("except", f"a bare except in line {node.lineno}")
            elif isinstance(node.body[0], ast.Pass) or (silent and is_broad(node.type)):
                yield Finding("except", f"swallowed in line {node.lineno}")


def is_constant(node: ast.Expr | ast.Return) -> bool:
    return node.value is None or isinstance(node.value, ast.Constant)


def is_broad(caught: ast.expr) -> bool:
    types = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return bool(BROAD & {dotted(kind) for kind in types})


def unfinished(file: SourceFile) -> Iterator[Finding]:
    for mark in re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", file.text):
        yield Finding(mark, "an unfinished mark")


RULES: list[Callable[[SourceFile], Iterator[Finding]]] = [
    floors,
    inner_floors,
    file_size,
    function_size,
    arguments,
    nesting,
    room_init,
    docstrings,
    forbidden,
    swallowed,
    unfinished,
]


@cache
def source_files() -> list[SourceFile]:
    return [
        SourceFile(path.relative_to(SRC).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(SRC.rglob("*.py"))
    ]


@cache
def findings(rule: Callable[[SourceFile], Iterator[Finding]]) -> dict[str, str]:
    """What a rule finds in src/, by the key that EXCEPTIONS uses."""
    found = {}
    for file in source_files():
        for finding in rule(file):
            place = f"{file.path}::{finding.name}" if finding.name else file.path
            found[f"{rule.__name__} {place}"] = finding.why
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_the_rule(rule):
    broken = {key: why for key, why in findings(rule).items() if key not in EXCEPTIONS}
    assert not broken, "\n".join(f"{key}: {why}" for key, why in broken.items())


def test_every_exception_is_still_needed():
    found = {key for rule in RULES for key in findings(rule)}
    assert set(EXCEPTIONS) <= found


def loaded_by(modules: list[str], package: str) -> list[str]:
    """Import modules in a new interpreter; return which of them had brought package in."""
    program = (
        "import importlib, json, sys\n"
        "brought = []\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    brought += [name] if sys.argv[2] in sys.modules else []\n"
        "print(json.dumps(brought))\n"
    )
    command = [sys.executable, "-c", program, json.dumps(modules), package]
    done = subprocess.run(command, cwd=SRC, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_rooms_of_plain_data_load_without_torch():
    names = [file.path.removesuffix(".py").replace("/", ".") for file in source_files()]
    names = [name.removesuffix(".__init__") for name in names]
    rooms = [f"yxanul.{room}" for room in TORCH_FREE]
    free = [name for name in names if any(f"{name}.".startswith(f"{room}.") for room in rooms)]
    assert loaded_by(free, "torch") == []


# Each rule can fail, and lets the proper form pass.

BAD = [
    (floors, "yxanul/model/x.py", "import yxanul.optim.adamw"),
    (floors, "yxanul/model/x.py", "from yxanul import train"),
    (floors, "yxanul/model/x.py", "from yxanul.data.prepared.shards import TokenStream"),
    (floors, "yxanul/config/x.py", "def f():\n    from yxanul.cli import app"),
    (floors, "yxanul/config/x.py", "if TYPE_CHECKING:\n    from yxanul.model import layers"),
    (floors, "yxanul/config/x.py", "importlib.import_module('yxanul.model')"),
    (floors, "yxanul/config/x.py", "from . import load"),
    (floors, "yxanul/errors.py", "import yxanul.units"),
    (floors, "yxanul/cellar/x.py", ""),
    (floors, "yxanul/train/x.py", "import yxanul.cellar"),
    (inner_floors, "yxanul/data/sources/x.py", "from yxanul.data.prepared import manifest"),
    (inner_floors, "yxanul/data/duplicates/x.py", "import yxanul.data.quality.rules"),
    (inner_floors, "yxanul/data/x.py", "from yxanul.data.sources.packages import find"),
    (inner_floors, "yxanul/train/gates/x.py", "from yxanul.train import loop"),
    (inner_floors, "yxanul/data/cellar/x.py", ""),
    (file_size, "yxanul/x.py", "\n" * 401),
    (function_size, "yxanul/x.py", "def f():\n" + "    x = 1\n" * 60),
    (function_size, "yxanul/x.py", "class C:\n  async def f(self):\n" + "    x = 1\n" * 60),
    (arguments, "yxanul/x.py", "def f(a, b, *, c, d, e, f, g): ..."),
    (arguments, "yxanul/x.py", "def f(a, b, *rest, c, d, e, **more): ..."),
    (arguments, "yxanul/x.py", "class C:\n def f(self, a, b, c): ..."),
    (arguments, "yxanul/x.py", "def f():\n def g(a, b, c): ..."),
    (arguments, "yxanul/x.py", "class C:\n def __init__(self, a, b, c): ..."),
    (nesting, "yxanul/x.py", "def f():\n if a:\n  for b in c:\n   with d:\n    try:\n     "
     "while e: g()\n    finally: h()"),
    (room_init, "yxanul/data/__init__.py", "'''Data.'''\nfrom yxanul.data import shards"),
    (room_init, "yxanul/data/__init__.py", ""),
    (docstrings, "yxanul/x.py", "def f(): ..."),
    (docstrings, "yxanul/x.py", "'''X.'''\nclass C:\n '''C.'''\n def f(self): ..."),
    (forbidden, "yxanul/x.py", "import pickle"),
    (forbidden, "yxanul/x.py", "from dill import loads"),
    (forbidden, "yxanul/x.py", "torch.load(path, weights_only=True)"),
    (forbidden, "yxanul/x.py", "from torch import load"),
    (forbidden, "yxanul/x.py", "eval('1')"),
    (forbidden, "yxanul/x.py", "exec('1')"),
    (forbidden, "yxanul/x.py", "os.system('ls')"),
    (forbidden, "yxanul/x.py", "subprocess.run(command, shell=True)"),
    (forbidden, "yxanul/x.py", "np.load(path, allow_pickle=flag)"),
    (swallowed, "yxanul/x.py", "try: f()\nexcept: raise"),
    (swallowed, "yxanul/x.py", "try: f()\nexcept OSError: pass"),
    (swallowed, "yxanul/x.py", "for a in b:\n try: f()\n except Exception: continue"),
    (swallowed, "yxanul/x.py", "def g():\n try: f()\n except (OSError, Exception): return None"),
    (swallowed, "yxanul/x.py", "with contextlib.suppress(Exception): f()"),
    (unfinished, "yxanul/x.py", "# TO" + "DO: later"),
]  # fmt: skip

GOOD = [
    (floors, "yxanul/train/x.py", "from yxanul.model import layers\nfrom yxanul.train import step"),
    (floors, "yxanul/train/x.py", "from yxanul import __version__, config\nimport torch"),
    (floors, "trainer.py", "from yxanul.cli.app import main"),
    (inner_floors, "yxanul/data/quality/x.py", "import yxanul.data.prepared.manifest"),
    (inner_floors, "yxanul/data/duplicates/x.py", "import yxanul.data.duplicates.signatures"),
    (inner_floors, "yxanul/train/x.py", "from yxanul.train.gates import borders"),
    (inner_floors, "yxanul/serve/x.py", "from yxanul.serve.anything import x"),
    (arguments, "yxanul/x.py", "class C:\n def f(self, a, b, *, c, d, e, f): ..."),
    (arguments, "yxanul/x.py", "class C:\n def __exit__(self, kind, error, trace): ..."),
    (arguments, "yxanul/x.py",
     "class C(torch.autograd.Function):\n def forward(ctx, a, b, c): ..."),
    (arguments, "yxanul/cli/x.py", "def f(a, b, c, d, e, f, g): ..."),
    (nesting, "yxanul/x.py",
     "def f():\n if a: b()\n elif c: d()\n elif e: f()\n elif g: h()\n elif i: j()\n else: k()"),
    (docstrings, "yxanul/x.py", "'''X.'''\ndef _f(): ...\nclass C:\n '''C.'''\n def __len__(s): 1"),
    (forbidden, "yxanul/x.py", "model.eval()\nnp.load(path, allow_pickle=False)"),
    (swallowed, "yxanul/x.py", "try: f()\nexcept OSError as error: raise DiskError(p) from error"),
    (swallowed, "yxanul/x.py", "def g():\n try: f()\n except KeyError: return None"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_the_rule_can_fail(rule, path, text):
    assert list(rule(SourceFile(path, text)))


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_the_rule_lets_the_proper_form_pass(rule, path, text):
    assert not list(rule(SourceFile(path, text)))


def test_a_module_that_brings_a_package_in_is_named():
    assert loaded_by(["errno", "json"], "json.decoder") != []
