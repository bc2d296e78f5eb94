"""Runs this project without ComfyUI: makes its own environment in .venv, then does what is asked.

    python run.py demo                 train, export, plot and chat with the bundled starter model
    python run.py workflow FILE.json   run a workflow saved in ComfyUI's API format
    python run.py test                 run all tests
    python run.py coverage             run all tests and show which lines they miss
    python run.py check                check style, types and the import graph
    python run.py bench NAME           run one of the benchmarks

This file uses the standard library only: nothing else is there at the first start. Inside the environment it
starts `nodes/headless/program.py`. It touches no Python that it did not make; with --here it uses the Python that
you started as it is, and names what that lacks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
RECORD = (
    VENV / "made_by_run.json"
)  # says that this program made .venv, and which stages are finished
LOG = VENV / "setup.log"
REQUIREMENTS = ROOT / "requirements.txt"
CONSTRAINTS = ROOT / "constraints.txt"
RUNTIME = ROOT / "gdpo" / "llamacpp" / "runtime.py"
FETCH = ("-m", "gdpo.export.converter", "--fetch")
BENCHMARKS = ROOT / "benchmarks"
MINIMUM = (3, 10)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WHEELS = "https://abetlen.github.io/llama-cpp-python/whl"
SHOWN_LOG_LINES = 15
# How long a thread without work spins before it sleeps, for GNU's OpenMP (turns) and for Intel's and LLVM's
# (ms). For ever, and it starves all else on a small machine; not at all, and it wakes up too late for the
# matrix products of a small model, which take a tenth of a millisecond: half the speed.
WAITING = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}

EPILOG = f"""\
The first start downloads PyTorch and other packages and compiles llama.cpp, once; later starts are
immediate. On Linux PyTorch's standard package is the one for NVIDIA cards (over 2 GB). Without such a
card, take the small one:

    PIP_EXTRA_INDEX_URL={CPU_INDEX} python run.py demo

