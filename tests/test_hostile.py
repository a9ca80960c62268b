"""Files from anywhere: a run or a checkpoint loads and is the one that was written, or it
is refused with one error that names it, at once and in little memory.

The files are drawn from a seed: the same ones everywhere. LRDLIB_HOSTILE=20000 tries as
many of them (the suite tries fewer, as they take time, the first ones of the same row).
"""

import io
import json
import multiprocessing
import os
import random
import resource
import socket
import struct
import tempfile
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from sweeping import SERVER

from lrdlib.training import store
from lrdlib.training.checkpoint import CHECKPOINT, checkpoint_configs
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import KIND, load_run, runs_of, save_run
from lrdlib.training.store import read_arrays, write_arrays
from lrdlib.training.train import train

FILES = int(os.environ.get("LRDLIB_HOSTILE", "1000"))
MEMORY = 2**28  # bytes that reading them may take, beside what the process had
TINY = TrainConfig(p=5, d_model=4, heads=2, layers=1, batch_size=8, steps=2, eval_every=1)


def head(shape="(3,)", descr="'<f4'", fortran=False) -> str:
    """What stands at the beginning of a .npy file."""
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


HEADS = [
    head("(-1,)"),
    head(f"({2**62},)"),
    head(f"({2**63}, {2**63})"),
    head(f"(0, {10**18})"),
    head("(1,) * 100"),
    head("(" + "1, " * 70 + ")"),
    head(descr="'|O'"),
    head(descr="'<U1'"),
    head(descr="'<f3'"),
    head("(1,)", descr="'<M8[s]'"),
    head("(1,)", descr="[('a', '<f4'), ('b', '|O')]"),
    head("(3, 1)", fortran=True),
    head("(3,)", descr="'>f4'"),
    head("(" * 5000 + ")" * 5000),
    head("-" * 9000 + "1"),
    head("__import__('os').abort()"),
    head("(3L,)"),
    "{}",
    "",
    "\0",
]


def npy(text: str, data: bytes = b"\0" * 12, version: int = 1) -> bytes:
    """A .npy file with this head, true or not."""
    start = b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H", len(text))
    return start + text.encode() + data


def rezipped(content: bytes, change) -> bytes:
    """The zip of what `change` makes of the members, a list of pairs of name and bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # of names twice
        for name, data in change(members):
            archive.writestr(name, data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def in_directory(content: bytes, which: int, offset: int, form: str, value: int) -> bytes:
    """The zip with another value in the directory's entry of a member."""
    found = [i for i in range(len(content)) if content.startswith(b"PK\1\2", i)]
    changed = bytearray(content)
    struct.pack_into(form, changed, found[which % len(found)] + offset, value)
    return bytes(changed)


def flipped(rng, content, other):
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def noisy_end(rng, content, other):
    """Flips in the directory, which is small and rarely struck."""
    start = content.rindex(b"PK\1\2") if rng.random() < 0.5 else len(content) - 22
    return content[:start] + flipped(rng, content[start:], other)


def truncated(rng, content, other):
    return content[: rng.randrange(len(content))]


def spliced(rng, content, other):
    cut = rng.randrange(len(content))
    return content[:cut] + other[rng.randrange(len(other)) :]


def cut_out(rng, content, other):
    a, b = sorted(rng.randrange(len(content)) for _ in range(2))
    return content[:a] + rng.choice([b"", bytes(b - a), rng.randbytes(b - a)]) + content[b:]


def of_other_sizes(rng, content, other):
    """Sizes, checksums, flags, methods and places in the directory are not the true ones."""
    offset, form = rng.choice(
        [(20, "<I"), (24, "<I"), (16, "<I"), (8, "<H"), (10, "<H"), (42, "<I"), (28, "<H")]
    )
    largest = 2 ** (8 * struct.calcsize(form)) - 1
    value = rng.choice([0, 1, 9, 12, 14, 99, rng.randrange(largest), largest])
    return in_directory(content, rng.randrange(99), offset, form, min(value, largest))


def of_other_members(rng, content, other):
    def change(members):
        kind, i = rng.randrange(6), rng.randrange(len(members))
        name, data = members[i]
        if kind == 0:
            return members[:i] + members[i + 1 :]
        if kind == 1:
            return [*members, (name, rng.choice([data, b"", b"\0" * 99]))]
        if kind == 2:
            new = rng.choice(["../x.npy", "/x.npy", ".npy", "a/../b.npy", "x" * 999])
            return [*members[:i], (new, data), *members[i + 1 :]]
        if kind == 3:
            stray = rng.choice(["notes.txt", ".DS_Store", f"__MACOSX/._{name}", "a/", "é"])
            return [*members, (stray, rng.randbytes(20))]
        if kind == 4:
            made = npy(rng.choice(HEADS), version=rng.choice([1, 1, 2, 3, 9]))
            return [*members[:i], (name, made), *members[i + 1 :]]
        changed = flipped(rng, data, other) if name != "header.json.npy" else data + b"x"
        return [*members[:i], (name, changed), *members[i + 1 :]]

    return rezipped(content, change)


