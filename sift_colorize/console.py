"""How the command line behaves, whatever the command: one sentence per error, exit codes, the nearest name.

The library is imported only where something went wrong, so that ``--help`` is there at once.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import click

from .progress import say
from .stopping import INTERRUPTED, leave_now, listening

DONE, INTERNAL, WRONG_USE, SOME_FAILED, NO_PHOTOS = 0, 1, 2, 3, 4
RESUMED = ("fit", "colorize")
DEBUG = "SIFT_COLORIZE_DEBUG"


class Commands(click.Group):
    """Commands whose errors are one sentence and an exit code."""

    def main(self, args=None, prog_name=None, **extra: Any) -> Any:  # type: ignore[override]
        """Run a command and leave with its exit code."""
        args = list(sys.argv[1:] if args is None else args)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a name that the terminal can't show is no reason to fail
                stream.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                with listening():
                    code = super().main(args, prog_name or "sift-colorize", **extra | {"standalone_mode": False})
            except (click.Abort, KeyboardInterrupt):
                resumed = next((arg for arg in args if arg in self.commands), "") in RESUMED
                again = "; the same command, run again, goes on where it stopped" if resumed else ""
                report(f"interrupted{again}", "")
                code = INTERRUPTED
            except Exception as error:
                code = _explain(error)
        sys.exit(code if isinstance(code, int) else DONE)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Return the command of a name, or fail with the nearest."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            hint = _nearest(args[0], self.commands)
            raise click.UsageError(f"no command '{args[0]}'; there are {', '.join(self.commands)}{hint}", ctx)
        return super().resolve_command(ctx, args)


class Choice(click.Choice):
    """A choice that names the nearest accepted value."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value if it is one of the choices."""
        if value not in self.choices:
            self.fail(
                f"{value!r} is not one of {', '.join(self.choices)}{_nearest(str(value), self.choices)}", param, ctx
            )
        return value


def leave(code: int) -> None:
    """End the process at once: Python would take a third of a second to put LLVM away.

    If it has workers they are waited for; if it was interrupted they are not.
    """
    pool = sys.modules.get("joblib.externals.loky.reusable_executor")
    if pool is not None and pool._executor is not None:
        if code == INTERRUPTED:
            leave_now()
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        return
    os._exit(code)


def _nearest(name: str, known: Any) -> str:
    from .checks import nearest

    return nearest(name, known)


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    say(f"warning: {' '.join(str(message).split())}")


def report(sentence: str, lead: str = "error: ") -> None:
    """Write one line to stderr."""
    say(lead + " ".join(sentence.split()))


def _explain(error: Exception) -> int:
    """Say what went wrong in one sentence; return the exit code."""
    from .checks import ClusterError, ColorizeError, NoPhotosError, PhotoError, StorageError, WorkersError

    if isinstance(error, click.ClickException):
        report(_usage(error))
        return WRONG_USE
    if isinstance(error, ColorizeError):
        report(str(error))
        some_failed = PhotoError, StorageError, WorkersError, ClusterError
        codes: dict[Any, int] = {NoPhotosError: NO_PHOTOS, some_failed: SOME_FAILED}
        return next((code for kinds, code in codes.items() if isinstance(error, kinds)), WRONG_USE)
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exception(error)
    report(f"internal error: {type(error).__name__}: {error}; please report it (--debug shows where it came from)", "")
    return INTERNAL


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [name for parameter in context.command.params for name in parameter.opts if name.startswith("-")]
        message = f"no option '{error.option_name}'{_nearest(error.option_name, [*known, '--help'])}"
    place = context.command_path if context is not None else "sift-colorize"
    return message if "did you mean" in message else f"{message}; `{place} --help` says what is accepted"


def report_failures(failures: Any) -> int:
    """Write one line for each file that failed; return the exit code."""
    for failure in failures:
        report(failure.reason, "failed: ")
    return SOME_FAILED if failures else DONE


def print_json(value: Any) -> None:
    """Write a value to stdout as one JSON object."""
    say(json.dumps(_plain(value), indent=2, ensure_ascii=True), sys.stdout)


def _plain(value: Any) -> Any:
    """Return a value with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value


def keep_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Have tracebacks shown."""
    if value:
        os.environ[DEBUG] = "1"


def show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Print the version and leave."""
    if value:
        from . import __version__

        click.echo(f"sift-colorize {__version__}")
        ctx.exit()
