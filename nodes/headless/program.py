"""Runs workflows and the demo without ComfyUI: the program that `run.py` starts inside its environment.

It loads the pack as ComfyUI does, by the path of its folder, so the very same node classes run. Ctrl-C asks
the running node to stop: a training saves a checkpoint first. A second Ctrl-C stops at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, ModuleType

PACK = Path(__file__).resolve().parents[2]
STOPPED = 130  # what shells report for a program that Ctrl-C ended

logger = logging.getLogger("gdpo.headless")


def load_pack(folder: Path = PACK) -> ModuleType:
    """The pack as a package named by its path, whatever its folder is called: what ComfyUI does."""
    name = str(folder).replace(".", "_x_")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    if spec is None or spec.loader is None:
        raise ImportError(
            f"{str(folder)!r} holds no package; start the program from the whole pack"
        )
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    try:
        spec.loader.exec_module(pack)
    except BaseException:
        del sys.modules[name]
        raise
    return pack


def submodule(pack: ModuleType, name: str) -> ModuleType:
    """A module of the loaded pack, e.g. `nodes.headless.workflow`."""
    return importlib.import_module(f"{pack.__name__}.{name}")


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code is 0, 1 for an error (one line says what), or 130 for Ctrl-C."""
    options = _parse(arguments)
    pack = load_pack()
    _quieten(submodule(pack, "gdpo.printable").printable)
    logging.getLogger(pack.__name__).setLevel(logging.INFO)
    host, errors = submodule(pack, "nodes.comfy.host"), submodule(pack, "gdpo.errors")
    commands = submodule(pack, "nodes.headless.commands")
    progress = submodule(pack, "nodes.comfy.progress")
    signal.signal(signal.SIGINT, lambda *given: _interrupt(progress, *given))
    try:
        output = Path(options.output)
        host.configure(_folders(host, output, options))
        if options.command == "demo":
            text = commands.run_demo(output)
        else:
            text = commands.run_file(Path(options.file), options.settings)
    except (progress.Stopped, KeyboardInterrupt):
        return _stopped()
    except errors.GDPOError as error:
        if progress.stop_requested():
            return _stopped()  # a helper process died of the same Ctrl-C
        sys.stderr.write(f"error: {error}\n")
        return 1
    # A model may answer anything, and a file may have any name.
    sys.stdout.write(submodule(pack, "gdpo.printable").printable(text, lines=True) + "\n")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Started by run.py; see its --help.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo, workflow = commands.add_parser("demo"), commands.add_parser("workflow")
    for command in (demo, workflow):
        command.add_argument("--output", default="output")
        command.add_argument("--input")
        command.add_argument("--models")
    workflow.add_argument("--set", action="append", default=[], dest="settings")
    workflow.add_argument("file")
    return parser.parse_args(arguments)


class _Printable(logging.Formatter):
    """Messages without anything that a terminal would obey."""

    def __init__(self, printable: Callable[..., str]) -> None:
        super().__init__("%(message)s")
        self._printable = printable

    def format(self, record: logging.LogRecord) -> str:
        """The message as it may be printed."""
        return self._printable(super().format(record), lines=True)


def _quieten(printable: Callable[..., str]) -> None:
    """Our own messages, and of the libraries only what went wrong; bars only on a terminal."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Printable(printable))
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # misses an optional kernel, aloud
    for category in (FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _folders(host: ModuleType, output: Path, options: argparse.Namespace) -> object:
    """Input and models are ComfyUI's own where the pack lies in its custom_nodes."""
    installed = PACK.parent.name == "custom_nodes"
    base = PACK.parent.parent if installed else Path.cwd()
    inputs = Path(options.input) if options.input else base / "input"
    models = Path(options.models) if options.models else base / "models" / "LLM"
    return host.Folders(output.absolute(), inputs.absolute(), (models.absolute(),))


def _interrupt(progress: ModuleType, number: int, frame: FrameType | None) -> None:
    """The first Ctrl-C asks, the second insists."""
    if progress.stop_requested():
        signal.default_int_handler(number, frame)
    progress.request_stop()
    sys.stderr.write("\nstopping: the work so far is being saved (Ctrl-C again to stop at once)\n")


def _stopped() -> int:
    sys.stderr.write(
        "stopped; a training goes on where it stopped when it is run again with its name\n"
    )
    return STOPPED


if __name__ == "__main__":
    # Python puts the script's folder first; the nodes' file names must not hide other modules.
    sys.path.pop(0)
    sys.exit(main(sys.argv[1:]))