Exit codes: 0 done, 1 failed (one line says why), 130 stopped by Ctrl-C.
"""

# Command -> what it does, and examples.
COMMANDS = {
    "demo": (
        "Train the bundled starter model with three rewards, export it, plot it and ask it something.",
        "  python run.py demo\n  python run.py demo --output /tmp/first-try",
    ),
    "workflow": (
        "Run a workflow that was saved in ComfyUI's API format, with ComfyUI's meaning.",
        "  python run.py workflow my_training.json\n"
        "  python run.py workflow my_training.json --set 5.steps=50 --set 5.run_name=shorter\n"
        '  python run.py workflow my_training.json --set "GDPO Train.step_size=0.2"',
    ),
    "test": (
        "Run the tests; further arguments go to pytest.",
        "  python run.py test\n  python run.py test -k workflow -x",
    ),
    "coverage": (
        "Run the tests and show which lines they miss; further arguments go to pytest.",
        "  python run.py coverage\n  python run.py coverage tests/nodes/test_guard.py --cov-fail-under=0",
    ),
    "check": (
        "Check style, types and the import graph, one line for each check.",
        "  python run.py check",
    ),
    "bench": (
        "Run a benchmark; further arguments go to it. Without NAME, list the benchmarks.",
        "  python run.py bench\n  python run.py bench NAME",
    ),
}
HERE = (
    "use the Python that runs this, as it is: nothing is installed, only what is missing is named"
)
# Packages that only one command needs. bitsandbytes is optional for users, and its tests should run.
TEST_PACKAGES = ("pytest", "pytest-xdist", "bitsandbytes")
PACKAGES = {
    "test": TEST_PACKAGES,
    "coverage": (*TEST_PACKAGES, "pytest-cov"),
    "check": ("ruff", "pyright"),
}
IMPORT_GRAPH = ROOT / "scripts" / "import_graph.py"


class SetupError(Exception):
    """The environment cannot be made; the message holds the remedy."""


def main(arguments: list[str]) -> int:
    """Parse the command line, see to the environment, and run the command in it."""
    if sys.version_info < MINIMUM:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"error: Python 3.10 or newer is needed, this is {found}", file=sys.stderr)
        return 1
    options, rest = parse(arguments)
    if options.command == "bench" and not options.name:
        print("\n".join(benchmarks()) or "there are no benchmarks yet")
        return 0
    try:
        command = choose_command(options, rest)
        python = check_here(options.command) if options.here else prepare(options.command)
        if options.command == "check":
            return check(python)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the next start goes on from here", file=sys.stderr)
        return 130
    return execute([str(python), *command])


class Parser(argparse.ArgumentParser):
    """Repeats no character that a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and end the program."""
        super().error("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the arguments that `test`, `coverage` and `bench` hand on."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, epilog=EPILOG, formatter_class=layout)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, examples) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"examples:\n{examples}\n\n{EPILOG}",
            formatter_class=layout,
            allow_abbrev=False,
        )
        command.add_argument("--here", action="store_true", help=HERE)
        if name in {"demo", "workflow"}:
            command.add_argument(
                "--output", metavar="DIR", default="output", help="output folder (default: output)"
            )
        if name == "workflow":
            add_workflow_options(command)
        if name == "bench":
            text = "one of the programs in benchmarks/"
            command.add_argument("name", nargs="?", metavar="NAME", help=text)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command in {"demo", "workflow", "check"}:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options, rest


def add_workflow_options(command: argparse.ArgumentParser) -> None:
    """Add what only `workflow` takes."""
    command.add_argument("file", metavar="FILE", help="JSON file in the API format")
    command.add_argument(
        "--set",
        metavar="NODE.INPUT=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="replace an input; NODE is a node's id or its title, VALUE is JSON or text (repeatable)",
    )
    command.add_argument("--input", metavar="DIR", help="folder of prompt files (default: input)")
    command.add_argument("--models", metavar="DIR", help="folder of models (default: models/LLM)")


def choose_command(options: argparse.Namespace, rest: list[str]) -> list[str]:
    """Return what to run in the environment, without the Python itself."""
    headless = str(ROOT / "nodes" / "headless" / "program.py")
    if options.command == "demo":
        return [headless, "demo", f"--output={options.output}"]
    if options.command == "workflow":
        # Joined by an equal sign, since a value may begin with a dash.
        settings = [f"--set={setting}" for setting in options.settings]
        folders = {"output": options.output, "input": options.input, "models": options.models}
        chosen = [f"--{name}={folder}" for name, folder in folders.items() if folder is not None]
        return [headless, "workflow", *settings, *chosen, "--", options.file]
    if options.command in {"test", "coverage"}:
        os.chdir(ROOT)
        measured = ["--cov"] if options.command == "coverage" else []
        # All of the tests share out the cores, file by file; each of the processes may take a gigabyte.
        whole = all(word.startswith("-") for word in rest)
        shared = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile"] if whole else []
        return ["-m", "pytest", *measured, *shared, *rest]
    if options.command == "check":
        return []
    known = benchmarks()
    if options.name not in known:
        listed = ", ".join(known) or "none yet"
        raise SetupError(f"there is no benchmark {options.name!r}; the benchmarks are: {listed}")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    )
    return ["-m", f"benchmarks.{options.name}", *rest]


def check(python: Path) -> int:
    """Run all checks and print a line for each, and the output of those that failed; 1 if any did."""
    failed = 0
    for name, command in checks(python).items():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print(f"{verdict(done.returncode)}: {name}", flush=True)
        if done.returncode:
            failed = 1
            say(f"{done.stdout.rstrip()}\n{done.stderr.rstrip()}".strip())
    return failed


def checks(python: Path) -> dict[str, list[str]]:
    """Return each check's command, by its name."""
    module = [str(python), "-m"]
    found = {
        "ruff check": [*module, "ruff", "check", "."],
        "ruff format": [*module, "ruff", "format", "--check", "."],
        "pyright": [*module, "pyright", "--pythonpath", str(python)],
    }
    if IMPORT_GRAPH.exists():
        found["import graph"] = [str(python), str(IMPORT_GRAPH)]
    return found


def verdict(code: int) -> str:
    """Return what a check's exit code means: all of them end with 1 when they find something."""
    if code == 0:
        return "passed"
    if code == 1:
        return "failed"
    return f"error: could not run (exit code {code}; mend what its message names and start again)"


