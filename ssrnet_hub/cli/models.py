"""`ssrnet-hub models`: the weights that have a name."""

import argparse

from ..models.pretrained import DEFAULT, OWNER_VARIABLE, ZOO, count_parameters, list_models
from .printing import table

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    models = commands.add_parser("models", help="list the weights that have a name")
    models.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    rows = []
    for name in list_models(include_hub=True):
        weights = ZOO[name]
        where = "in this package" if weights.embedded else weights.repo or f"the Hub, once {OWNER_VARIABLE} is set"
        notes = "the default" if name == DEFAULT else "gender" if weights.ends else ""
        rows.append((name, f"{count_parameters(name):,}", where, weights.license, notes))
    print(table(("name", "parameters", "where", "licence", ""), rows))
    return 0
