"""The source itself: no code evaluates, unpickles or fetches, and the page makes no HTML of texts."""

from __future__ import annotations

import ast
import re

from loaded_pack import ROOT

HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser"
    r"|createContextualFragment|setHTMLUnsafe|\bimport\(|https?://(?!www\.w3\.org/)"
)
COMMENTS = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.DOTALL | re.MULTILINE)  # types stand there


def test_page_shows_texts_as_texts_and_loads_nothing_from_elsewhere():
    files = [path for path in (ROOT / "web").rglob("*") if path.suffix in {".js", ".mjs", ".html"}]
    assert files
    for path in files:
        code = COMMENTS.sub("", path.read_text(encoding="utf-8"))
        assert not HTML.findall(code), path
    assert HTML.findall("box.innerHTML = text; /* import('x') */ await import('x'); eval('x')")


def test_help_pages_hold_no_html_that_runs():
    for path in (ROOT / "web").rglob("*.md"):
        assert not re.findall(r"<script|javascript:|\son\w+=|<iframe", path.read_text("utf-8")), (
            path
        )


SOURCES = sorted([*(ROOT / "nodes").rglob("*.py"), *(ROOT / "gdpo").rglob("*.py")])


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system"}
FORBIDDEN_CALLS |= {"torch.load", "pickle.load", "pickle.loads"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "requests", "aiohttp"}


def risks(code: str) -> list[str]:
    """Calls and imports in `code` that run, unpickle or fetch what a stranger may have written."""
    found = []
    for item in ast.walk(ast.parse(code)):
        if isinstance(item, ast.Call):
            options = {keyword.arg: keyword.value for keyword in item.keywords}
            trusting = [
                f"{name}={ast.unparse(value)}"
                for name, value in options.items()
                if name in {"shell", "trust_remote_code"} and ast.unparse(value) != "False"
            ]
            found += trusting + [ast.unparse(item.func)] * (
                ast.unparse(item.func) in FORBIDDEN_CALLS
            )
        modules = [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
        modules += [item.module or ""] if isinstance(item, ast.ImportFrom) else []
        found += sorted(FORBIDDEN_MODULES & set(modules))
    return found


def test_source_never_evaluates_unpickles_or_trusts_code():
    assert risks("import pickle; eval('1'); run(x, shell=True)") == ["pickle", "eval", "shell=True"]
    found = {str(path): risks(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: what for path, what in found.items() if what} == {}
