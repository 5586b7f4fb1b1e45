"""Which module a bare state_dict belongs to: named by the user, or the one zoo model whose keys and shapes it has."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import InputError
from ..models.reference import Reference

SHOWN = 4  # keys listed in a message


@dataclass(frozen=True)
class Mismatch:
    """How a state_dict differs from a module: keys it lacks, keys the module lacks, keys of another shape."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    def __str__(self) -> str:
        parts = (("missing", self.missing), ("unexpected", self.unexpected), ("other shape", self.reshaped))
        return "; ".join(f"{word}: {_some(keys)}" for word, keys in parts if keys)


def mismatch(state: Mapping[str, torch.Tensor], module: nn.Module) -> Mismatch:
    """Compares keys and shapes."""
    wanted = module.state_dict()
    reshaped = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}" for key in wanted if key in state and state[key].shape != wanted[key].shape
    ]
    return Mismatch(tuple(key for key in wanted if key not in state), tuple(key for key in state if key not in wanted), tuple(reshaped))


def find_system(state: Mapping[str, torch.Tensor], registry: Mapping[str, Reference]) -> Reference:
    """The one zoo model that the state_dict fits; InputError lists the nearest ones and the keys that differ, or asks which."""
    differences = {name: mismatch(state, _skeleton(reference.build)) for name, reference in registry.items()}
    fits = [name for name, difference in differences.items() if not difference]
    if len(fits) == 1:
        return registry[fits[0]]
    if fits:
        raise InputError(f"the weights fit several models ({', '.join(fits)}): choose one with --model.")
    nearest = sorted(differences, key=lambda name: len(differences[name]))[:3]
    listed = ". ".join(f"Nearest: {name} ({differences[name]})" for name in nearest)
    raise InputError(f"the weights fit no model that edgeattn knows; give yours with --model package.module:factory. {listed}.")


def load_factory(spec: str) -> Callable[[], nn.Module]:
    """`package.module:factory` as a function that builds the module; the current folder is searched first.

    Raises InputError where the module or attribute is not found, or what it makes is no nn.Module.
    """
    module_name, _, attribute = spec.partition(":")
    if not attribute:
        raise InputError(f"--model {spec!r} is neither a zoo name (edgeattn models) nor of the form package.module:factory.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise InputError(f"--model {spec}: {module_name} cannot be imported ({error}); searched from {here}.") from None
    except AttributeError:
        raise InputError(f"--model {spec}: {module_name} has no {attribute}.") from None

    def build() -> nn.Module:
        try:
            module = factory()
        except Exception as error:  # the user's code may raise anything
            raise InputError(f"--model {spec} raised {type(error).__name__}: {error}") from error
        if not isinstance(module, nn.Module):
            raise InputError(f"--model {spec} made a {type(module).__name__}, not a torch.nn.Module.")
        return module

    return build


def check_fit(state: Mapping[str, torch.Tensor], build: Callable[[], nn.Module], name: str) -> None:
    """Raises InputError with the keys that differ where the weights do not fit."""
    difference = mismatch(state, build())
    if difference:
        raise InputError(f"the weights do not fit {name} ({difference}).")


def _skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """The module without memory behind its weights, where its constructor allows that."""
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return build()


def _some(keys: tuple[str, ...]) -> str:
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
