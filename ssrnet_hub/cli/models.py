"""`ssrnet-hub models`: the weights that have a name."""

import argparse
import json
from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    models = commands.add_parser(
        "models",
        help="List available weights",
        description="List the weights in this package and those known on the Hugging Face Hub.",
    )
    models.add_argument("--json", action="store_true", help="Print a JSON list with an object per entry")
    models.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..models.zoo import DEFAULT, OWNER_VARIABLE, ZOO, count_parameters, list_models
    from .printing import table

    entries: list[dict[str, Any]] = [
        {
            "name": weights.name,
            "architecture": weights.architecture,
            "task": weights.task,
            "parameters": count_parameters(weights.name),
            "license": weights.license,
            "default": weights.name == DEFAULT,
            # what can be loaded here and now
            "available": weights.embedded or weights.repo is not None,
            "embedded": weights.embedded,
            "repo_id": weights.repo,
        }
        for weights in map(ZOO.__getitem__, list_models(include_hub=True))
    ]
    if args.json:
        print(json.dumps(entries, indent=2))
        return 0
    header = ("name", "task", "parameters", "available", "where", "license", "")
    rows = []
    for entry in entries:
        on_hub = entry["repo_id"] or f"the Hub, if {OWNER_VARIABLE} is set"
        rows.append(
            (
                entry["name"],
                entry["task"],
                f"{entry['parameters']:,}",
                "yes" if entry["available"] else "no",
                "in this package" if entry["embedded"] else on_hub,
                # as on the Hub, whose "other" has a name
                "research-use-only" if entry["license"] == "other" else entry["license"],
                "the default" if entry["default"] else "",
            )
        )
    print(table(header, rows))
    return 0
