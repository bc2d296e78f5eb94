"""The host: ComfyUI where it is running, else the terminal. Only `memory` touches ComfyUI besides.

ComfyUI's modules exist only inside its process, and each is used only if it is there. A tensor or a NaN
that reaches its publishing loop ends the server, so everything sent goes through `to_json`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...gdpo.policies.base import Base
from ...gdpo.progress import Progress
from ...gdpo.to_json import to_json
from .live import LiveRun, read_past

try:
    import folder_paths
except ImportError:
    folder_paths = None

logger = logging.getLogger(__name__)

DOWNLOAD_SWITCH = "GDPO_ALLOW_DOWNLOAD"
_LOG_SECONDS = 15.0  # between two lines of progress where no bar can be drawn


@dataclass(frozen=True)
class Folders:
    """Where nodes may read and write."""

    output: Path
    inputs: Path
    models: tuple[Path, ...]


class Stopped(Exception):
    """The person at the terminal asked to stop; what was finished is kept."""


_state: dict[str, Any] = {"folders": None, "stop": False}


def configure(chosen: Folders) -> None:
    """Set the folders where there is no ComfyUI."""
    _state["folders"] = chosen


def request_stop() -> None:
    """Make the next `poll` of a terminal progress raise `Stopped`."""
    _state["stop"] = True


def stop_requested() -> bool:
    """Whether `request_stop` was called."""
    return _state["stop"]


def folders() -> Folders:
    """The host's folders; below the working directory where nobody configured any."""
    if folder_paths is None:
        here = Path.cwd()
        return _state["folders"] or Folders(
            here / "output", here / "input", (here / "models" / "LLM",)
        )
    named = folder_paths.folder_names_and_paths
    configured = folder_paths.get_folder_paths("LLM") if "LLM" in named else []
    models = dict.fromkeys([*configured, os.path.join(folder_paths.models_dir, "LLM")])
    return Folders(
        Path(folder_paths.get_output_directory()),
        Path(folder_paths.get_input_directory()),
        tuple(Path(path) for path in models),
    )


def allows_download() -> bool:
    """Whether the machine's owner allowed downloads, outside of any workflow."""
    return os.environ.get(DOWNLOAD_SWITCH) == "1"


def choose_device(device: str) -> str:
    """`auto` becomes the card that ComfyUI works on, where it is one that training can use."""
    if device != "auto" or folder_paths is None:
        return device
    import comfy.model_management

    chosen = comfy.model_management.get_torch_device()
    return str(chosen) if chosen.type in {"cpu", "cuda"} else "auto"


def make_room(*bases: Base) -> None:
    """Ask ComfyUI to put all models away but `bases`, and to have these on their devices."""
    if folder_paths is not None:
        from . import memory

        memory.make_room(*bases)


def tell(node_id: str | None, text: str) -> None:
    """Write a notice into the log and, in ComfyUI, onto the node."""
    logger.info("%s", text)
    if folder_paths is None or node_id is None:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if hasattr(server, "send_progress_text"):  # ComfyUI since 2025
        server.send_progress_text(text, node_id)


@contextlib.contextmanager
def releasing() -> Iterator[None]:
    """After the block give back what its work held: Python's cycles first, then the card's cached blocks.

    Not after an interrupt, which should be quick, and whose traceback still holds everything: ComfyUI itself
    does the same some seconds later.
    """
    yield
    gc.collect()
    if folder_paths is not None:
        import comfy.model_management

        comfy.model_management.soft_empty_cache()


def shown_image(path: Path) -> dict[str, str]:
    """What a node's `ui.images` needs to show a file below the output folder."""
    inside = path.resolve().relative_to(folders().output.resolve())
    return {"filename": inside.name, "subfolder": inside.parent.as_posix(), "type": "output"}


@contextlib.contextmanager
def progress(
    node_id: str | None, title: str, steps: int = 0, folder: Path | None = None
) -> Iterator[Progress]:
    """How a node reports progress and learns that it should stop, while it works.

    Args:
        node_id: the node's id, for ComfyUI.
        title: what a terminal shows before the bar.
        steps: number of training steps where the work is a training; 0: the bar follows the phases.
        folder: of the training's run, which the page then shows while it grows.
    """
    if folder_paths is not None:
        yield ComfyProgress(node_id, steps, folder)
        return
    terminal = TerminalProgress(title, steps)
    try:
        yield terminal
    finally:
        terminal.close()


class ComfyProgress(Progress):
    """ComfyUI's bar on the node, its interrupt, and the chart of a training in its page."""

    def __init__(self, node_id: str | None, steps: int, folder: Path | None = None) -> None:
        import comfy.utils

        self._steps = steps
        self._bar = comfy.utils.ProgressBar(max(steps, 1), node_id=node_id)
        self._live: LiveRun | None = None
        if folder is not None:
            about = {"node": node_id, "run": folder.name, "steps": steps}
            self._live = LiveRun(about, read_past(folder), _send, _page)

    def poll(self) -> None:
        """Raises ComfyUI's own exception if the user interrupted."""
        import comfy.model_management

        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._live is not None:
            self._live.poll()

    def phase(self, name: str, done: int, total: int) -> None:
        """Tells the phase, and moves the bar unless it counts training steps."""
        self.poll()
        if self._live is not None:
            self._live.phase(name, done, total)
        if not self._steps:
            self._bar.update_absolute(done, max(total, 1))

    def record(self, record: dict) -> None:
        """Tells the page, then moves the bar: that raises if the user interrupted."""
        if self._live is not None:
            self._live.record(record)
        self._bar.update_absolute(int(record["step"]), max(self._steps, 1))


def _page() -> object:
    """The connection of the page that queued what is running; None where there is no such page."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    return None if server is None else server.sockets.get(server.client_id)


def _send(event: str, content: Mapping[str, Any]) -> None:
    from server import PromptServer

    server = PromptServer.instance
    server.send_sync(event, to_json(content), server.client_id)


class TerminalProgress(Progress):
    """A bar on the terminal; where there is none, a line in the log now and then."""

    def __init__(self, title: str, steps: int) -> None:
        self._title, self._steps = title, steps
        self._bar: Any = None
        self._shown = ""  # text of the bar that is, or was last, on the screen
        self._logged = time.monotonic()

    def poll(self) -> None:
        """Raises `Stopped` once a stop was requested."""
        if stop_requested():
            raise Stopped("stopped")

    def phase(self, name: str, done: int, total: int) -> None:
        """Shows the phase beside the training's bar, or on a bar of its own."""
        self.poll()
        if not self._steps:
            self._show(f"{self._title}: {name}", done, total)
            return
        if not self._shown:
            self._show(self._title, 0, self._steps)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{name} {done}/{total}")

    def record(self, record: dict) -> None:
        """Moves the training's bar."""
        self._show(self._title, int(record["step"]), self._steps)

    def _show(self, text: str, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            self._shown = text
            if time.monotonic() - self._logged >= _LOG_SECONDS:
                self._logged = time.monotonic()
                logger.info("%s %d/%d", text, done, total)
            return
        if text != self._shown:
            self.close()
            self._shown = text
            self._bar = self._open(text, total)
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)

    @staticmethod
    def _open(text: str, total: int) -> Any:
        from tqdm import tqdm

        return tqdm(total=total, desc=text, dynamic_ncols=True, unit_scale=total > 10_000)

    def close(self) -> None:
        """Leaves the bar as it is on the screen."""
        bar, self._bar = self._bar, None
        if bar is not None:
            with contextlib.suppress(OSError):  # a terminal that went away
                bar.close()
