"""The rules of the house as pure functions: text in, findings out. A finding is one line that says where and what."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# --- who may know whom -----------------------------------------------------------------------------------------------

# A room is a module or a folder directly below streamflow/. Imports point to a lower level.
LEVELS: dict[str, int] = {
    "records": 0, "batches": 0, "positions": 0, "attributes": 0, "leases": 0, "dead_letters": 0, "errors": 0,
    "clock": 0, "deadlines": 0, "targets": 0, "payloads": 0, "failures": 0, "failpoints": 0,
    "events": 1, "protocols": 1,
    "rules": 2, "sdk": 2, "declaration": 2, "delivery_options": 2, "http_options": 2, "pipeline": 2,
    "aws": 3, "sources": 3, "stores": 3, "sinks": 3, "handlers": 3, "middleware": 3, "destinations": 3, "observe": 3,
    "engine": 4,
    "plugins": 5,
    "config": 6,
    "admin": 7,
    "launch": 8, "opening": 8,
    "testing": 9,
    "cli": 10,
}  # fmt: skip

# Level 4 is handed level 3 through protocols: it may import what is below, but not this.
NOT_BELOW: dict[str, frozenset[str]] = {
    "engine": frozenset(room for room, level in LEVELS.items() if level == 3),
}

# The contracts are modules, not folders, and speak of each other (a batch holds records); they must not form a cycle.
CONTRACT_LEVELS = frozenset({0, 1})

# What the package itself knows, at no price: everything else on it is a name from some room.
_OF_THE_PACKAGE = frozenset({"streamflow.__version__", "streamflow.__file__", "streamflow.__path__"})

SIDEWAYS_ALLOWED = frozenset(
    {
        ("sources", "aws"),
        ("destinations", "aws"),
        ("stores", "aws"),
        ("pipeline", "rules"),
        ("pipeline", "sdk"),
        ("pipeline", "declaration"),
        ("pipeline", "delivery_options"),
        ("pipeline", "http_options"),
        ("delivery_options", "rules"),
        ("delivery_options", "sdk"),
        ("delivery_options", "declaration"),
        ("http_options", "declaration"),
        ("declaration", "sdk"),
        ("sdk", "rules"),
        ("launch", "opening"),
    }
)


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement of `importer`; both are dotted names."""

    importer: str
    imported: str
    line: int


