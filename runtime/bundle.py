"""The bundle on disk: everything is checked before any of its bytes are used, and it is written whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from ..errors import BundleError, InputError
from .manifest import SCHEMA_VERSION, FileEntry, Manifest, seal, unseal

MANIFEST = "manifest.json"
EVIDENCE = "evidence"
INDEX = f"{EVIDENCE}/index.json"
LARGEST_MANIFEST = 16 * 1024 * 1024  # bytes; a larger one is not ours, and is not parsed


class Bundle(msgspec.Struct, frozen=True):
    """A checked bundle. `files` holds the bytes that were hashed, so what runs is what was checked."""

    path: Path
    manifest: Manifest
    files: Mapping[str, bytes]

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Reads a bundle; raises BundleError that names the file for anything missing, added, changed or newer.

        InputError where `path` is no bundle at all.
        """
        root = Path(path)
        if not root.is_dir():
            what = "is a file, not a folder" if root.exists() else "does not exist"
            raise InputError(f"bundle {root} {what}: give the folder that `edgeattn compile` wrote.")
        manifest = _read_manifest(root)
        files = _read_files(root, manifest.files, "the manifest")
        _check_no_extras(root, manifest)
        for artifact in (manifest.artifact, *(other.artifact for other in manifest.variants)):
            if artifact not in manifest.files:
                raise BundleError(f"{MANIFEST} names {artifact!r} as what runs, but does not list it: recompile.")
        if len(manifest.forms()) != 1 + len(manifest.variants):
            raise BundleError(f"{MANIFEST} has two variants of one name: recompile.")
        return cls(root, manifest, files)

    def forms(self) -> dict[str, Bundle]:
        """By name, this bundle as each of the network's forms in it; its own comes first, under "" where it is the only one."""
        return {name: Bundle(self.path, manifest, self.files) for name, manifest in self.manifest.forms().items()}

    def read(self, name: str) -> bytes:
        """The checked bytes of one file; raises BundleError if the manifest does not list it."""
        if name not in self.files:
            raise BundleError(f"{self.path}: the bundle has no file {name}.")
        return self.files[name]


def write_bundle(path: str | Path, manifest: Manifest, files: Mapping[str, bytes], evidence: Mapping[str, bytes]) -> Manifest:
    """Writes a bundle beside `path` and renames it into place, replacing an older bundle; returns the sealed manifest.

    evidence: by name inside evidence/. Whatever happens, an older bundle at `path` stays until the new one is complete.
    Raises InputError where `path` exists and is no bundle, or cannot be written (full disk, no permission).
    """
    target = Path(path)
    if target.exists() and not (target / MANIFEST).is_file():
        raise InputError(f"{target} exists and is not an edgeattn bundle: choose another --output or remove it.")
    entries = {name: _entry(data) for name, data in sorted(files.items())}
    sealed = seal(msgspec.structs.replace(manifest, schema=SCHEMA_VERSION, files=entries))
    everything = {**files, MANIFEST: sealed, **_evidence_files(sealed, evidence)}
    partial = _beside(target, "partial")
    try:
        for name, data in everything.items():
            _write(partial / _checked_name(name), data)
        _replace(partial, target)
    except OSError as error:
        raise InputError(f"bundle {target} cannot be written ({error.strerror or error}): nothing was changed.") from None
    finally:
        _remove(partial)
    return msgspec.convert(unseal(sealed, MANIFEST), Manifest)


def add_evidence(path: str | Path, name: str, data: bytes) -> None:
    """Adds or replaces one file of evidence/ and its index. Raises InputError where it cannot be written."""
    root = Path(path)
    sealed = (root / MANIFEST).read_bytes()
    index = _read_index(root, sealed)
    entries = {**index, name: _entry(data)}
    try:
        _write_whole(root / EVIDENCE / _checked_name(name), data)
        _write_whole(root / INDEX, _index(sealed, entries))
    except OSError as error:
        raise InputError(f"evidence of {root} cannot be written ({error.strerror or error}).") from None


