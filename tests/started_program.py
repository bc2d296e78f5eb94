"""Starts `run.py`, the program that a new user starts."""

from __future__ import annotations

import subprocess
import sys

from loaded_pack import ROOT


def start(*arguments, **options):
    """The real program in its own process, in this Python."""
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def titles(stages):
    return [title for title, _, _ in stages]


def command_of(run, *arguments):
    return run.choose_command(*run.parse(list(arguments)))
