"""Named arrays and a JSON header in one .npz file (a zip of .npy files): open, compact, and
without pickle."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

HEADER = "header.json"


def write_arrays(
    path: str | Path,
    kind: str,
    header: dict[str, Any],
    arrays: dict[str, np.ndarray],
    *,
    compress: bool = True,
) -> None:
    """Write `arrays` and the JSON-able `header` to `path`, which holds the old file or the
    new one, never half of one.

    kind names what the file is, such as "lrdlib-run/1"; `read_arrays` asks for it.
    compress=False is ten times as fast, for files that are soon replaced. Raises TypeError
    for an array of objects or a header that JSON cannot hold, and OSError if the disk
    refuses; the old file is intact then.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"arrays[{name!r}] must hold numbers, got dtype {array.dtype}")
    text = json.dumps(
        {**header, "kind": kind, "sha256": _digest(arrays)}, sort_keys=True
    ).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            contents = {HEADER: np.frombuffer(text, np.uint8), **arrays}
            (np.savez_compressed if compress else np.savez)(file, **contents)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(
    path: str | Path, kind: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_arrays` wrote: (header, arrays).

    Raises FileNotFoundError if there is no file, ValueError if it is damaged, foreign or of
    another kind.
    """
    header, digest, arrays = _read(path, kind)
    if digest != _digest(arrays):
        raise ValueError(
            f"path must be a whole {kind} file, got {str(path)!r}, whose contents do not "
            "match its checksum"
        )
    return header, arrays


def read_header(path: str | Path, kind: str) -> dict[str, Any]:
    """The header alone, as `read_arrays` gives it; the arrays are neither read nor checked.
    Raises as it does."""
    return _read(path, kind, arrays=False)[0]


def _read(
    path: str | Path, kind: str, *, arrays: bool = True
) -> tuple[dict[str, Any], str, dict[str, np.ndarray]]:
    """The header, what it says is the digest, and the arrays (none if they are not
    wanted)."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            header = json.loads(file[HEADER].tobytes())
            contents = {
                name: file[name] for name in file.files if arrays and name != HEADER
            }
        found, digest = header.pop("kind"), header.pop("sha256")
    except FileNotFoundError:
        raise
    except Exception as error:  # damage shows as anything: zip, zlib, struct, JSON, key, type and other errors
        raise ValueError(
            f"path must be a whole {kind} file, got {str(path)!r}, which cannot be read: "
            f"{error}"
        ) from error
    if found != kind:
        raise ValueError(
            f"path must be a {kind} file, got {str(path)!r}, which is {found!r}"
        )
    return header, digest, contents


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the names, types, shapes and bytes of the arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
