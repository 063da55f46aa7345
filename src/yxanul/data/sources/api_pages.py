"""Documentation pages of Python's standard library: signature and docstring, without importing it.

One page per module, public function and public class (with its methods), read from the source with
`ast`; beside them the topics of the language reference that pydoc carries.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Iterator

from yxanul.data.document import Document
from yxanul.data.sources.code import library_files, read_source

NAME = "api_pages"
DOMAIN = "api_docs"
LICENCE = "PSF-2.0"
ATTRIBUTION = "Python Software Foundation"
TOPICS = "pydoc_data/topics.py"
# Python twins of modules written in C, under the name that users import.
PUBLIC_NAMES = {
    "_collections_abc": "collections.abc",
    "_pydatetime": "datetime",
    "_pydecimal": "decimal",
    "_pyio": "io",
}
# Programs and abandoned tools, not interfaces.
OUTSIDE = {"idlelib", "lib2to3", "turtledemo"}
MIN_DOCSTRING = 40
MAX_PAGE = 8_000

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def read_documents(*, dropped: Counter[str]) -> Iterator[Document]:
    """Yield the pages of all modules in order of their names, then the language reference."""
    seen: set[str] = set()
    for file_name, path in library_files():
        text = read_source(path)
        if file_name == TOPICS and text is not None:
            yield from topic_pages(text)
            continue
        module = module_name(file_name)
        if module is None:
            continue
        if text is None:
            dropped["not decodable"] += 1
            continue
        for heading, page in module_pages(module, text):
            if heading in seen:
                dropped["defined twice"] += 1
                continue
            seen.add(heading)
            yield Document(text=page, source=NAME, id=f"{NAME}/{heading}")


def module_name(file_name: str) -> str | None:
    """Return the dotted public name of a library file, or None for a private one."""
    parts = file_name.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    name = PUBLIC_NAMES.get(".".join(parts), ".".join(parts))
    parts = name.split(".")
    private = any(part.startswith("_") and part != "__future__" for part in parts)
    is_name = all(part.isidentifier() for part in parts)
    return None if private or not is_name or parts[0] in OUTSIDE else name


def module_pages(module: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (heading, page) for a module, its public functions and its public classes."""
    tree = ast.parse(text)
    docstring = _docstring(tree)
    if len(docstring) >= MIN_DOCSTRING:
        yield module, f"Module {module}\n\n{docstring}\n"
    for node in _definitions(tree.body):
        heading = f"{module}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _class_pages(heading, node)
        elif len(_docstring(node)) >= MIN_DOCSTRING:
            yield heading, f"{heading}\n\n{_entry(node)}\n"


def topic_pages(text: str) -> Iterator[Document]:
    """Yield the topics of the language reference from the text of pydoc's table of topics."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for topic, page in ast.literal_eval(node.value).items():
                lines = [line.rstrip() for line in page.strip("\n").split("\n")]
                yield Document(
                    text="\n".join(lines) + "\n",
                    source=NAME,
                    id=f"{NAME}/language reference/{topic}",
                )


def _class_pages(heading: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield one page, or several of at most about MAX_PAGE characters, for a class."""
    methods = [_entry(method) for method in _definitions(node.body) if _docstring(method)]
    if len(_docstring(node)) < MIN_DOCSTRING and not methods:
        return
    page, number = f"{heading}\n\n{_entry(node)}", 1
    for method in methods:
        if len(page) + len(method) > MAX_PAGE:
            yield heading if number == 1 else f"{heading} ({number})", page + "\n"
            number += 1
            page = f"{heading} (continued)"
        page += f"\n\n{method}"
    yield heading if number == 1 else f"{heading} ({number})", page + "\n"


def _definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the public definitions of a body, also those inside `if` and `try`, each name once."""
    seen: set[str] = set()
    waiting = list(body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.If | ast.Try):
            waiting[:0] = [*node.body, *node.orelse]
        elif isinstance(node, Definition) and not (node.name.startswith("_") or node.name in seen):
            seen.add(node.name)
            yield node


def _entry(node: Definition) -> str:
    """Return the signature and, indented below it, the docstring."""
    docstring = _docstring(node)
    indented = "\n".join(f"    {line}" if line else "" for line in docstring.split("\n"))
    return f"{_signature(node)}\n{indented}".rstrip()


def _signature(node: Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base) for base in [*node.bases, *node.keywords]]
        return f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"
    marks = [ast.unparse(mark) for mark in node.decorator_list]
    shown = [f"@{mark}\n" for mark in marks if mark in ("classmethod", "staticmethod", "property")]
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{''.join(shown)}{start} {node.name}({ast.unparse(node.args)}){result}"


def _docstring(node: ast.Module | Definition) -> str:
    raw = ast.get_docstring(node, clean=False) or ""
    lines = inspect.cleandoc(raw).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip()
