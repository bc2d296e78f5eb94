"""Tells where the nodes may read and write, and shows notices: in ComfyUI where it is running, else in a terminal.

ComfyUI's modules exist only inside its process, and each is used only if it is there.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...gdpo.printable import printable

try:
    import folder_paths  # pyright: ignore[reportMissingImports]  ComfyUI's own
except ImportError:
    folder_paths = None

logger = logging.getLogger(__name__)

DOWNLOAD_SWITCH = "GDPO_ALLOW_DOWNLOAD"


@dataclass(frozen=True)
class Folders:
    """Where nodes may read and write."""

    output: Path
    inputs: Path
    models: tuple[Path, ...]


_state: dict[str, Any] = {"folders": None}


def is_comfyui() -> bool:
    """Tell whether this process is ComfyUI's."""
    return folder_paths is not None


def configure(chosen: Folders) -> None:
    """Set the folders where there is no ComfyUI."""
    _state["folders"] = chosen


def folders() -> Folders:
    """Return the host's folders; below the working directory where nobody configured any."""
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
    """Tell whether the machine's owner allowed downloads, outside of any workflow."""
    return os.environ.get(DOWNLOAD_SWITCH) == "1"


def tell(node_id: str | None, text: str) -> None:
    """Write a notice into the log and, in ComfyUI, onto the node."""
    logger.info("%s", text)
    if not is_comfyui() or node_id is None:
        return
    from server import PromptServer  # pyright: ignore[reportMissingImports]  ComfyUI's own

    server: Any = getattr(PromptServer, "instance", None)
    if hasattr(server, "send_progress_text"):  # ComfyUI since 2025
        server.send_progress_text(printable(text, lines=True), printable(str(node_id)))


def shown_image(path: Path) -> dict[str, str]:
    """Return what a node's `ui.images` needs to show a file below the output folder."""
    inside = path.resolve().relative_to(folders().output.resolve())
    return {"filename": inside.name, "subfolder": inside.parent.as_posix(), "type": "output"}