WAYS = [
    flipped, noisy_end, truncated, spliced, cut_out, of_other_sizes, of_other_members,
    of_other_members,
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run and a checkpoint, as bytes."""
    folder = tmp_path_factory.mktemp("whole")
    training = train(TINY)
    list(training)
    training.save(folder / "checkpoint.npz")
    (run,) = runs_of(training)
    save_run(run, folder / "run.npz")
    return [(folder / name).read_bytes() for name in ("run.npz", "checkpoint.npz")]


def same(a, b) -> bool:
    """Whether two pairs of header and arrays are equal to the bit."""
    return a[0] == b[0] and {
        n: (x.dtype, x.shape, x.tobytes()) for n, x in a[1].items()
    } == {n: (x.dtype, x.shape, x.tobytes()) for n, x in b[1].items()}


def outcome(path, kind, expected) -> str:
    """What reading the file comes to; AssertionError where that is not allowed."""
    errors = []
    readers = (
        [lambda: load_run(path)] if kind == KIND else [lambda: checkpoint_configs(path)]
    )
    for reader in (*readers, lambda: same(read_arrays(path, kind), expected)):
        try:
            assert reader(), "loads, and is another"
        except (ValueError, OSError) as error:
            errors.append(error)
            assert str(path) in str(error) and "pickle" not in str(error), error
            assert len(str(error)) < 2000, str(error)[:500]
    return " ".join(sorted({type(error).__name__ for error in errors})) or "whole"


def read_hostile(whole, files, told) -> None:
    """In a process of its own: read so many files; tell the outcomes, how much memory they
    took (bytes), and what failed."""
    folder = Path(tempfile.mkdtemp())
    kinds, expected, counts = (KIND, CHECKPOINT), [], {}
    for kind, content in zip(kinds, whole, strict=True):
        (folder / "whole.npz").write_bytes(content)
        expected.append(read_arrays(folder / "whole.npz", kind))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path, rng, problem = folder / "hostile.npz", random.Random(0), None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(files):
            which, way = i % 2, rng.choice(WAYS)
            content = way(rng, whole[which], whole[1 - which])
            path.write_bytes(content)
            try:
                found = outcome(path, kinds[which], expected[which])
            except BaseException as error:
                problem = f"file {i}, {way.__name__}: {type(error).__name__}: {error}"
                break
            counts[found] = counts.get(found, 0) + 1
    path.unlink()
    (folder / "whole.npz").unlink()
    folder.rmdir()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told.send((counts, 1024 * (after - before), problem))


def test_hostile_files_are_refused_or_are_the_true_ones(whole):
    here, there = multiprocessing.Pipe()
    process = SERVER.Process(target=read_hostile, args=(whole, FILES, there))
    process.start()
    there.close()
    counts, memory, problem = here.recv()
    process.join()
    print(f"{FILES} files: {counts}; {memory / 2**20:.0f} MiB more than before")
    assert problem is None, problem
    assert sum(counts.values()) == FILES and memory < MEMORY
    assert counts["ValueError"] > FILES / 2 and counts["whole"] > 0  # strays, for example


# --- one by one -------------------------------------------------------------------------


def made(path, arrays) -> None:
    """A run's file of hand-made members: name (without .npy) and bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in arrays.items():
            archive.writestr(f"{name}.npy", data)


def json_head(header) -> bytes:
    text = json.dumps(header).encode()
    return npy(
        f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(text)},), }}", text
    )


@pytest.mark.parametrize("text", HEADS)
def test_heads_of_no_sense(tmp_path, text):
    path = tmp_path / "run.npz"
    header = {"kind": "k", "sha256": "", "config": {}}
    made(path, {"header.json": json_head(header), "a": npy(text)})
    with pytest.raises(ValueError, match=str(path)) as error:
        read_arrays(path, "k")
    assert "pickle" not in str(error.value)
    made(path, {"header.json": npy(text)})
    with pytest.raises(ValueError, match=str(path)):
        store.read_header(path, "k")


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">f8"),
        np.arange(3, dtype=">i2"),
        np.zeros((0, 3)),
        np.array(3),
        np.array([True]),
        np.arange(2) * 1j,
    ],
)
def test_all_numbers_come_back(tmp_path, array):
    write_arrays(tmp_path / "a.npz", "k", {"x": 1}, {"a": array})
    header, arrays = read_arrays(tmp_path / "a.npz", "k")
    assert header == {"x": 1} and arrays["a"].dtype == array.dtype
    np.testing.assert_array_equal(arrays["a"], array)
    assert arrays["a"].flags.writeable


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"3", b"null", b'"kind"', b"[" * 100_000, b'{"kind": "k"}', b"{", b"\xff",
     b'{"kind": ' + b"1" * 5000 + b', "sha256": 1}', b'{"kind": ["k"], "sha256": 1}'],
)  # fmt: skip
def test_headers_of_no_sense(tmp_path, text):
    path = tmp_path / "run.npz"
    made(path, {"header.json": npy(head(f"({len(text)},)", "'|u1'"), text)})
    with pytest.raises(ValueError, match=str(path)):
        read_arrays(path, "k")


