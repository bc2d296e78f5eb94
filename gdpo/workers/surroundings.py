"""What a worker gets of its parent's surroundings: what its libraries need to compute, and no secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ..threads import waiting_settings

# Where the system's own parts are, how it speaks, and how many threads and which cards to use.
_NAMES = {
    *("PATH", "PATHEXT", "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "TEMP", "TMP", "TMPDIR"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
    *(
        "LANG",
        "LANGUAGE",
        "TZ",
        "NUMBER_OF_PROCESSORS",
        "PROCESSOR_ARCHITECTURE",
        "LLAMA_CPP_LIB_PATH",
    ),
}
_PREFIXES = (
    *("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "CUDA_", "NVIDIA_"),
    *("HIP_", "ROCR_", "HSA_", "GGML_", "VK_", "ONEAPI_", "SYCL_", "ZE_"),
)
# Some libraries keep passwords under such names, whatever they begin with.
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY")
# Packages that workers import; an isolated Python does not know the folders of all of them.
_PACKAGES = (
    *("numpy", "torch", "transformers", "llama_cpp", "sentencepiece", "gguf", "jinja2"),
    "google/protobuf",
)


def environment(parent: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the worker's environment; what the user has set for computing counts.

    Args:
        parent: The environment of this process.
        home: An empty folder, where libraries look for tokens and settings and keep what they fetch.
    """
    kept = {name: value for name, value in parent.items() if _is_plain(name.upper())}
    # On an abort ggml would start a debugger. Tokenizers would start a thread for each processor, whose stacks could
    # take all the memory that a request has.
    usual = {"GGML_NO_BACKTRACE": "1", "RAYON_NUM_THREADS": "4", **waiting_settings(parent)}
    return usual | kept | _offline(home) | _kernels(kept)


def package_folders() -> list[str]:
    """Tell where this process finds the packages that workers import, in its own order."""
    folders = [Path(entry) for entry in sys.path if entry]
    return [
        str(folder)
        for folder in folders
        if folder.is_absolute() and any((folder / name).is_dir() for name in _PACKAGES)
    ]


def _is_plain(name: str) -> bool:
    known = name in _NAMES or name.startswith(_PREFIXES)
    return known and not any(word in name for word in _SECRET)


def _offline(home: Path) -> dict[str, str]:
    """Return what keeps libraries from fetching anything and from finding the user's tokens."""
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
    silent = ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "HF_HUB_DISABLE_IMPLICIT_TOKEN")
    places = (
        "HOME",
        "USERPROFILE",
        "HF_HOME",
        "HF_MODULES_CACHE",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
    )
    return (
        dict.fromkeys((*switches, *silent), "1")
        | dict.fromkeys(places, str(home))
        | {"USE_HUB_KERNELS": "NO", "TRUST_REMOTE_CODE": "0"}
    )


def _kernels(kept: Mapping[str, str]) -> dict[str, str]:
    """Tell where CUDA keeps what it has compiled for this card, which would else take minutes each time."""
    if os.name != "posix" or "CUDA_CACHE_PATH" in kept:
        return {}
    return {"CUDA_CACHE_PATH": str(Path.home() / ".nv" / "ComputeCache")}
