"""What a stage tells people while it works: log records that carry their numbers, drawn by whoever listens."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("holdfast")
LOGGER.setLevel(logging.INFO)


def tell(stage: str, text: str, *, done: int | None = None, total: int | None = None) -> None:
    """Say one line of a stage.

    Args:
        stage: stage word.
        text: one line for people.
        done: how much of the stage's work is done, where that is known.
        total: of how much.
    """
    LOGGER.info("%s: %s", stage, text, extra={"stage": stage, "text": text, "done": done, "total": total})
