"""The command line: one file per subcommand, imported only when it is the one that was asked for.

Results go to stdout, messages to stderr. Exit codes: 0 done, 1 the machine failed (a full disk, no memory), 2 the
request cannot be met as given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import typer

from leanseg.errors import LeansegError

# Click's ClickException, the family of a wrong or missing argument, whether typer brings its own click or not.
_USAGE_ERROR: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_INTERRUPTED = 130
# Flags that take one value or several: `--keep-ratio 0.2 0.1` is `--keep-ratio 0.2 --keep-ratio 0.1`.
_SEVERAL = ("--pruner", "--keep-ratio")


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where a subcommand lives (the function has the subcommand's name) and its line in `leanseg --help`."""

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "segment": Command(
        module="leanseg.cli.segment",
        help="Segment what a sentence asks for in a picture, a clip or a folder of frames.",
    ),
    "eval": Command(module="leanseg.cli.eval", help="Score a model on a data set under pruners and keep ratios."),
    "report": Command(module="leanseg.cli.report", help="Write one self-contained page about an evaluation."),
    "study": Command(module="leanseg.cli.study", help="Answer questions about pruning: evaluations, intervals, plots."),
    "bench": Command(module="leanseg.cli.bench", help="Time the ways of choosing tokens on this machine."),
    "flops": Command(
        module="leanseg.cli.flops", help="Count what an answer costs, all tokens and pruned, without running it."
    ),
    "train": Command(module="leanseg.cli.train", help="Train the small model, or adapt a larger one with LoRA."),
    "scenes": Command(module="leanseg.cli.scenes", help="Write generated pictures and clips, instructions and masks."),
    "data": Command(module="leanseg.cli.data", help="Check, count and convert public data sets on this machine."),
    "pruners": Command(
        module="leanseg.cli.pruners", help="List the ways of choosing visual tokens, and their options."
    ),
    "doctor": Command(module="leanseg.cli.doctor", help="Report what is installed, and what this machine can run."),
}


def _not_loaded() -> None:
    """Stand in for the subcommands that are only listed."""


def _show_version(value: bool) -> bool:
    if value:
        from leanseg import __version__

        typer.echo(f"leanseg {__version__}")
        raise typer.Exit
    return value


def build_app(chosen: str | None) -> typer.Typer:
    """Return the application with the `chosen` subcommand imported; the others are names with a line of help.

    >>> [command.name for command in build_app(None).registered_commands][:1]
    ['segment']
    """
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(
        epilog='Example: leanseg segment picture.png "the dog left of the red apple" --pruner "evtp(keep_ratio=0.2)"'
    )
    def root(
        version: bool = typer.Option(
            False, "--version", callback=_show_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """Instructed segmentation of images and video with a fraction of the visual tokens."""

    for name, command in COMMANDS.items():
        if name == chosen:
            module = import_module(command.module)
            made = getattr(module, name.replace("-", "_"))
            if isinstance(made, typer.Typer):
                app.add_typer(made, name=name)
            else:
                app.command(name, epilog=getattr(module, "EPILOG", None))(made)
        else:
            app.command(name, help=command.help)(_not_loaded)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    chosen = next((word for word in words if not word.startswith("-")), None)
    try:
        # Not standalone: what typer finds wrong comes here, as one line like all others, and not as a framed text.
        code = build_app(chosen)(args=_spread(words), prog_name="leanseg", standalone_mode=False)
    except LeansegError as error:
        _fail(error, code=2)
    except _USAGE_ERROR as error:
        _fail(f"{error.format_message().rstrip('.')}; see {_help_command(words)}", code=2)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except (OSError, MemoryError) as error:
        _fail(error, code=1)
    if code == _INTERRUPTED:
        print("interrupted; what resumes goes on with the same command", file=sys.stderr)
    sys.exit(code or 0)


def _spread(words: Sequence[str]) -> list[str]:
    """Repeat a flag before each further value that follows it.

    >>> _spread(["--keep-ratio", ".2", ".1", "--json"])
    ['--keep-ratio', '.2', '--keep-ratio', '.1', '--json']
    """
    found: list[str] = []
    flag = None
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("--"):
            flag = word if word in _SEVERAL else None
        elif flag is not None and before != flag:
            found.append(flag)
        found.append(word)
    return found


def _help_command(words: Sequence[str]) -> str:
    known = next((word for word in words if word in COMMANDS), None)
    return f"leanseg {known} --help" if known else "leanseg --help"


def _fail(error: BaseException | str, *, code: int) -> NoReturn:
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
