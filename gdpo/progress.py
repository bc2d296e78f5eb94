"""How long work tells the outside where it stands, and how the outside stops it."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Progress:
    """Receives what happens during long work. This one ignores all but notices; hosts override it.

    Any method may raise to stop the work: the trainer then writes a checkpoint, cleans up and lets
    the exception pass. `poll` is called often (between tokens), so it must be cheap.
    """

    def poll(self) -> None:
        """Give the host a chance to stop the work by raising."""

    def phase(self, name: str, done: int, total: int) -> None:
        """`done` of `total` units of the phase `name` are finished (sampling, scoring, ...)."""

    def record(self, record: dict) -> None:
        """Receive the record of a finished training step or evaluation.

        Args:
            record: its line of `history.jsonl`; a step also has one of its completions, as `sample`.
        """

    def notice(self, text: str) -> None:
        """Receive a sentence that the user should read; it is logged if nobody overrides this."""
        logger.warning("%s", text)
