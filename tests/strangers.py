"""What the tests of a stranger's model share: an honest model, attacks on it, and eyes in every process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import make_model

# Leaves a file beside itself, whoever runs it and as whatever it is imported.
EVIL = (
    "from pathlib import Path\n"
    "Path(__file__).with_name('ran').touch()\n"
    "Path({mark!r}).touch()\n"
    "class Tok: pass\n"
    "generate = Tok\n"
)
# Runs a worker as the pack does, and writes down what the process does meanwhile.
WATCHER = """
import json, runpy, sys
log = open({log!r}, "a", encoding="utf-8")
def hook(event, arguments):
    note = notes.get(event)
    if note is not None:
        log.write(json.dumps([event, str(note(arguments))]) + "\\n")
        log.flush()
notes = {notes}
sys.addaudithook(hook)
sys.argv = [{start!r}, *sys.argv[1:]]
runpy.run_path({start!r}, run_name="__main__")
"""
# What is written down of each event: names and files, not objects and numbers, which differ between runs.
NOTES = """{
    "import": lambda a: a[0],
    "compile": lambda a: a[1],
    "exec": lambda a: a[0].co_filename,
    "subprocess.Popen": lambda a: a[0],
    "os.system": lambda a: a[0],
    "os.exec": lambda a: a[0],
    "os.posix_spawn": lambda a: a[0],
    "socket.connect": lambda a: a[1],
    "socket.getaddrinfo": lambda a: a[:2],
}"""

_notes: dict[str, Callable] = eval(NOTES)  # noqa: S307  the very text that the workers get
_seen: list[tuple[str, str]] | None = None


def _hook(event: str, arguments: tuple) -> None:
    note = _notes.get(event)
    if note is not None and _seen is not None:
        _seen.append((event, str(note(arguments))))


sys.addaudithook(_hook)


@contextmanager
def watched(monkeypatch, worker, log: Path) -> Iterator[set[tuple[str, str]]]:
    """Collects the telling events of this process and of the workers that it starts."""
    global _seen
    log.touch()
    script = log.with_suffix(".py")
    text = WATCHER.format(log=str(log), notes=NOTES, start=str(worker.START))
    script.write_text(text, encoding="utf-8")
    found: set[tuple[str, str]] = set()
    with monkeypatch.context() as patch:
        patch.setattr(worker, "START", script)
        _seen = []
        try:
            yield found
        finally:
            seen, _seen = _seen, None
    lines = log.read_text(encoding="utf-8").splitlines()
    found |= {(f"worker {event}", text) for event, text in map(json.loads, lines)}
    found |= {(event, text) for event, text in seen if "pytest" not in text}


def plant(folder: Path, mark: Path, name: str = "evil.py") -> None:
    """Put code into the model's folder."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(EVIL.format(mark=str(mark)), encoding="utf-8")


def change(file: Path, **entries: object) -> None:
    """Set top-level entries of a JSON file, which need not exist."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**content, **entries}), encoding="utf-8")


def honest_model(folder: Path) -> Path:
    """An honest tiny Llama whose rows fit, at a place that a relative path can name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return make_model(folder)
