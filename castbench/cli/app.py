"""The `castbench` command: what its subcommands are, and how errors become one sentence and an exit code."""

from __future__ import annotations

import io
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Annotated, NoReturn

import typer

from castbench import __version__
from castbench.cli.capacity import capacity_command
from castbench.cli.compare import compare_command
from castbench.cli.diff import diff_command
from castbench.cli.doctor import doctor_command
from castbench.cli.mechanisms import mechanisms_command
from castbench.cli.prices import prices_command
from castbench.cli.profile import profile_command
from castbench.cli.rehearse import rehearse_command
from castbench.cli.report import report_command
from castbench.cli.runs import runs_app
from castbench.cli.settings import Settings
from castbench.cli.verify import verify_command
from castbench.cli.workload import app as workload_app
from castbench.errors import CastbenchError, Interrupted

HELP = """What would this attention cost us? Measures CAST attention and its rivals on your workload and your machine.

\b
Start here:
  castbench profile quickstart                 measure a small example, about a minute on a laptop
  castbench workload init mine.yaml            write a profile of your own, with comments
  castbench profile mine.yaml                  measure it
  castbench report --format csv --out r.csv    the last run for a spreadsheet
  castbench compare a100 l4                    machines side by side
  castbench diff before after                  what changed, with gates for CI

Results go to stdout, progress and warnings to stderr. Exit codes: 0 ok, 1 other, 2 bad input, 3 hardware,
4 run file, 5 a gate is missed, 130 interrupted.
"""

app = typer.Typer(
    name="castbench", help=HELP, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)  # fmt: skip
app.command("profile")(profile_command)
app.command("report")(report_command)
app.command("compare")(compare_command)
app.command("diff")(diff_command)
app.command("capacity")(capacity_command)
app.command("rehearse")(rehearse_command)
app.add_typer(workload_app, name="workload")
app.add_typer(runs_app, name="runs")
app.command("mechanisms")(mechanisms_command)
app.command("prices")(prices_command)
app.command("doctor")(doctor_command)
app.command("verify")(verify_command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"castbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no notes on stderr.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is being done.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="On an error, print the traceback and write it to castbench-debug.log.")
    ] = False,
) -> None:
    """Options that every command takes."""
    context.obj = Settings(quiet=quiet, verbose=verbose, debug=debug)


def main() -> NoReturn:
    """Run the command line and end the process with the right exit code."""
    for polite in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(polite, _as_interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except SystemExit as end:
        if end.code == Interrupted.exit_code:
            _say("interrupted")
        raise
    except (Exception, KeyboardInterrupt) as error:
        message, code = _told(error)
        _end(error, message, code)
    sys.exit(0)


def _told(error: BaseException) -> tuple[str, int]:
    """What a user is told of an error, and the exit code."""
    if isinstance(error, CastbenchError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Interrupted.exit_code
    if isinstance(error, BrokenPipeError):
        return "", 0
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror}", 1
    return f"internal error: {type(error).__name__}: {error}; --debug shows where", 1


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A polite kill ends a run as Ctrl-C does: what was measured is kept."""
    raise KeyboardInterrupt


def _end(error: BaseException, message: str, code: int) -> NoReturn:
    """One sentence on stderr, the traceback only under --debug."""
    if "--debug" in sys.argv[1:]:
        import traceback
        from pathlib import Path

        text = "".join(traceback.format_exception(error))
        Path("castbench-debug.log").write_text(text, encoding="utf-8")
        sys.stderr.write(f"{text}(also in castbench-debug.log)\n")
    if message:
        _say(message)
    else:
        sys.stderr.close()  # the reader of a pipe is gone: nothing to say, and nothing to flush at exit
    sys.exit(code)


def _say(message: str) -> None:
    """A message on stderr, every line under the program's name; nothing where there is no stderr any more."""
    lines = message.splitlines()
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write("\n".join(f"castbench: {line}" for line in lines) + "\n")
