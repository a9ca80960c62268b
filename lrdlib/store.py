"""Named arrays and a JSON header in one .npz file (a zip of .npy files): open, compact, and without pickle."""

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

HEADER = "header.json"


def write_arrays(path: str | Path, kind: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write `arrays` and the JSON-able `header` to `path`, which holds the old file or the new one, never half of one.

    kind names what the file is, such as "lrdlib-run/1"; `read_arrays` asks for it. Raises TypeError for an array of
    objects or a header that JSON cannot hold, and OSError if the disk refuses; the old file is intact then.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"arrays[{name!r}] must hold numbers, got dtype {array.dtype}")
    text = json.dumps({"kind": kind, **header}, sort_keys=True).encode()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{HEADER: np.frombuffer(text, np.uint8)}, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_arrays` wrote: (header, arrays).

    Raises FileNotFoundError if there is no file, ValueError if it is damaged, foreign or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays.pop(HEADER).tobytes())
        found = header.pop("kind")
    except FileNotFoundError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"path must be a whole {kind} file, got {str(path)!r}, which cannot be read: {error}"
        ) from error
    if found != kind:
        raise ValueError(f"path must be a {kind} file, got {str(path)!r}, which is {found!r}")
    return header, arrays
