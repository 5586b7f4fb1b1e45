"""The form of a bundle that `tune` found to be the fastest on this machine, remembered by bundle and CPU."""

from __future__ import annotations

import msgspec

from . import cache
from .manifest import Manifest

KIND = "tuned"


class Choice(msgspec.Struct, frozen=True):
    """variant: "" in a bundle of one; threads: how many compute; engines: by name, the version that was measured, "" where it was missing."""

    variant: str
    threads: int
    engines: dict[str, str]


def recall(manifest: Manifest) -> Choice | None:
    """What was remembered for this bundle on this CPU."""
    found = cache.fetch(KIND, _key(manifest))
    if found is None:
        return None
    try:
        choice = msgspec.json.decode(found, type=Choice)
    except msgspec.MsgspecError:
        return None
    return choice if choice.variant in manifest.forms() and choice.threads > 0 else None


def remember(manifest: Manifest, choice: Choice) -> bool:
    """Whether it could be remembered."""
    cache.keep(KIND, _key(manifest), msgspec.json.encode(choice))
    return recall(manifest) == choice


def _key(manifest: Manifest) -> str:
    return cache.key_of([manifest.digest])
