"""Stopping when asked to: on SIGINT (Ctrl-C) and SIGTERM a run ends within two seconds, and leaves nothing half done.

Python hears a signal between two of its own steps, and a decoder may be busy for longer. So a thread listens as well:
if the program has not ended by itself after a while, it ends the workers, removes what was being written, and leaves.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 1.2  # s, that the program has to end by itself
INTERRUPTED = 130

_at_the_end: list[Callable[[], None]] = []


@contextmanager
def at_the_end(clean: Callable[[], None]) -> Iterator[None]:
    """Have `clean` called if the program is ended by a signal inside the block."""
    _at_the_end.append(clean)
    try:
        yield
    finally:
        _at_the_end.remove(clean)


@contextmanager
def listening() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and SIGTERM inside the block; and leave, should that not be heard."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hears, tells = socket.socketpair()
    tells.setblocking(False)
    before = {number: signal.signal(number, _interrupt) for number in _signals()}
    old = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_listen, args=(hears,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        tells.close()


def leave_now() -> None:
    """End the workers, remove what they were writing, and end the program."""
    end_workers()
    for clean in reversed(_at_the_end):
        clean()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    os._exit(INTERRUPTED)


def end_workers() -> None:
    """Kill all processes that this one has started."""
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        try:
            child.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(children, timeout=0.5)


def _signals() -> tuple[int, ...]:
    return (signal.SIGINT, signal.SIGTERM)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _listen(hears: socket.socket) -> None:
    with hears:
        heard = hears.recv(1)
    if heard and heard[0] in _signals():
        time.sleep(PATIENCE)
        leave_now()
