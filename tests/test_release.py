"""The release script: it fills in the identifiers, and refuses a tag that is not that of the version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOOD = {"repository": "https://example.org/someone/gdpo", "publisher": "someone"}


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The project's own pyproject.toml, and a changelog that has its version as released."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(f"## [{version()}] - 2027-01-31\n", encoding="utf-8")
    return tmp_path


def version() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.search(r'^version = "(.+)"$', text, re.MULTILINE)[1]


def prepare(checkout: Path, **values: str) -> subprocess.CompletedProcess:
    script = ROOT / "scripts" / "prepare_release.py"
    named = {"root": str(checkout), "tag": f"v{version()}", **GOOD, **values}
    arguments = [part for name, value in named.items() for part in (f"--{name}", value)]
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


def test_identifiers_are_written_and_nothing_else_changes(checkout):
    before = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    found = prepare(checkout)
    assert found.returncode == 0, found.stderr
    after = (checkout / "pyproject.toml").read_text(encoding="utf-8")
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert added == [
        "[project.urls]",
        f'Repository = "{GOOD["repository"]}"',
        'PublisherId = "someone"',
    ]
    section = after[after.index("\n[tool.comfy]\n") + 1 :].split("\n[")[0]
    assert 'PublisherId = "someone"' in section
    assert "DisplayName" in section


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tag": "v99.0.0"}, "the tag is v99.0.0 and pyproject.toml has"),
        ({"repository": ""}, "should begin with https://"),
        ({"repository": 'https://x.org"\nevil'}, "should begin with https://"),
        ({"publisher": ""}, "should be one word"),
    ],
    ids=["another version", "no address", "an address that ends the line", "no publisher"],
)
def test_wrong_release_is_refused_in_one_line(checkout, values, reason):
    before = (checkout / "pyproject.toml").read_bytes()
    found = prepare(checkout, **values)
    assert found.returncode == 1
    assert reason in found.stderr
    assert found.stderr.count("\n") == 1
    assert (checkout / "pyproject.toml").read_bytes() == before


def test_version_without_a_dated_changelog_is_refused(checkout):
    (checkout / "CHANGELOG.md").write_text("## [Unreleased]\n", encoding="utf-8")
    assert "date the release there" in prepare(checkout).stderr


def test_second_preparation_is_refused(checkout):
    prepare(checkout)
    assert "has identifiers already" in prepare(checkout).stderr