def zeros(size: int) -> bytes:
    """`size` zeros, deflated: one MiB of them, which stands for itself, again and again."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = squeezer.compress(bytes(2**20)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    return piece * (size // 2**20) + squeezer.flush()


@pytest.mark.parametrize("says", [2**31, 1000, 0])
def test_a_bomb_is_refused_unread(tmp_path, says):
    """2 MB that unpack to 2 GiB, of which the directory says the truth, or not."""
    path, data = tmp_path / "run.npz", zeros(2**31 if says == 2**31 else 2**28)
    name = b"header.json.npy"
    entry = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(data), says, len(name), 0)
    directory = struct.pack("<HHHHHI", 0, 0, 0, 0, 0, 0)
    local = b"PK\3\4" + entry + name + data
    central = b"PK\1\2" + struct.pack("<H", 20) + entry + directory[2:] + b"\0\0" + name
    end = struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + b"PK\5\6" + end)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=str(path)) as error:
        load_run(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # kB
    assert says != 2**31 or f"at most {store.LIMIT} bytes" in str(error.value)


def test_a_large_file_is_no_bomb(tmp_path, monkeypatch):
    """What does not deflate, or is not deflated, may be larger than the limit."""
    monkeypatch.setattr(store, "LIMIT", 1000)
    path, arrays = tmp_path / "a.npz", {"a": np.zeros(10_000)}
    for compress in (False, True):
        write_arrays(path, "k", {}, arrays, compress=compress)
        assert same(read_arrays(path, "k"), ({}, arrays))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    made(path, {name.removesuffix(".npy"): data for name, data in members.items()})
    with pytest.raises(ValueError, match="unpack to at most"):
        read_arrays(path, "k")


@pytest.mark.parametrize(
    "stray", ["notes.txt", ".DS_Store", "__MACOSX/._header.json.npy", "a/", "../up", "é.md"]
)
def test_a_stray_member_is_left_alone(tmp_path, whole, stray):
    path = tmp_path / "run.npz"
    path.write_bytes(whole[0])
    expected = read_arrays(path, KIND)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(stray, "hello")
    assert same(read_arrays(path, KIND), expected) and load_run(path).label()


def test_special_files_are_refused_at_once(tmp_path, whole):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        with suppress(OSError):  # where the folder's name is too long for a socket's
            listening.bind(os.path.relpath(tmp_path / "socket"))
        (tmp_path / "link").symlink_to(tmp_path / "pipe")
        special = [
            tmp_path / "pipe",
            tmp_path / "link",
            Path(os.devnull),
            Path("/dev/zero"),
        ]
        special += [tmp_path / "socket"] if (tmp_path / "socket").exists() else []
        (tmp_path / "run.npz").write_bytes(whole[0])
        run = load_run(tmp_path / "run.npz")
        for path in special:
            for function in (load_run, checkpoint_configs, lambda it: save_run(run, it)):
                with pytest.raises(ValueError, match=f"got '{path}', which is a special"):
                    function(path)
    assert os.path.islink(tmp_path / "link") and (tmp_path / "pipe").is_fifo()


def test_what_cannot_be_read_is_the_systems_error(tmp_path, whole, monkeypatch):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    (tmp_path / "file").write_bytes(whole[0])
    cases = {
        tmp_path: IsADirectoryError,
        tmp_path / "none": FileNotFoundError,
        tmp_path / "dangling": FileNotFoundError,
        tmp_path / "file" / "run.npz": NotADirectoryError,
        tmp_path / "round": OSError,
        tmp_path / ("x" * 300): OSError,
    }
    for path, expected in cases.items():
        for function in (load_run, checkpoint_configs, store.read_header):
            arguments = (path, KIND) if function is store.read_header else (path,)
            with pytest.raises(expected):
                function(*arguments)

    def no_memory(*arguments, **options):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(zipfile, "ZipFile", no_memory)
        load_run(tmp_path / "file")


@pytest.mark.parametrize("at", range(6))
def test_an_error_of_the_disk_is_no_damage(tmp_path, whole, monkeypatch, at):
    """Whichever read it is that fails: zipfile takes some such errors for damage."""
    path, reads = tmp_path / "run.npz", iter(range(10**6))
    path.write_bytes(whole[0])
    read = io.BufferedReader.read

    class Failing(io.BufferedReader):
        def read(self, size=-1, /):
            if next(reads) == at:
                raise OSError(5, "Input/output error")
            return read(self, size)

    monkeypatch.setattr(store, "_Stream", type("_Stream", (store._Stream, Failing), {}))
    with pytest.raises(OSError, match="Input/output error"):
        load_run(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read_is_a_permission_error(tmp_path, whole):
    path = tmp_path / "run.npz"
    path.write_bytes(whole[0])
    path.chmod(0)
    os.seteuid(65534)
    try:
        for function in (load_run, checkpoint_configs):
            with pytest.raises(PermissionError):
                function(path)
    finally:
        os.seteuid(0)
