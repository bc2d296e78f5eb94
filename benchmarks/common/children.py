"""Runs measurements in processes of their own: a fresh heap and no traces of what ran before.

A module that measures ends with `answer(measurement, ...)`; `run_child` starts it as

    python -m MODULE MEASUREMENT --name=value ...

and reads the one line of JSON that it prints. The command line is made from the measurement's own signature, so
each can be started by hand too. Text and paths are written as they are, every other value as JSON.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

ROOT = Path(__file__).resolve().parents[2]
CHILD_SECONDS = 900
# Nothing is looked up on a network while it is measured, and tokenizers start no threads of their own.
_ALWAYS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


class ChildError(RuntimeError):
    """A measurement failed; the message is the last line of what it said."""


def run_child(
    module: str,
    measurement: str,
    *,
    environment: Mapping[str, str] | None = None,
    time_limit: float = CHILD_SECONDS,
    **arguments: object,
) -> Any:
    """Run a measurement in a process of its own and return what it returns.

    Args:
        module: Full name of a module that ends with `answer`.
        measurement: Name of one of the functions that it answers with.
        environment: Variables for the process besides those of this one.
        time_limit: Seconds after which the process is ended.
        arguments: Arguments of the function.

    Raises:
        ChildError: The process failed, was killed, or took too long.
    """
    command = [sys.executable, "-m", module, measurement]
    command += [f"{_flag(name)}={_text(value)}" for name, value in arguments.items()]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**_ALWAYS, **os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=time_limit,
        )
    except subprocess.TimeoutExpired as error:
        raise ChildError(f"took longer than {time_limit} s") from error
    if done.returncode < 0:
        reason = "9 is the system's when memory ran out"
        raise ChildError(f"ended by signal {-done.returncode}; {reason}")
    if done.returncode:
        raise ChildError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def answer(*measurements: Callable[..., Any]) -> None:
    """Run the measurement that the command line names, and print its result as one line of JSON."""
    options = vars(_parser(measurements).parse_args())
    chosen = {measurement.__name__: measurement for measurement in measurements}
    result = chosen[options.pop("measurement")](**options)
    print(json.dumps(result))  # noqa: T201


def _parser(measurements: tuple[Callable[..., Any], ...]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="measurement", required=True)
    for measurement in measurements:
        text = (inspect.getdoc(measurement) or "").replace("%", "%%")
        command = commands.add_parser(measurement.__name__, description=text)
        hints = get_type_hints(measurement)
        for name, parameter in inspect.signature(measurement).parameters.items():
            optional = parameter.default is not inspect.Parameter.empty
            command.add_argument(
                _flag(name),
                dest=name,
                type=_reader(hints[name]),
                required=not optional,
                default=parameter.default if optional else None,
            )
    return parser


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _text(value: object) -> str:
    return str(value) if isinstance(value, (str, Path)) else json.dumps(value)


def _reader(hint: Any) -> Callable[[str], Any]:
    return hint if hint in {str, Path} else json.loads
