"""Shows how far a node's work is and learns that it should stop: ComfyUI's bar, or one on the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...gdpo.progress import Progress
from ...gdpo.to_json import to_json
from . import host
from .live import LiveRun, read_past

logger = logging.getLogger(__name__)

_BEFORE = "checking"  # phase of a training before its first step, which has the bar for itself
_LOG_SECONDS = 15.0  # between two lines of progress where no bar can be drawn


class Stopped(Exception):
    """The person at the terminal asked to stop; finished work is kept."""


_state: dict[str, Any] = {"stop": False}


def request_stop() -> None:
    """Make the next `poll` of a terminal progress raise `Stopped`."""
    _state["stop"] = True


def stop_requested() -> bool:
    """Tell whether `request_stop` was called."""
    return _state["stop"]


def check_interrupt() -> None:
    """Raise if the user wants the work to stop: ComfyUI's own exception, or `Stopped` at a terminal."""
    if host.is_comfyui():
        import comfy.model_management  # pyright: ignore[reportMissingImports]  ComfyUI's own

        comfy.model_management.throw_exception_if_processing_interrupted()
    elif stop_requested():
        raise Stopped("stopped")


@contextlib.contextmanager
def bar(
    node_id: str | None, title: str, steps: int = 0, folder: Path | None = None
) -> Iterator[Progress]:
    """Yield what a node reports progress to, and learns from that it should stop, while it works.

    Args:
        node_id: The node's id, for ComfyUI.
        title: Text that a terminal shows before the bar.
        steps: Number of training steps where the work is a training; with 0 the bar follows the phases.
        folder: Folder of the training's run, which the page then shows while it grows.
    """
    if host.is_comfyui():
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
        import comfy.utils  # pyright: ignore[reportMissingImports]  ComfyUI's own

        self._node_id, self._steps = node_id, steps
        self._bar = comfy.utils.ProgressBar(max(steps, 1), node_id=node_id)
        self._live: LiveRun | None = None
        if folder is not None:
            about = {"node": node_id, "run": folder.name, "steps": steps}
            self._live = LiveRun(about, read_past(folder), _send, _page)

    def poll(self) -> None:
        """Raises ComfyUI's own exception if the user interrupted."""
        check_interrupt()
        if self._live is not None:
            self._live.poll()

    def phase(self, name: str, done: int, total: int) -> None:
        """Tells the phase, and moves the bar unless it counts training steps, which come after the first phase."""
        self.poll()
        if self._live is not None:
            self._live.phase(name, done, total)
        if not self._steps or name == _BEFORE:
            self._bar.update_absolute(done, max(total, 1))

    def notice(self, text: str) -> None:
        """Writes it onto the node."""
        host.tell(self._node_id, text)

    def record(self, record: dict) -> None:
        """Tells the page, then moves the bar: that raises if the user interrupted."""
        if self._live is not None:
            self._live.record(record)
        self._bar.update_absolute(int(record["step"]), max(self._steps, 1))


def _page() -> object:
    """Return the connection of the page that queued what is running; None where there is no such page."""
    from server import PromptServer  # pyright: ignore[reportMissingImports]  ComfyUI's own

    server: Any = getattr(PromptServer, "instance", None)
    return None if server is None else server.sockets.get(server.client_id)


def _send(event: str, content: Mapping[str, Any]) -> None:
    from server import PromptServer  # pyright: ignore[reportMissingImports]  ComfyUI's own

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
        check_interrupt()

    def phase(self, name: str, done: int, total: int) -> None:
        """Shows the phase beside the training's bar, or on a bar of its own."""
        self.poll()
        if not self._steps or name == _BEFORE:
            self._show(f"{self._title}: {name}", done, total)
            return
        if self._shown != self._title:
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
