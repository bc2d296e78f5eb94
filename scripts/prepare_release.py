"""Checks that a tag is that of a release, and writes the project's public identifiers into pyproject.toml.

    python scripts/prepare_release.py --tag v0.1.0 --repository https://... --publisher NAME

The identifiers are variables of the repository that publishes (see CONTRIBUTING.md, "Release"), so that no address
stands in the source before there is one. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Rewrite pyproject.toml; the exit code is 1, with one line of why, if that would be wrong."""
    parser = argparse.ArgumentParser(description="Check a tag and fill in the identifiers.")
    parser.add_argument("--tag", required=True, help="the tag, e.g. v0.1.0")
    parser.add_argument("--repository", required=True, help="public address of the repository")
    parser.add_argument("--publisher", required=True, help="publisher's id at ComfyUI's registry")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to prepare")
    options = parser.parse_args(arguments)
    file = options.root / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    changes = (options.root / "CHANGELOG.md").read_text(encoding="utf-8")
    try:
        check_tag(options.tag, text, changes)
        text = fill_in(text, options.repository, options.publisher)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    file.write_text(text, encoding="utf-8")
    return 0


def check_tag(tag: str, project: str, changes: str) -> None:
    """Compare the tag with the version in pyproject.toml and the newest release in the changelog.

    Raises:
        ValueError: They are not of one version; the message says which one is missing.
    """
    found = re.search(r'^version = "([^"]+)"$', project, re.MULTILINE)
    version = found[1] if found else "no version"
    if tag != f"v{version}":
        raise ValueError(f"the tag is {tag} and pyproject.toml has {version}; tag v{version}")
    if not re.search(rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$", changes, re.MULTILINE):
        raise ValueError(
            f"CHANGELOG.md has no heading `## [{version}] - YYYY-MM-DD`; date the release there"
        )


def fill_in(project: str, repository: str, publisher: str) -> str:
    """Return the text of pyproject.toml with the identifiers in it.

    Raises:
        ValueError: An identifier is empty or of another form, or the file has one already.
    """
    if not re.fullmatch(r"https://[\w./-]+", repository):
        raise ValueError(
            f"the repository's address should begin with https://, found {repository!r}"
        )
    if not re.fullmatch(r"[\w-]+", publisher):
        raise ValueError(f"the publisher's id should be one word, found {publisher!r}")
    if re.search(r"^(\[project\.urls\]|PublisherId *=)", project, re.MULTILINE):
        raise ValueError("pyproject.toml has identifiers already; leave this step out")
    section = f'[project.urls]\nRepository = "{repository}"\n\n[tool.comfy]\nPublisherId = "{publisher}"\n'
    if project.count("[tool.comfy]\n") != 1:
        raise ValueError("pyproject.toml should have one section [tool.comfy]")
    return project.replace("[tool.comfy]\n", section)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
