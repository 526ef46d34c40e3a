"""Progress of long work on stderr, where that is a terminal; and lines that do not break the bar."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

Progress = Callable[[Iterable, int, str], Iterator]  # what shows how far work is: `progress`, `silent`, or one's own
FORMAT = "{desc}: {percentage:3.0f} %|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]"


def progress(iterable: Iterable, total: int, label: str) -> Iterator[Any]:
    """Give an iterable back and show how far it is.

    Parameters
    ----------
    iterable : iterable
        What is yielded passes through unchanged. Of a dict the figures are shown; its `total` is a better guess of how
        many items there will be.
    total : int
        How many items there will be, at most.
    label : str
        What is being done.
    """
    if not total or not _is_terminal(sys.stderr):
        yield from iterable
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, file=sys.stderr, dynamic_ncols=True, bar_format=FORMAT) as bar:
        for item in iterable:
            if isinstance(item, dict):
                bar.set_postfix_str(_figures(item), refresh=False)
                bar.total = item.get("total", bar.total)
            bar.update()
            yield item


def silent(iterable: Iterable, total: int, label: str) -> Iterator[Any]:
    """Give an iterable back, as `progress` does, and show nothing."""
    return iter(iterable)


def printable(text: str) -> str:
    """Return text on one line, control characters as backslash escapes: a terminal would obey them."""
    return "".join(letter if letter.isprintable() or letter == " " else repr(letter)[1:-1] for letter in text)


def say(text: str, to: TextIO | None = None) -> None:
    """Write lines, made `printable`, to a stream (stderr unless another is given), above the bar if one is shown."""
    text = "\n".join(map(printable, text.split("\n")))
    stream = to or sys.stderr
    if stream is None:  # a program without a console
        return
    if _is_terminal(sys.stderr):
        from tqdm import tqdm

        tqdm.write(text, file=stream)
    else:
        print(text, file=stream)
    stream.flush()


def _figures(item: dict[str, Any]) -> str:
    known = {name: value for name, value in item.items() if isinstance(value, float) and math.isfinite(value)}
    return " ".join(
        f"{name} {value:.1f}" if abs(value) >= 10 else f"{name} {value:.3g}" for name, value in known.items()
    )


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