def _read_manifest(root: Path) -> Manifest:
    data = _read(root, MANIFEST, LARGEST_MANIFEST)
    plain = unseal(data, f"{root / MANIFEST}")
    version = plain.get("schema")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise BundleError(f"{root / MANIFEST} has schema {version!r}, this edgeattn reads up to {SCHEMA_VERSION}: upgrade edgeattn on this device.")
    try:
        return msgspec.convert(plain, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{root / MANIFEST} is not a valid manifest ({error}): recompile.") from None


def _read_files(root: Path, entries: Mapping[str, FileEntry], where: str) -> dict[str, bytes]:
    files = {}
    for name, entry in entries.items():
        data = _read(root, _checked_name(name), entry.size)
        if len(data) != entry.size:
            raise BundleError(f"{root / name} has {len(data)} bytes, {where} says {entry.size}: copy the bundle again.")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{root / name} was changed (its sha256 is not the one in {where}): copy the bundle again.")
        files[name] = data
    return files


def _check_no_extras(root: Path, manifest: Manifest) -> None:
    """Every file on disk must be listed: by the manifest, or under evidence/ by its index."""
    index = _read_index(root, (root / MANIFEST).read_bytes())
    listed = {MANIFEST, INDEX, *manifest.files, *(f"{EVIDENCE}/{name}" for name in index)}
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            relative = (Path(folder) / name).relative_to(root).as_posix()
            is_folder = name in names and not (Path(folder) / name).is_symlink()
            if relative not in (folders if is_folder else listed):
                raise BundleError(f"{root / relative} is not part of the bundle: remove it, or copy the bundle again.")


def _read_index(root: Path, sealed_manifest: bytes) -> dict[str, FileEntry]:
    plain = unseal(_read(root, INDEX, LARGEST_MANIFEST), f"{root / INDEX}")
    if plain.get("manifest") != _digest(sealed_manifest):
        raise BundleError(f"{root / INDEX} belongs to another bundle: copy the bundle again.")
    try:
        entries = msgspec.convert(plain.get("files"), dict[str, FileEntry])
    except msgspec.ValidationError as error:
        raise BundleError(f"{root / INDEX} is not valid ({error}): copy the bundle again.") from None
    _read_files(root, {f"{EVIDENCE}/{name}": entry for name, entry in entries.items()}, INDEX)
    return entries


def _read(root: Path, name: str, largest: int) -> bytes:
    """One file's bytes, at most one more than `largest`; symbolic links are not followed."""
    path = root
    for part in PurePosixPath(name).parts:
        path = path / part
        if path.is_symlink():
            raise BundleError(f"{path} is a symbolic link, which a bundle never holds: copy the bundle again.")
    if not path.is_file():
        raise BundleError(f"{path} is missing: copy the bundle again.")
    try:
        with path.open("rb") as file:
            return file.read(largest + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}).") from None


def _checked_name(name: str) -> str:
    """`name` if it stays inside the folder; BundleError if not."""
    path = PurePosixPath(name)
    bad = not name or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name or str(path) != name
    if bad:
        raise BundleError(f"{name!r} in {MANIFEST} leaves the bundle's folder or is no plain relative path: do not use this bundle.")
    return name


def _evidence_files(sealed_manifest: bytes, evidence: Mapping[str, bytes]) -> dict[str, bytes]:
    index = _index(sealed_manifest, {name: _entry(data) for name, data in evidence.items()})
    return {INDEX: index, **{f"{EVIDENCE}/{name}": data for name, data in evidence.items()}}


def _index(sealed_manifest: bytes, entries: Mapping[str, FileEntry]) -> bytes:
    return seal({"manifest": _digest(sealed_manifest), "files": msgspec.to_builtins(dict(entries))})


def _entry(data: bytes) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _write_whole(path: Path, data: bytes) -> None:
    partial = _beside(path, "partial")
    try:
        _write(partial, data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _replace(partial: Path, target: Path) -> None:
    """Renames `partial` to `target`; an older bundle is moved aside first and removed only once the new one stands."""
    if not target.exists():
        partial.rename(target)
        return
    aside = _beside(target, "partial-old")
    target.rename(aside)
    try:
        partial.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    _remove(aside)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}-{os.urandom(4).hex()}")


def _remove(folder: Path) -> None:
    import shutil  # 4 ms that loading does not need

    shutil.rmtree(folder, ignore_errors=True)


def describe(path: str | Path) -> dict[str, Any]:
    """What a bundle says about itself, once checked: its manifest and the sizes of its files."""
    bundle = Bundle.open(path)
    return {"path": str(bundle.path), "bytes": sum(map(len, bundle.files.values())), **msgspec.to_builtins(bundle.manifest)}
