"""The configs that benchmarks take by name."""

import importlib
from typing import Any


def named_config(name: str, *arguments: str) -> Any:
    """The config of a file of configs/ and its argument, as "text.py:data=rotten_tomatoes,labels=300", with further arguments."""
    file, _, argument = name.partition(":")
    return importlib.import_module(f"configs.{file.removesuffix('.py')}").get_config(",".join(filter(None, (argument, *arguments))))
