"""Shows how far a node's work is and learns that it should stop: ComfyUI's bar, or one on the terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...gdpo.progress import Progress
from ...gdpo.to_json import to_json
from . import host
from .live import LiveRun, read_past

logger = logging.getLogger(__name__)

# Phases of a training before its first step; the one that is counted has the bar for itself.
READING, ESTIMATING = "reading the model", "estimating memory"
ASKING = "asking the nodes that follow"
_COUNTED = "checking"
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


@dataclass(frozen=True)
class Training:
    """A training that pages show while it goes on.

    Attributes:
        run: Name of the run that is asked for; which one it is may be known later, see `follow`.
        steps: Number of its steps.
        workflow: The id that the page gave the graph, None where there is none.
    """

    run: str
    steps: int
    workflow: str | None = None


@contextlib.contextmanager
def bar(
    node_id: str | None, title: str, training: Training | None = None
) -> Iterator[ComfyProgress | TerminalProgress]:
    """Yield what a node reports progress to, and learns from that it should stop, while it works.

    Args:
        node_id: The node's id, for ComfyUI.
        title: Text that a terminal shows before the bar.
        training: The work where it is a training, whose bar counts steps; None: the bar follows the phases.
    """
    if host.is_comfyui():
        with ComfyProgress(node_id, training) as shown:
            yield shown
        return
    terminal = TerminalProgress(title, training.steps if training else 0)
    try:
        yield terminal
    finally:
        terminal.close()


class ComfyProgress(Progress):
    """ComfyUI's bar on the node, its interrupt, and the chart of a training in its page."""

    def __init__(self, node_id: str | None, training: Training | None = None) -> None:
        import comfy.utils  # pyright: ignore[reportMissingImports]  ComfyUI's own

        self._node_id, self._steps = node_id, training.steps if training else 0
        self._bar = comfy.utils.ProgressBar(max(self._steps, 1), node_id=node_id)
        self._live: LiveRun | None = None
        if training is not None:
            self._live = LiveRun({"node": node_id, **asdict(training)}, (), _send, _pages)

    def __enter__(self) -> ComfyProgress:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Tell the pages how the training ended."""
        if self._live is not None:
            self._live.end("" if error is None else "stopped" if _is_interrupt(error) else "failed")

    def follow(self, folder: Path) -> None:
        """Go on with the run of this folder, which is the one that is trained."""
        if self._live is not None:
            self._live.follow(folder.name, read_past(folder))

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
        if not self._steps or name == _COUNTED:
            self._bar.update_absolute(done, max(total, 1))

    def notice(self, text: str) -> None:
        """Writes it onto the node."""
        host.tell(self._node_id, text)

    def record(self, record: dict) -> None:
        """Tells the page, then moves the bar: that raises if the user interrupted."""
        if self._live is not None:
            self._live.record(record)
        self._bar.update_absolute(int(record["step"]), max(self._steps, 1))


def _is_interrupt(error: BaseException) -> bool:
    import comfy.model_management as manager  # pyright: ignore[reportMissingImports]  ComfyUI's own

    return isinstance(error, manager.InterruptProcessingException)


def _pages() -> dict[str, object]:
    """Return the connections of all pages, by name; they change in another thread."""
    from server import PromptServer  # pyright: ignore[reportMissingImports]  ComfyUI's own

    server: Any = getattr(PromptServer, "instance", None)
    return {} if server is None else dict(server.sockets)


def _send(event: str, content: Mapping[str, Any], page: str) -> None:
    from server import PromptServer  # pyright: ignore[reportMissingImports]  ComfyUI's own

    PromptServer.instance.send_sync(event, to_json(content), page)


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

    def follow(self, folder: Path) -> None:
        """Call the bar by the name of the run that is trained."""
        self._title = f"training {folder.name}"

    def phase(self, name: str, done: int, total: int) -> None:
        """Shows the phase beside the training's bar, or on a bar of its own; none for one that has no units."""
        self.poll()
        if not total:
            return
        if not self._steps or name == _COUNTED:
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
