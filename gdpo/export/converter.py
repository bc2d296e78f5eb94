"""Where llama.cpp's own Hugging Face converter comes from; needs the standard library only.

In this order: the checkout that `GDPO_LLAMA_CPP` names, else the copy that set-up took out of the
source package of the very llama-cpp-python version in use (so converter and runtime are one commit).
Nothing is downloaded while a node runs: `fetch_converter` is called at set-up, by

    python -m gdpo.export.converter --fetch
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ..llamacpp.runtime import runtime_remedy, runtime_version

logger = logging.getLogger(__name__)

# The program that converts, in a process of its own.
CONVERT_WORKER = Path(__file__).with_name("convert_worker.py")
ENVIRONMENT_VARIABLE = "GDPO_LLAMA_CPP"
# The version whose converter is fetched where llama-cpp-python is not installed; as in constraints.txt.
DEFAULT_VERSION = "0.3.36"
_SCRIPT = "convert_hf_to_gguf.py"
_PACK = Path(__file__).resolve().parents[2]
# Only a clone of the repository has it; the library alone lies among other packages, which are not ours to add to.
_INSTALLER = _PACK / "install.py"


class ConverterError(RuntimeError):
    """The converter is absent or could not be fetched; the message holds the remedy."""


def find_converter() -> Path:
    """Return the folder that holds `convert_hf_to_gguf.py`.

    Raises:
        ConverterError: There is none, or `GDPO_LLAMA_CPP` names a folder without it.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        if not (Path(chosen) / _SCRIPT).is_file():
            raise ConverterError(
                f"{ENVIRONMENT_VARIABLE} is {chosen!r}, which has no {_SCRIPT}; "
                "set it to the folder of a llama.cpp checkout, or unset it."
            )
        return Path(chosen).absolute()
    version = runtime_version() or DEFAULT_VERSION
    for root in _roots():
        if (root / version / _SCRIPT).is_file():
            return root / version
    command = shlex.quote(str(_INSTALLER)) if _INSTALLER.is_file() else f"-m {__name__} --fetch"
    raise ConverterError(
        f"llama.cpp's converter (version {version}) is not here yet: run "
        f"`{shlex.quote(sys.executable)} {command}` once, or set "
        f"{ENVIRONMENT_VARIABLE} to the folder of a llama.cpp checkout."
    )


def fetch_converter(root: Path | None = None) -> Path:
    """Put the converter into `root/<version>` unless it is there; returns that folder.

    Args:
        root: Folder of the copies; by default `.llama_cpp` in a clone of the repository, or the user's cache folder
            where there is none or it cannot be written.

    Raises:
        ConverterError: pip could not get the source package, or it holds no converter.
    """
    version = runtime_version() or DEFAULT_VERSION
    root = root or next(filter(_is_writable, _roots()), None)
    if root is None:
        raise ConverterError(
            f"None of {[str(r) for r in _roots()]} can be written; free one of them."
        )
    target = root / version
    if (target / _SCRIPT).is_file():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as scratch:
        archive = _download(version, Path(scratch))
        _unpack(archive, Path(scratch) / "unpacked")
        sources = list((Path(scratch) / "unpacked").glob(f"*/vendor/llama.cpp/{_SCRIPT}"))
        if not sources:
            raise ConverterError(f"{archive.name} holds no {_SCRIPT}; {_own_checkout()}.")
        if target.exists():  # a folder without the script: nothing of use
            shutil.rmtree(target)
        sources[0].parent.rename(target)
    return target


def _roots() -> list[Path]:
    """Return folders that may hold copies, best first."""
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        cache = Path.home() / "Library/Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = [_PACK / ".llama_cpp"] if _INSTALLER.is_file() else []
    return [*own, cache / "gdpo" / "llama_cpp"]


def _is_writable(folder: Path) -> bool:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return os.access(existing, os.W_OK)


def _own_checkout() -> str:
    return (
        f"clone https://github.com/ggml-org/llama.cpp and set {ENVIRONMENT_VARIABLE} to that folder"
    )


def _download(version: str, folder: Path) -> Path:
    """Return the source package of llama-cpp-python, through pip: it prepares metadata but compiles nothing."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "llama-cpp-python", "--dest", str(folder)]
    command += [f"llama-cpp-python=={version}"]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    archives = list(folder.glob("llama_cpp_python-*.tar.gz"))
    if result.returncode != 0 or not archives:
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        reason = (lines or result.stderr.splitlines() or ["pip gave no reason"])[-1].strip()
        raise ConverterError(
            f"pip could not download the source of llama-cpp-python {version} ({reason}); "
            f"check the network and run this again, or {_own_checkout()}."
        )
    return archives[0]


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the converter, its gguf library and the licence: about 2 of 77 MB."""
    if not hasattr(tarfile, "data_filter"):
        raise ConverterError(
            f"Python {sys.version.split()[0]} cannot unpack archives safely; use 3.10.12 or newer."
        )
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile() and _is_wanted(member.name)]
        tar.extractall(folder, members, filter="data")


def _is_wanted(name: str) -> bool:
    path = name.partition("/vendor/llama.cpp/")[2]
    return path in {_SCRIPT, "LICENSE", "gguf-py/LICENSE"} or (
        path.endswith(".py") and path.startswith(("conversion/", "gguf-py/gguf/"))
    )


def main() -> int:
    """Command line: fetch the converter and say what is missing."""
    parser = argparse.ArgumentParser(description="Put llama.cpp's converter where exports find it.")
    parser.add_argument("--fetch", nargs="?", type=Path, const=None, default=None, metavar="DIR")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        logger.info("llama.cpp's converter: %s", fetch_converter(parser.parse_args().fetch))
    except (ConverterError, OSError) as error:
        logger.error("%s", error)
        return 1
    if runtime_version() is None:
        logger.warning(
            "llama-cpp-python is not installed: K-quants, verifying and chatting need it; %s.",
            runtime_remedy(),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
