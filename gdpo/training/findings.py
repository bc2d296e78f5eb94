"""Tells what looks wrong while a training runs, each finding once, and keeps what does at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from ..atomic import write_atomically
from ..progress import Progress
from ..runs.diagnosis import diagnose
from ..runs.disk import writing
from ..runs.record import StepRecord
from ..runs.sequence import join_record

FINDINGS_FILE = "findings.json"


class Findings(Progress):
    """Hands everything on to the progress of a training's host, and tells it what the records say in words."""

    def __init__(self, host: Progress) -> None:
        """Begin with no records."""
        self._host = host
        self._records: list[StepRecord] = []
        self._told: set[tuple[str, tuple[str, ...]]] = set()

    def poll(self) -> None:
        """Hand on."""
        self._host.poll()

    def phase(self, name: str, done: int, total: int) -> None:
        """Hand on."""
        self._host.phase(name, done, total)

    def notice(self, text: str) -> None:
        """Hand on."""
        self._host.notice(text)

    def record(self, record: dict) -> None:
        """Tell what is found now for the first time, and hand the record on, which may raise."""
        step = {key: value for key, value in record.items() if key != "sample"}
        join_record(self._records, cast(StepRecord, step))
        for finding in diagnose(self._records):
            # Its figures change from step to step; what it says is the same.
            known = finding.check, finding.about
            if known not in self._told:
                self._told.add(known)
                self.notice(f"Step {record['step']}: {finding.text}")
        self._host.record(record)

    def go_on(self, history: Iterable[StepRecord]) -> None:
        """Take up the records of a run that goes on."""
        self._records = list(history)

    def write(self, folder: Path) -> None:
        """Write what looks wrong after the last record, whole or not at all.

        Raises:
            TrainingError: The folder cannot be written.
        """
        found = [
            {"check": finding.check, "rewards": list(finding.about), "text": finding.text}
            for finding in diagnose(self._records)
        ]
        step = self._records[-1]["step"] if self._records else 0
        text = json.dumps({"step": step, "findings": found}, indent=1, ensure_ascii=False)
        with writing(folder):
            write_atomically(folder / FINDINGS_FILE, text)
