"""Runs llama.cpp's converter, as a program: `convert_worker.py REQUEST.json RESPONSE.jsonl`.

The converter must see the gguf library of its own commit and changes global state, hence a process of its own.
Only its command line is stable between commits, so that is what is called; changed are how a vocabulary is written,
see `vocabulary.py`, and under which names settings are found, see `settings.py`.

The converter asks transformers in many places to run code that comes with a model. `forbid_remote_code` takes that
away from the library itself before the converter is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from .settings import complete_settings
from .tensor_names import ask_for_names
from .vocabulary import accept_unknown, read_without_model, take_as_it_is

_SCRIPT = "convert_hf_to_gguf.py"


class Errors(logging.Handler):
    """Keeps what the converter logs as an error before it exits."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


def convert(request: dict) -> Iterator[dict]:
    """Convert the folder `model` once for each of `outputs`, a list of [type, path]."""
    forbid_remote_code()
    module = _load(Path(request["converter"]))
    complete_settings(module)
    ask_for_names(module, request.get("shapes", {}))
    accept_unknown(module, Path(request["model"]))
    if request.get("vocabulary"):
        take_as_it_is(module, Path(request["vocabulary"]))
    else:
        read_without_model(module, Path(request["model"]))
    for kind, path in request["outputs"]:
        sys.argv = [_SCRIPT, "--outfile", path, "--outtype", kind.lower()]
        sys.argv += ["--model-name", request["name"], request["model"]]
        if request.get("vocabulary_only"):
            sys.argv.append("--vocab-only")
        module.main()
        yield {"type": kind}


def forbid_remote_code() -> None:
    """Make transformers refuse the code of a model, whatever it is asked to trust."""
    from transformers import dynamic_module_utils

    def refuse(*_arguments: object, **_options: object) -> None:
        raise ValueError("the model names code of its own, which is never run: remove `auto_map`")

    decide = dynamic_module_utils.resolve_trust_remote_code

    def distrust(*arguments: object, **options: object) -> object:
        if arguments:
            return decide(False, *arguments[1:], **options)
        return decide(**{**options, "trust_remote_code": False})

    names = ("get_class_from_dynamic_module", "get_cached_module_file", "get_class_in_module")
    replaced: list[tuple[object, object]] = [
        (getattr(dynamic_module_utils, name), refuse) for name in names
    ]
    replaced.append((decide, distrust))
    # Modules that are loaded already have taken these functions over by name.
    for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "transformers"]:
        for name, value in list(vars(module).items()):
            for old, new in replaced:
                if value is old:
                    setattr(module, name, new)


def _load(folder: Path) -> ModuleType:
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", folder / _SCRIPT)
    if spec is None or spec.loader is None:
        raise ImportError(
            f"{_SCRIPT} is no Python file that can be imported; set the converter up again"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: Sequence[str]) -> int:
    """Carry out the request; the exit code is 0 only when all of it is done."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    errors = Errors()
    logging.getLogger().addHandler(errors)
    logging.getLogger().addHandler(logging.StreamHandler())
    with Path(arguments[1]).open("w", encoding="utf-8", newline="\n") as response:

        def write(line: dict) -> None:
            response.write(json.dumps(line) + "\n")
            response.flush()

        try:
            for line in convert(request):
                write(line)
        except SystemExit as error:
            write({
                "error": "; ".join(errors.messages[-2:])
                or f"the converter exited with {error.code}"
            })
            return 1
        except ModuleNotFoundError as error:
            write({
                "error": f"the converter needs the Python package {error.name!r}: install it with pip"
            })
            return 1
        except Exception as error:  # noqa: BLE001  a foreign program that raises anything
            write({"error": " ".join(f"{type(error).__name__}: {error}".split())[:500]})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
