"""Aligned columns of text."""

from collections.abc import Sequence

GAP = "  "


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows as columns, each as wide as its widest cell.

    Args:
        head: a name for each column.
        rows: cells, as many in each as there are columns.
    """
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def megabytes(size_bytes: int) -> str:
    """Write a size as a person would."""
    return f"{size_bytes / 1e6:.1f} MB"
