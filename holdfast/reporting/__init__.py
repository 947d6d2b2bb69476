"""The report: one self-contained page per version, the same content as Markdown, one file per figure."""

from holdfast.reporting.content import Epoch, HistoryRow, Page
from holdfast.reporting.markdown import markdown
from holdfast.reporting.page import drawings, render

__all__ = ["Epoch", "HistoryRow", "Page", "drawings", "markdown", "render"]
