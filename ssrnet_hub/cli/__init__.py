"""The command ``ssrnet-hub``: one module a subcommand, on top of everything else."""

from .command import main

__all__ = ["main"]