def module_name(path: str) -> str:
    """The dotted name of a source file, from its path relative to the repository."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(path: str, source: str, modules: frozenset[str]) -> Iterator[Import]:
    """Every import of our own modules, those under TYPE_CHECKING and inside functions included.

    `modules` holds the dotted names of the tree: `from streamflow import events` is an import of `streamflow.events`.
    So is `streamflow.events` after `import streamflow`, and a literal given to `import_module`.
    """
    importer = module_name(path)
    package = importer if path.endswith("/__init__.py") else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        for name in _imported(node, package, modules):
            if name.split(".")[0] == "streamflow":
                yield Import(importer, name, getattr(node, "lineno", 0))


def _imported(node: ast.AST, package: str, modules: frozenset[str]) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names if alias.name != "streamflow" or alias.asname]
        case ast.ImportFrom():
            home = _home(node, package)
            whole = home == "streamflow"
            names = [f"{home}.{alias.name}" for alias in node.names]
            return [name if name in modules or whole else home for name in names if name not in _OF_THE_PACKAGE]
        case ast.Attribute(value=ast.Name(id="streamflow")):
            name = f"streamflow.{node.attr}"
            return [] if name in _OF_THE_PACKAGE else [name]
        case ast.Call() if _called(node) == "import_module":
            return [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return []


def _home(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def room(module: str) -> str:
    """`streamflow.sources.dynamodb` is in `sources`; the package itself is in no room."""
    return [*module.split("."), ""][1]


def wrong_imports(edges: Iterator[Import] | list[Import]) -> list[str]:
    """Imports that point up, or sideways between rooms of one level."""
    return [f"{edge.importer}:{edge.line} imports {edge.imported}: {why}" for edge in edges if (why := _wrong(edge))]


def _wrong(edge: Import) -> str | None:
    above, below = room(edge.importer), room(edge.imported)
    if not above or above == below:
        return None  # the package's face loads its names lazily, from everywhere
    if below not in LEVELS:
        return "import a public name from the module it lives in" if below else "the package's face is for users"
    if above not in LEVELS:
        return "this room has no level: give it one in LEVELS and in ARCHITECTURE.md"
    if LEVELS[below] > LEVELS[above]:
        return f"level {LEVELS[above]} must not know level {LEVELS[below]}"
    if below in NOT_BELOW.get(above, ()):
        return f"{above} receives this through a protocol"
    sideways = LEVELS[below] == LEVELS[above] and LEVELS[above] not in CONTRACT_LEVELS
    if sideways and (above, below) not in SIDEWAYS_ALLOWED:
        return f"rooms of level {LEVELS[above]} do not know each other"
    return None


def cycles(edges: list[Import]) -> list[str]:
    """Modules that import each other, whichever way round; each cycle once, as a path."""
    known: dict[str, set[str]] = {}
    for edge in edges:
        if room(edge.importer) and edge.importer != edge.imported:
            known.setdefault(edge.importer, set()).add(edge.imported)
    found: dict[frozenset[str], str] = {}
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            cycle = path[path.index(module) :]
            found.setdefault(frozenset(cycle), " -> ".join([*cycle, module]))
        elif module not in done:
            for below in sorted(known.get(module, ())):
                walk(below, [*path, module])
            done.add(module)

    for module in sorted(known):
        walk(module, [])
    return sorted(found.values())


# --- names and docstrings --------------------------------------------------------------------------------------------

MODULE_NAMES_BANNED = frozenset({"util", "utils", "helper", "helpers", "common", "base", "misc"})
CLASS_ENDINGS_BANNED = ("Manager", "Processor", "Helper", "Service", "Impl", "Info", "Data")
CLASS_NAMES_ALLOWED = {"StreamInfo": "the design's own name for what describe() answers"}


def wrong_names(path: str, source: str) -> list[str]:
    """Drawers instead of nouns, in the names of modules, folders and classes."""
    parts = path.removesuffix(".py").split("/")
    findings = [f"{path}: {part} is a drawer, not a noun" for part in parts if part.strip("_") in MODULE_NAMES_BANNED]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name not in CLASS_NAMES_ALLOWED:
            findings += [
                f"{path}:{node.lineno}: class {node.name} says {ending}, not what it is"
                for ending in CLASS_ENDINGS_BANNED
                if node.name.endswith(ending)
            ]
    return findings


def without_docstring(path: str, source: str) -> list[str]:
    """A module starts with one sentence."""
    return [] if (ast.get_docstring(ast.parse(source)) or "").strip() else [f"{path}: the module has no docstring"]


# --- text ------------------------------------------------------------------------------------------------------------

_UNFINISHED = re.compile(r"#.*\b([T]ODO|[F]IXME|[X]XX)\b")
_REGISTRY = re.compile(
    r"\b(pypi\.org|pypi\.python\.org|pythonhosted\.org|registry\.npmjs\.org|proxy\.golang\.org)\b"
    r"|\b[\w.-]*(?:[a]rtifactory|jfrog\.|nexus\.)[\w.-]*"
    r"|--(?:extra-)?index-url[= ]|--find-links[= ]",
    re.IGNORECASE,
)
_MACHINE_PATH = re.compile(r"(?<![\w.$}<>*-])/(?:root|work|tmp|home|Users)(?=/[\w.-])")
_URL = re.compile(r"\b[a-z+]+://\S+", re.IGNORECASE)


def unfinished(path: str, text: str) -> list[str]:
    """Comments that promise work."""
    return [f"{path}:{number}: {line.strip()}" for number, line in _lines(text) if _UNFINISHED.search(line)]


def ties_to_a_machine(path: str, text: str) -> list[str]:
    """Package registries and paths that exist on one machine only; lock files must not name any host at all."""
    findings = []
    for number, line in _lines(text):
        lock_url = _URL.search(line) if path.startswith("requirements/") else None
        if found := _REGISTRY.search(line) or lock_url:
            findings.append(f"{path}:{number}: {found[0].strip()}: a registry is the reader's own choice")
        if found := _MACHINE_PATH.search(line):
            findings.append(f"{path}:{number}: {found[0]}/…: a path of one machine")
    return findings


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return enumerate(text.splitlines(), start=1)


# --- documents -------------------------------------------------------------------------------------------------------

_LISTED = re.compile(r"^- (?P<paths>`[\w/]+(?:\.py|/)`(?:, `[\w/]+(?:\.py|/)`)*): \S.*\.$")
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def listed_modules(architecture: str) -> list[str]:
    """The module list: lines of the form "- `rules/frontier.py`, `rules/lanes.py`: one sentence.".

    Paths are relative to streamflow/.
    """
    lines = [found["paths"] for line in architecture.splitlines() if (found := _LISTED.match(line))]
    return [path.strip("`") for paths in lines for path in paths.split(", ")]


def differences(listed: list[str], tree: frozenset[str]) -> list[str]:
    """What the list and the tree do not share, and what is listed twice. A folder (`rules/`) stands for all in it."""
    folders = tuple(path for path in listed if path.endswith("/"))
    covered = {path for path in tree if folders and path.startswith(folders)}
    empty = {folder for folder in folders if not any(path.startswith(folder) for path in tree)}
    return [
        *(f"{path} exists and is not listed" for path in sorted(tree - covered - set(listed))),
        *(f"{path} is listed and does not exist" for path in sorted((set(listed) - set(folders) - tree) | empty)),
        *(f"{path} is listed twice" for path in sorted(covered & set(listed))),
        *(f"{path} is listed twice" for path in sorted({path for path in listed if listed.count(path) > 1})),
    ]


def dead_links(path: str, text: str, files: frozenset[str]) -> list[str]:
    """Relative links of a document that lead nowhere. `files` holds every file of the repository and every folder."""
    folder = path.rpartition("/")[0]
    findings = []
    for found in _LINK.finditer(_CODE.sub("", text)):
        target = found["target"].partition("#")[0]
        if target and "://" not in target and _resolve(folder, target) not in files:
            findings.append(f"{path}: the link to {target} leads nowhere")
    return findings


def _resolve(folder: str, target: str) -> str:
    parts = folder.split("/") if folder else []
    for part in target.rstrip("/").split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts = [*parts, part]
    return "/".join(parts)


def wrong_decisions(texts: Mapping[str, str]) -> list[str]:
    """Decision pages: named NNN-title.md, numbered 001, 002, … without a gap, each with its three sections."""
    findings = []
    for expected, (name, text) in enumerate(sorted(texts.items()), start=1):
        if not re.fullmatch(rf"{expected:03d}-[a-z0-9-]+\.md", name):
            findings.append(f"{name}: expected {expected:03d}-title.md")
        if not text.startswith(f"# {expected:03d}. "):
            findings.append(f"{name}: its first line is not `# {expected:03d}. Title`")
        findings += [
            f"{name}: has no {s}" for s in ("Context", "Decision", "Consequences") if f"\n## {s}\n" not in text
        ]
    return findings
