"""The table in docs/models.md of how far each family of models comes."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
MARK = "<!-- made by `python -m scripts.families --write` -->"
# Of an export that was asked about and not made.
PLANNED = "not refused beforehand; not tried"
# When an export ended: before the training, as a node that waits for it is told, or only after it.
BEFORE, AFTER = "before the training: ", "after the training: "

# Of a file or a folder from the root on; the last part is kept. Addresses and fractions are none.
_PATH = re.compile(r"(?<![\w.~:/])(?:\b[A-Za-z]:)?(?:[\\/]+[\w.+~-]+)+[\\/]+([\w.+~-]+)")


def families() -> dict[str, str]:
    """Return the class of each kind of model that transformers completes texts with."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as names

    return {kind: name for kind, name in sorted(names.items()) if isinstance(name, str)}


def table(found: dict[str, dict[str, str]]) -> str:
    """Return what was found as a page in Markdown."""
    names = families()
    told = {kind: stages for kind, stages in found.items() if stages.get("made") == "yes"}
    lines = ["| family | class | trains | export as GGUF |", "|---|---|---|---|"]
    for kind, stages in told.items():
        trains = stages.get("trains", stages.get("loads", ""))
        cells = [kind, names[kind], *(cell(text) for text in (trains, stages.get("export", "")))]
        lines.append(f"| {' | '.join(cells)} |")
    untold = ", ".join(kind for kind in found if kind not in told)
    rest = f"Of these no tiny model could be made, so nothing is told of them: {untold or 'none'}."
    return "\n".join([MARK, "", _head(found, told), "", rest, "", *lines, ""])


def _head(found: dict[str, dict[str, str]], told: dict[str, dict[str, str]]) -> str:
    """Return how many families came how far."""
    import transformers

    trained = [stages for stages in told.values() if stages.get("trains") == "yes"]
    ends = [stages.get("export", "") for stages in trained]
    refused, late = (sum(end.startswith(when) for end in ends) for when in (BEFORE, AFTER))
    return (
        f"Of {len(found)} families of transformers {transformers.__version__}, {len(trained)} train and "
        f"{len(told) - len(trained)} do not. Of those that train, {ends.count('yes')} were exported to a file that "
        f"holds what was trained, the export of {refused} is refused before the training, and that of {late} failed "
        "after it."
    )


def cell(message: str) -> str:
    """Return a message as the table holds it: of the folders of one machine only the last part is told."""
    told = re.sub(r"converter in '[^']*'", "converter in its folder", " ".join(message.split()))
    return _PATH.sub(r"\1", told).replace("|", "\\|")


def write_page(text: str) -> None:
    """Put the table into docs/models.md, below what is said by hand."""
    PAGE.write_text(PAGE.read_text().partition(MARK)[0] + text)
