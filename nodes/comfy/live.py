"""What the page is told of a training: while it runs, and once more with its result.

Both times as the same short form of a run, which `web/chart_data.mjs` reads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ...gdpo.runs.diagnosis import diagnose, telling_cosines
from ...gdpo.runs.history import HISTORY_FILE, newest_completion, read_history
from ...gdpo.runs.record import CompletionRecord, StepRecord
from ...gdpo.runs.sequence import join_record

STEP_EVENT = "gdpo.step"
PHASE_EVENT = "gdpo.phase"
# The page draws about 400 pixels, and the host keeps each result in its history.
MAX_RECORDS = 400
_PHASE_SECONDS = 0.25  # at least, between two messages about phases
_DIGITS = 4
_TEXT = 1500  # characters of a sample that are shown
# What is sent of a record; `web/record.mjs` says the same to the page.
SENT = (
    *("step", "rewards", "eval", "weights", "preferences", "cosines", "dispersion"),
    *("dispersion_floor", "length", "truncated", "tokens_per_second", "seconds", "converged"),
    *("step_kl", "step_kl_measured", "signals"),
)

Message = dict[str, Any]


def describe_run(folder: Path, history: Sequence[StepRecord], steps: int = 0) -> Message:
    """Return a run as the page draws it.

    Args:
        folder: The run's folder.
        history: Its records.
        steps: Number of steps that were asked for; 0 means as many as there are.

    Raises:
        TrainingError: The completions in the folder are damaged.
    """
    newest = newest_completion(folder)
    return {
        "run": folder.name,
        "steps": steps or (history[-1]["step"] if history else 0),
        "records": shorten_history(history),
        "findings": [finding.text for finding in diagnose(history)],
        "sample": shorten_sample(newest) if newest else None,
    }


def read_past(folder: Path) -> tuple[StepRecord, ...]:
    """Return the records of a run that may go on; none where it has not begun."""
    return read_history(folder) if (folder / HISTORY_FILE).is_file() else ()


def shorten_history(history: Sequence[StepRecord]) -> list[StepRecord]:
    """At most about `MAX_RECORDS` records, evenly spread, with all evaluations and the newest steps."""
    stride = math.ceil(len(history) / MAX_RECORDS) or 1
    last = len(history) - 1
    return [
        shorten_record(record)
        for place, record in enumerate(history)
        if (last - place) % stride == 0 or "eval" in record
    ]


def shorten_record(record: StepRecord) -> StepRecord:
    """Return what is drawn of a record, with as many digits as can be seen; no cosines where none tells anything."""
    shown: dict[str, Any] = {**record, "cosines": telling_cosines(record)}
    if shown["cosines"] is None:
        del shown["cosines"]
    return cast(StepRecord, {key: _rounded(shown[key]) for key in SENT if key in shown})


def shorten_sample(sample: CompletionRecord) -> CompletionRecord:
    """Return one completion with its prompt and scores."""
    return {
        "step": sample["step"],
        "prompt": sample["prompt"][:_TEXT],
        "completion": sample["completion"][:_TEXT],
        "rewards": _rounded(sample["rewards"]),
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


class LiveRun:
    """A training as ComfyUI's pages follow it.

    Every page is told, since one that was closed and opened again has another name; each message says which workflow
    it belongs to, so that no page shows it in another. What the training was before is in the first message to each
    connection of a page: a reload forgets what was told.
    """

    def __init__(
        self,
        about: Mapping[str, Any],
        past: Sequence[StepRecord],
        send: Callable[[str, Message, str], None],
        pages: Callable[[], Mapping[str, object]],
    ) -> None:
        """Begin to tell.

        Args:
            about: What every message says: the node, the workflow, the run's name, its number of steps.
            past: Records of the run from before; they are cut where the training goes on.
            send: Function that gives an event of this name with this content to the page of this name.
            pages: Function that returns the connection of each page, by the page's name.
        """
        self._about, self._send, self._pages = dict(about), send, pages
        self._records = list(past)
        self._sample: CompletionRecord | None = None
        self._phase: Message = {}
        self._waits = False  # whether the phase was not told yet
        self._told = float("-inf")
        self._known: dict[str, object] = {}

    def follow(self, run: str, past: Sequence[StepRecord]) -> None:
        """Go on with a run of this name and these records, which was not known at the start."""
        self._about["run"], self._records, self._known = run, list(past), {}

    def phase(self, name: str, done: int, total: int) -> None:
        """Tell the phase, soon."""
        self._phase = {"phase": name, "done": done, "total": total}
        self._waits = True
        self.poll()

    def poll(self) -> None:
        """Tell what waits, and pages that are new what there is, if the last time is long enough ago."""
        if time.monotonic() - self._told < _PHASE_SECONDS:
            return
        self._told = time.monotonic()
        pages = self._pages()
        if not self._waits:
            pages = {name: page for name, page in pages.items() if self._is_new(name, page)}
        self._waits = False
        self._tell(PHASE_EVENT, self._phase, pages)

    def record(self, record: Message) -> None:
        """Tell a step or an evaluation, and what the records say in words."""
        sample = record.get("sample")
        self._sample = shorten_sample(sample) if sample else self._sample
        step = cast(StepRecord, {key: record[key] for key in record if key != "sample"})
        join_record(self._records, step)
        news = {"record": shorten_record(step), **self._words()}
        self._tell(STEP_EVENT, news, self._pages())

    def end(self, word: str) -> None:
        """Tell that it has ended, and how: "stopped", "failed", or "" where it is finished."""
        self._waits = False
        self._tell(PHASE_EVENT, {"phase": word, "ended": True}, self._pages())

    def _words(self) -> Message:
        findings = diagnose(self._records)
        return {"findings": [finding.text for finding in findings], "sample": self._sample}

    def _tell(self, event: str, news: Message, pages: Mapping[str, object]) -> None:
        told = {**self._about, **news}
        whole: Message = {}
        for name, page in pages.items():
            if self._is_new(name, page):
                self._known[name] = page
                whole = whole or {**self._all(), **told}
                self._send(event, whole, name)
            else:
                self._send(event, told, name)

    def _all(self) -> Message:
        return {"past": shorten_history(self._records), **self._words()}

    def _is_new(self, name: str, page: object) -> bool:
        return self._known.get(name) is not page
