"""The environment variables that a worker process gets."""

from __future__ import annotations

import os
from pathlib import Path

from ..threads import waiting_settings

# What a Python with torch and llama.cpp needs to start and to find its libraries and its card. Everything else stays
# out, since programs keep access tokens and passwords in their environment.
_NEEDED = {
    *("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH"),
    *(
        "DYLD_LIBRARY_PATH",
        "DYLD_FALLBACK_LIBRARY_PATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
    ),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA"),
    *("LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "NUMBER_OF_PROCESSORS"),
    *("PROCESSOR_ARCHITECTURE", "GLIBC_TUNABLES", "XDG_CACHE_HOME"),
}
_NEEDED_PREFIXES = (
    *("LC_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GGML_", "LLAMA_", "ATEN_", "MALLOC_"),
    *("CUDA_", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "ROCM_", "VK_", "SYCL_", "ONEAPI_"),
)
_FIXED = {
    "GGML_NO_BACKTRACE": "1",  # on an abort ggml would start a debugger
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # nothing is imported from the working directory
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def worker_environment(home: Path) -> dict[str, str]:
    """What of this process's environment a worker gets, with everything that could fetch something switched off.

    Args:
        home: Folder for what libraries keep, instead of the user's caches.
    """
    taken = {name: value for name, value in os.environ.items() if _is_needed(name)}
    caches = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules")}
    return waiting_settings() | taken | _python_path() | _FIXED | caches


def _is_needed(name: str) -> bool:
    return name.upper() in _NEEDED or name.upper().startswith(_NEEDED_PREFIXES)


def _python_path() -> dict[str, str]:
    """The owner's folders of packages, without relative ones: a worker has another working directory."""
    parts = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [part for part in parts if os.path.isabs(part)]
    return {"PYTHONPATH": os.pathsep.join(kept)} if kept else {}