def benchmarks() -> list[str]:
    """Return names of the programs in benchmarks/."""
    folders = (path.parent.name for path in BENCHMARKS.glob("*/__main__.py"))
    return sorted({*folders, *(path.stem for path in BENCHMARKS.glob("[!_]*.py"))})


def execute(command: list[str]) -> int:
    """Run the command in this process's place, so that exit code and signals are its own."""
    waiting = {} if "OMP_WAIT_POLICY" in os.environ else WAITING
    environment = {**waiting, "PYTHONUTF8": "1", **os.environ}
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execve(command[0], command, environment)
    process = subprocess.Popen(command, env=environment)
    # Windows sends Ctrl-C to both; the command alone decides what to do with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return process.wait()


# --- the environment -------------------------------------------------------------------------------


def check_here(command: str) -> Path:
    """This very Python, if it has what is needed.

    Raises:
        SetupError: Packages are missing; nothing is installed.
    """
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    names = [match[0] for line in lines if (match := re.match(r"[A-Za-z0-9][\w.-]*", line))]
    needed = ["torch", *names, *PACKAGES.get(command, ())]
    missing = [name for name in needed if not is_installed(name)]
    if missing:
        raise SetupError(
            f"this Python ({sys.executable}) lacks {', '.join(missing)}; install them, e.g. "
            f"`{sys.executable} -m pip install {' '.join(missing)}`, or leave out --here"
        )
    return Path(sys.executable)


def is_installed(name: str) -> bool:
    """Tell whether this Python has the package."""
    from importlib import metadata

    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def prepare(command: str) -> Path:
    """Return the Python of .venv, made and filled as far as it is not yet.

    Every finished stage is recorded with a digest of what it depends on, so an interrupted set-up goes on
    at its stage and a finished one costs nothing.
    """
    record = ensure_venv()
    python = venv_python()
    digest = fingerprint(record["python"], REQUIREMENTS, CONSTRAINTS)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pip += ["--progress-bar", "off", "-c", str(CONSTRAINTS)]

    def once(stage: str, key: str, action: Callable[[], None]) -> None:
        if record.get(stage) != key:
            action()
            record[stage] = key
            write_record(record)

    def packages() -> None:
        hint_at_cpu_build()
        run_stage("installing packages", [*pip, "torch", "-r", str(REQUIREMENTS)])

    once("packages", digest, packages)
    if command in PACKAGES:
        title = f"installing packages for `{command}`"
        once(command, digest, lambda: run_stage(title, [*pip, *PACKAGES[command]]))
    if command == "check":
        once("pyright", digest, lambda: run_stage(*fetch_pyright(python)))
        return python
    # A failed compilation is tried again when something that it depends on has changed.
    once("llama", f"{digest} {find_compiler()}", lambda: compile_llama(python, pip))
    once("converter", digest, lambda: fetch_converter(python))
    return python


def fetch_pyright(python: Path) -> tuple[str, list[str], str]:
    """Return the stage that starts pyright once: the Python package then fetches the program from npm."""
    remedy = (
        "connect to a network and start again; where nodejs.org is not reached, install Node.js"
    )
    return "fetching pyright from npm", [str(python), "-m", "pyright", "--version"], remedy


def ensure_venv() -> dict[str, str]:
    """Return the record of .venv, which is made if it is not there or no longer works.

    Raises:
        SetupError: There is a .venv that somebody else made.
    """
    record = read_record()
    if record.get("python") and venv_python().exists():
        return record
    if VENV.exists() and not RECORD.exists() and any(VENV.iterdir()):
        raise SetupError(
            f"{VENV} was not made by this program and stays untouched; move it away, "
            "or use --here with its Python"
        )
    if VENV.exists():
        shutil.rmtree(VENV)
    VENV.mkdir()
    write_record({})
    say(
        "making an environment in .venv for this project; the Python that you started stays as it is"
    )
    run_stage(
        "making .venv",
        [sys.executable, "-m", "venv", str(VENV)],
        "on Debian or Ubuntu: sudo apt install python3-venv",
    )
    record = {"python": ".".join(map(str, sys.version_info[:3]))}
    write_record(record)
    return record


