"""Named arrays and a JSON header in one .npz file (a zip of .npy files): open, compact, and
without pickle.

A file may come from anywhere. Reading takes only what `write_arrays` writes (numbers, whole
or deflated, of a size that is known beforehand), and leaves alone what a file manager adds.
Whatever else is in it is one ValueError that names it. A file that cannot be read, for
which the system has its own reason, is the system's OSError or MemoryError.
"""

import ast
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lrdlib._check import shown

HEADER = "header.json"
NUMBERS = "biufc"  # kinds of dtype: booleans, integers, floats, complex numbers
LIMIT = 2**30  # bytes to which a file may unpack; a larger file, to its own size
SMALL = 2**22  # bytes of the zip's directory and of the header: thousands of runs' names
PIECE = 2**20  # bytes that are read at once
# what numpy, and the lab's page, write at the head of a member
NPY = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=]?[biufc]\d{1,2})', "
    r"'fortran_order': (?P<fortran>True|False), "
    r"'shape': (?P<shape>\((?:\d{1,19}(?:, ?|(?=\))))*\)),? ?\}\s*"
)


def write_arrays(
    path: str | Path,
    kind: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    compress: bool = True,
) -> None:
    """Write `arrays` and the JSON-able `header` to `path`, which holds the old file or the
    new one, never half of one.

    kind names what the file is, such as "lrdlib-run/1"; `read_arrays` asks for it.
    compress=False is ten times as fast, for files that are soon replaced; arrays of more
    than LIMIT bytes are never compressed. Raises TypeError for an array that holds no
    numbers or a header that JSON cannot hold, ValueError for a path that is a pipe, a
    socket or a device, and OSError if the disk refuses; the old file is intact then.
    """
    path = checked_path("path", path)
    if not path.name:
        raise ValueError(f"path must name a file, got {str(path)!r}")
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS:
            found = getattr(array, "dtype", type(array).__name__)
            raise TypeError(f"arrays[{name!r}] must hold numbers, got dtype {found}")
    text = json.dumps(
        {**header, "kind": kind, "sha256": _digest(arrays)}, sort_keys=True
    ).encode()
    if len(text) > SMALL:
        raise ValueError(f"header must take at most {SMALL} bytes, got {len(text)}")
    _refuse_special(path)
    compress = compress and sum(array.nbytes for array in arrays.values()) <= LIMIT
    with written_whole(path) as file:
        contents = {HEADER: np.frombuffer(text, np.uint8), **arrays}
        (np.savez_compressed if compress else np.savez)(file, **contents)  # type: ignore[arg-type]


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which is at `path` once the block has ended: all of it, at once.
    After an exception what was there before is there as before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(
    path: str | Path, kind: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what `write_arrays` wrote: (header, arrays).

    Raises FileNotFoundError if there is no file; another OSError, or MemoryError, if it
    cannot be read; ValueError if it is damaged, foreign, of another kind, no file but a
    pipe, a socket or a device, or would unpack to more than LIMIT bytes (and more than its
    own size).
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


def checked_path(name: str, path: object) -> Path:
    """`path` as a Path. Raises TypeError unless it is a str or a Path; an int would be an
    open file of this process, such as the one it prints to."""
    if not isinstance(path, (str, Path)):
        raise TypeError(f"{name} must be a str or a Path, got {shown(path)}")
    if "\0" in str(path):
        raise ValueError(f"{name} must be a path, got {str(path)!r}, with a NUL in it")
    return Path(path)


def _read(
    path: str | Path, kind: str, *, arrays: bool = True
) -> tuple[dict[str, Any], str, dict[str, np.ndarray]]:
    """The header, what it says is the digest, and the arrays (none if they are not
    wanted)."""
    path = checked_path("path", path)
    _refuse_special(path)
    with _Stream(open(path, "rb", buffering=0)) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = _members(archive, max(LIMIT, os.fstat(stream.fileno()).st_size))
                first = members.pop(HEADER)
                if first.file_size > SMALL:
                    raise ValueError(
                        f"its header says that it takes {first.file_size} bytes"
                    )
                header = json.loads(_array(archive, first).tobytes())
                wanted = members if arrays else {}
                contents = {name: _array(archive, m) for name, m in wanted.items()}
            found, digest = header.pop("kind"), header.pop("sha256")
        except MemoryError:
            raise
        except Exception as error:  # damage: a zip, zlib, JSON, key, type or other error
            if stream.failed is not None:
                raise stream.failed from None
            raise ValueError(
                f"path must be a whole {kind} file, got {str(path)!r}, which cannot be "
                f"read: {type(error).__name__}: {error!s:.300}"
            ) from error
    if found != kind:
        raise ValueError(
            f"path must be a {kind} file, got {str(path)!r}, which is {shown(found)}"
        )
    return header, digest, contents


class _Stream(io.BufferedReader):
    """A file of which no more than SMALL bytes are read at once, and that keeps the error
    with which the system refused to read, as zipfile takes some for damage."""

    failed: OSError | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = SMALL  # the last 64 kB, in which zipfile looks for the directory
        if size > SMALL:
            raise ValueError(f"its directory says that it takes {size} bytes")
        try:
            return super().read(size)
        except OSError as error:
            self.failed = error
            raise

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno != errno.EINVAL:  # before the file's beginning: that is damage
                self.failed = error
            raise


def _members(archive: zipfile.ZipFile, limit: int) -> dict[str, zipfile.ZipInfo]:
    """The .npy members by the names of their arrays; strays are left alone."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename or name.startswith("__MACOSX/"):
            continue
        if name in members:
            raise ValueError(f"it holds {name!r} twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name!r} has compression {member.compress_type}")
        members[name] = member
    total = sum(member.file_size for member in members.values())
    if total > limit:
        raise ValueError(f"it must unpack to at most {limit} bytes, and says {total}")
    return members


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array in a .npy member. No more is read than the zip's directory says, and
    nothing before the member's own head has said the same."""
    with archive.open(member) as file:
        start = file.read(10)  # magic, version, length of what follows
        head = file.read(int.from_bytes(start[8:], "little"))
        form = NPY.fullmatch(head.decode("latin1"))
        if start[:8] != b"\x93NUMPY\x01\x00" or form is None:
            raise ValueError(f"{member.filename!r} holds no numbers of numpy's")
        dtype, shape = np.dtype(form["dtype"]), ast.literal_eval(form["shape"])
        size = dtype.itemsize * math.prod(shape)
        if dtype.kind not in NUMBERS or len(start) + len(head) + size != member.file_size:
            raise ValueError(
                f"{member.filename!r} must hold {member.file_size} bytes, got {dtype} of "
                f"shape {shape}"
            )
        content = bytearray()  # grows by what is there, whatever the file says
        while piece := file.read(PIECE):  # at its end the member's checksum is compared
            content += piece
    if len(content) != size:
        raise ValueError(f"{member.filename!r} ends after {len(content)} of {size} bytes")
    order: Any = "F" if form["fortran"] == "True" else "C"
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _refuse_special(path: Path) -> None:
    """Raise ValueError for a pipe, a socket or a device: to open one may block for ever,
    and do more than reading."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"path must be a file, got {str(path)!r}, which is a special one")


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the names, types, shapes and bytes of the arrays."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
