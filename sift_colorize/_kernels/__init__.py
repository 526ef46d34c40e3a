"""numba kernels: arrays in, arrays out, unchecked; each file is named after the file that calls it."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path


def private_folder(name: str) -> Path:
    """Return a folder for temporary files that this user alone can write to: the same every time, if it is ours.

    What is compiled or cached runs as code when it is read: in a folder that others can write to, it could be theirs.
    """
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"{name}-{user}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        ours = stat.S_ISDIR(status.st_mode) and (not hasattr(os, "getuid") or status.st_uid == os.getuid())
        if ours and (os.name != "posix" or not status.st_mode & 0o022):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=f"{name}-"))


def _keep_compiled_somewhere() -> None:
    """Where neither the package nor the user's home can be written to, numba would refuse to compile with a cache."""
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent, os.W_OK):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    while home.is_absolute() and not home.exists():
        home = home.parent
    if home.is_absolute() and os.access(home, os.W_OK):
        return
    os.environ["NUMBA_CACHE_DIR"] = str(private_folder("sift_colorize-compiled"))
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


_keep_compiled_somewhere()
