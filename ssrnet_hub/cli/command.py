"""The command `ssrnet-hub`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Optional

from ..errors import SSRNetHubError
from ..utils.io import on_one_line
from ..utils.torch_needed import torch_needed
from ..utils.version import __version__
from . import (
    average,
    calibrate,
    compare,
    convert,
    demo,
    env,
    evaluate,
    export,
    film,
    models,
    predict,
    push,
    train,
    verify,
)

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = (
    predict,
    film,
    demo,
    models,
    train,
    evaluate,
    compare,
    calibrate,
    average,
    export,
    convert,
    push,
    verify,
    env,
)
"""The modules of the commands, in the order of the help. None imports more than it needs for its options."""


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command, and those of its subcommands by name."""
    parser = argparse.ArgumentParser(
        "ssrnet-hub", description="Estimate the age of every face in a photo with SSR-Net."
    )
    parser.add_argument("--version", action="version", version=__version__, help="Print the version and exit")
    parser.set_defaults(check=lambda args: None, resumable=lambda args: False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser, commands.choices


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns the exit code: 0, or 1 where something failed, or 2 where the call is wrong."""
    parser, choices = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # argparse would show the usage of the command without its subcommand, and values, of which one may be a token
        owner = choices.get(args.command, parser)
        names = [text.partition("=")[0] for text in unknown if text.startswith("-")] or unknown
        near = get_close_matches(names[0], owner._option_string_actions, n=1)
        owner.error(f"unrecognized arguments: {' '.join(names)}" + (f" (did you mean {near[0]}?)" if near else ""))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # names of files may hold what the terminal or file cannot
            stream.reconfigure(errors="backslashreplace")
    if not args.command:
        parser.print_help(sys.stderr)
        return 2
    if wrong := args.check(args):
        choices[args.command].error(wrong)
    try:
        with torch_needed(f"ssrnet-hub {args.command}"):
            code = args.run(args)
        sys.stdout.flush()
        return code
    except argparse.ArgumentError as e:
        # checks that depend on the weights
        choices[args.command].error(str(e))
    except SSRNetHubError as e:
        print(f"error: {on_one_line(str(e))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted" + ("; continue with --resume" if args.resumable(args) else ""), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader, such as head, has closed the pipe; the flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
