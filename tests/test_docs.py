"""The documentation: its links, paths, figures and examples are those of the code."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
import yaml

import gdpo

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "web/docs").glob("*.md"),
])
SOURCES = [
    path
    for top in ("gdpo", "nodes", "benchmarks", "scripts")
    for path in (ROOT / top).rglob("*.py")
]
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))
# The rows of the README's results, each with its number of runs, and the sections of the benchmark's result that have them.
RESULTS = {
    "gdpo, natural": 64,
    "gdpo": 64,
    "saturation_aware": 64,
    "group_dpo": 32,
    "grpo": 32,
    "gdpo_decoupled": 32,
}
SECTIONS = {
    64: "The leading arms, all tasks and preferences, eight seeds",
    32: "The best of the others, all tasks",
}


def read(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def show(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_block(page: str, language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", read(page), re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return found


@pytest.mark.parametrize("page", PAGES, ids=show)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [link.partition("#")[0] for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("file", [*PAGES, *SOURCES], ids=show)
def test_paths_in_backticks_exist(file):
    tops = "gdpo|nodes|web|docs|tests|scripts|benchmarks|locales|workflows|example_workflows"
    named = re.findall(rf"`((?:{tops})/[\w./-]*)`", file.read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_environment_variable_of_the_pack_is_documented():
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*SOURCES, ROOT / "run.py"])
    asked = r'os\.environ(?:\.get\(|\.setdefault\(|\[)"(\w+)"|^[A-Z_]+ = "(GDPO_[A-Z_]+)"$'
    names = {name for pair in re.findall(asked, text, re.MULTILINE) for name in pair if name}
    assert {"GDPO_ALLOW_DOWNLOAD", "GDPO_LLAMA_CPP", "GDPO_CUDA_GRAPHS"} <= names
    ours = names - {"PYTHONPATH"}  # Python's own, which run.py only adds to
    page = read("docs/environment.md")
    assert [name for name in sorted(ours) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_every_node_is_linked_to_its_help_page(page):
    pages = {f"web/docs/{path.name}" for path in (ROOT / "web/docs").glob("*.md")}
    assert pages - set(re.findall(r"\]\((web/docs/[^)]+)\)", read(page))) == set()


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_the_results_are_those_of_the_benchmark(page):
    """Columns of the results: arm, runs, converged, steps, oscillation, below its start, worst reward, ..."""
    results = read("benchmarks/results/convergence.md")
    lines = iter(read(page).splitlines())
    next(
        line for line in lines if line.startswith("|") and ("oscillation" in line or "振動" in line)
    )
    next(lines)
    for arm, runs in RESULTS.items():
        section = results.split(f"## {SECTIONS[runs]}")[1].split("\n## ")[0]
        rows = {
            cells[0]: cells for line in section.splitlines() if len(cells := cells_of(line)) > 7
        }
        line = next(lines)
        assert f"`{arm.partition(',')[0]}`" in line
        assert ("natural" in line) == ("natural" in arm)
        found = re.findall(r"[\d.]+", line.partition("|")[2].partition("|")[2])
        _, count, share, steps, oscillation, below, worst, *_ = rows[arm]
        assert count == str(runs)
        figures = [*re.findall(r"[\d.]+", share), *re.findall(r"\d+", steps)]
        assert found == [*figures, below.split()[0], worst, oscillation.split()[0]], arm


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_the_real_model_is_that_of_the_benchmark(page):
    result = json.loads(read("benchmarks/results/real.json"))
    for name, one in result["rewards"].items():
        (line,) = [line for line in read(page).splitlines() if line.startswith(f"| `{name}`")]
        found = re.findall(r"[\d.]+", line.partition("|")[2].partition("|")[2])
        figures = [
            number
            for when in ("before", "after")
            for number in (one[when], *one[f"interval_{when}"])
        ]
        assert found == [f"{number:.2f}" for number in figures], name
    for text in result["answer"].values():
        assert " ".join(text.split()) in " ".join(read(page).split())


@pytest.mark.parametrize("page", ["README.md", "README.ja.md"])
def test_every_family_that_is_not_trained_is_named(page):
    """A family of docs/models.md counts as named where a list on the page has its letters and digits."""
    rows = [cells_of(line) for line in read("docs/models.md").splitlines() if line.startswith("| ")]
    refused = [row[0] for row in rows[1:] if row[2] != "yes"]
    assert refused, "the table was not read"
    names = {letters(name) for name in re.split(r"[,;()、（）]", read(page))}
    assert [name for name in refused if letters(name) not in names] == []


def letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("file", WORKFLOWS, ids=show)
def test_workflows_parse_and_call_programs_that_exist(file):
    assert isinstance(yaml.safe_load(file.read_text(encoding="utf-8")), dict)
    called = re.findall(r"python ([\w/]+\.py)", file.read_text(encoding="utf-8"))
    assert [program for program in called if not (ROOT / program).is_file()] == []


def test_versions_agree():
    pinned = re.search(r"^ruff==(.+)$", read("constraints.txt"), re.MULTILINE)[1]
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repo["rev"] for repo in hooks if "ruff" in repo["repo"]] == [f"v{pinned}"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == gdpo.__version__


def test_the_scorer_of_the_guide_works(tmp_path):
    file = tmp_path / "questions.py"
    file.write_text(code_block("docs/rewards.md", "python", "class Questions"), encoding="utf-8")
    # By this name its relative imports are those of a file in gdpo/rewards.
    spec = importlib.util.spec_from_file_location("gdpo.rewards.questions", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        reward = gdpo.Reward("asks", module.Questions(wanted=2))
        texts = ("Why?", "Why? How?", "No.")
        completions = [gdpo.Completion(text, tokens=2) for text in texts]
        prompts = [gdpo.make_prompt("x")] * 3
        scores = gdpo.score_rewards([reward], prompts, completions, lambda: None)
        assert scores.tolist() == [[0.5, 1.0, 0.0]]
        with pytest.raises(gdpo.RewardError, match="`wanted` must be at least 1"):
            module.Questions(wanted=0)
    finally:
        del sys.modules[spec.name]