def compile_llama(python: Path, pip: list[str]) -> None:
    """Install llama-cpp-python, compiled lean; without it the rest still works, so only say what is lost."""
    lean = runpy.run_path(str(RUNTIME))["minimal_build_args"]()
    arguments = " ".join(filter(None, [lean, os.environ.get("CMAKE_ARGS", "")]))
    say("compiling llama.cpp, about 2-5 minutes, once")
    try:
        run_stage(
            "compiling llama.cpp",
            # pip's cache may hold one that was compiled with other arguments, which pip does not look at.
            [*pip, "--no-cache-dir", "llama-cpp-python"],
            environment={**os.environ, "CMAKE_ARGS": arguments},
        )
    except SetupError:
        wheel = f"{python} -m pip install llama-cpp-python --extra-index-url {WHEELS}/cpu"
        say(
            "llama.cpp could not be compiled. Everything but K-quants, verifying and chatting works without it.\n"
            "  Either install a C++ compiler and start again (Debian, Ubuntu: sudo apt install build-essential; "
            "macOS: xcode-select --install; Windows: Visual Studio Build Tools with C++),\n"
            f"  or take a ready-made package: {wheel} (for an NVIDIA card end with cu124 instead of cpu)."
        )


def fetch_converter(python: Path) -> None:
    """Fetch llama.cpp's converter; without it only the export does not work, and says so itself."""
    try:
        run_stage("fetching llama.cpp's converter", [str(python), *FETCH])
    except SetupError:
        say(f"Export will need it; with a network run: {python} {ROOT / 'install.py'}")


def find_compiler() -> str:
    """Return the C++ compiler that a build would find, as far as the search path tells."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl")
    return next((found for name in names if name and (found := shutil.which(name))), "none")


def hint_at_cpu_build() -> None:
    """On Linux without an NVIDIA card the standard package of PyTorch is needlessly large."""
    chosen = any(os.environ.get(name) for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"))
    card = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists()
    if sys.platform == "linux" and not card and not chosen:
        say(
            "no NVIDIA card found: for PyTorch without CUDA (0.2 instead of over 2 GB) stop this, and start it "
            f"with PIP_EXTRA_INDEX_URL={CPU_INDEX}"
        )


def run_stage(
    title: str, command: list[str], remedy: str = "", environment: dict[str, str] | None = None
) -> None:
    """Run one stage of the set-up with its output in the log, and show its name and the seconds.

    Raises:
        SetupError: It failed; the last lines of its output have been shown.
    """
    begin = time.monotonic()
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        try:
            watch(process, title, begin)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    line = f"  {title} {time.monotonic() - begin:4.0f} s"
    say(f"\r{line}".ljust(90) if sys.stderr.isatty() else line)
    if process.returncode != 0:
        say(last_lines(SHOWN_LOG_LINES))
        raise SetupError(
            f"{title} failed ({remedy or 'see above; check the network and start again'})"
        )


def watch(process: subprocess.Popen, title: str, begin: float) -> None:
    """Wait for a stage's end; on a terminal show the seconds and the last line of its output."""
    while process.poll() is None:
        if sys.stderr.isatty():
            doing = last_lines(1)[:60].ljust(60)
            shown = f"\r  {title} {time.monotonic() - begin:4.0f} s  {doing}"
            print(shown, end="", file=sys.stderr)
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue


def last_lines(count: int) -> str:
    """Return the end of the log."""
    with LOG.open("rb") as log:
        log.seek(max(0, LOG.stat().st_size - 4000))
        lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-count:])


def venv_python() -> Path:
    """Return the interpreter of .venv."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def fingerprint(python_version: str, *files: Path) -> str:
    """Return a digest of what a stage depends on."""
    digest = hashlib.sha256(python_version.encode())
    for file in files:
        digest.update(b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def read_record() -> dict[str, str]:
    """Return the record of .venv; empty if there is none."""
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(record: dict[str, str]) -> None:
    """Replace the record as a whole, so that a crash leaves the old one."""
    temporary = RECORD.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    os.replace(temporary, RECORD)


def say(text: str) -> None:
    """Print one message of the set-up; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
