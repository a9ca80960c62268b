"""Recorded runs as pieces of data for the lab's page: an index of all of them, and a piece
for each.

    python -m lrdlib.lab.data OUT [RUNS]

writes OUT/data/index.js and OUT/data/NAME.js for every run of RUNS (default book/runs) and
of its folders sweep and answers. A piece is a script that calls lrdLab.piece("NAME", {...}),
so that a page that was opened as a file can load it too.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lrdlib.evidence.phase import four_digits, outcome
from lrdlib.lab.answers import Answers, load_answers, packed
from lrdlib.lab.digits import encode
from lrdlib.training.config import LOW_RANK, RULES, TrainConfig, plain
from lrdlib.training.runs import GROKKED, NAMES, Run, load_run

DEFAULTS = plain(TrainConfig())
# of a low-rank decay; mean nothing to the other rules
VARIANT = ("mode", "scale", "select", "method", "ns_steps")
# what the reader picks beside the task
CHOSEN = ("rule", *VARIANT, "weight_decay", "l2", "lr", "fraction", "seed")
LENGTH = ("steps", "eval_every")  # how long and how finely a run is recorded
ACCURACIES = ("train_accuracy", "test_accuracy", "orbit_clean_accuracy")
CURVES = (*ACCURACIES, "qk_stable_rank", "qk_effective_rank")
ANSWERS = ".answers.npz"  # ends the name of a file of Answers
OPERATIONS = {
    "add": "a + b",
    "sub": "a − b",
    "mul": "a × b",
    "div": "a ÷ b",
    "poly": "a² + ab + b²",
    "poly_x": "a² + ab + b² + a",
    "s5": "permutations of five (S5)",
    "parity": "parity",
}
COLUMNS = (
    *("piece", "setting", "rule", "variant"),
    *("lr", "strength", "l2", "fraction", "seed", "steps", "every"),
    *("best", "final", "first", "diverged", "full"),
)


def read_runs(folder: Path) -> dict[str, Run]:
    """The runs of `folder` and of its subfolders sweep and answers, by the name of their
    file.

    Raises FileNotFoundError if there are none, and ValueError for a damaged file or for two
    files of one name.
    """
    found: dict[str, Run] = {}
    places = ("", "sweep/", "answers/")
    paths = (
        path for place in places for path in sorted(folder.glob(f"{place}*-seed*.npz"))
    )
    for path in paths:
        if path.name.endswith(ANSWERS):
            continue
        if path.stem in found:
            raise ValueError(
                f"runs must have names of their own, got {path.stem!r} twice in {folder} and "
                "its subfolders"
            )
        run = load_run(path)
        # with fields that are newer than the run
        found[path.stem] = replace(run, config=DEFAULTS | run.config)
    if not found:
        raise FileNotFoundError(
            f"folder must hold recorded runs, got {str(folder)!r}, which has none"
        )
    return found


def read_answers(folder: Path) -> dict[str, Answers]:
    """What is kept of what networks answer, in folder/answers, by the name of their run.
    Raises ValueError for a damaged file."""
    paths = sorted((folder / "answers").glob(f"*{ANSWERS}"))
    return {path.name.removesuffix(ANSWERS): load_answers(path) for path in paths}


# ---- what a run is called


def setting(config: Mapping[str, Any]) -> tuple[str, str]:
    """The key and the words of what the reader picks as the task: the task, and whatever
    else is not default.

    >>> setting(DEFAULTS), setting(DEFAULTS | {"p": 113, "qk_norm": "width"})
    (('add97', 'a + b modulo 97'), ('add113,qk_norm:width', 'a + b modulo 113, qk_norm width'))
    """
    task = config["task"]
    size = {"parity": config["bits"], "s5": 120}.get(task, config["p"])
    of = {"parity": f" of {size} bits", "s5": ""}.get(task, f" modulo {size}")
    apart = {
        name: "+".join(map(str, value)) if isinstance(value, list) else value
        for name, value in config.items()
        if name not in ("task", "p", "bits", *CHOSEN, *LENGTH) and value != DEFAULTS[name]
    }
    key = ",".join([f"{task}{size}", *(f"{name}:{value}" for name, value in apart.items())])
    words = [OPERATIONS[task] + of, *(f"{name} {value}" for name, value in apart.items())]
    return key, ", ".join(words)


def variant(config: Mapping[str, Any]) -> tuple[str, str]:
    """The key and the words of how a low-rank decay counts lambda and where it acts; empty
    for the other rules.

    >>> variant({**DEFAULTS, "rule": "l2"}), variant({**DEFAULTS, "select": "qk"})
    (('', ''), ('independent,qk', 'as λ (independent), on query and key only'))
    """
    if config["rule"] not in LOW_RANK:
        return "", ""
    apart = {name: config[name] for name in VARIANT[1:] if config[name] != DEFAULTS[name]}
    special: dict[tuple[str, Any], str] = {
        ("mode", "independent"): "as λ (independent)",
        ("mode", "decoupled"): "as λ × lr (decoupled)",
        ("select", "qk"): "on query and key only",
        ("scale", None): "not scaled to the matrix",
    }
    said = {"mode": config["mode"], **apart}
    words = [special.get(item) or f"{item[0]} {item[1]}" for item in said.items()]
    return ",".join(map(str, said.values())), ", ".join(words)


def place(config: Mapping[str, Any], *, seed: bool = True) -> tuple:
    """Where the reader finds a run; without its seed, the cell that it shares with others,
    however finely recorded."""
    at = [setting(config)[0], config["rule"], variant(config)[0]]
    own = [config[name] for name in ("lr", "weight_decay", "l2", "fraction", "steps")]
    return (*at, *own, *([config["eval_every"], config["seed"]] if seed else []))


# ---- the index


def index(runs: Mapping[str, Run]) -> dict[str, Any]:
    """What the page has to know of all runs before it loads one: a table, and the words for
    its keys.

    "columns" name the entries of each of "runs"; best, final and first are of the accuracy
    on pairs of which neither order was trained on, or on test pairs where there are no such
    ("unseen" says which; first: the first record above GROKKED, or null). full: the run
    holds its matrices. Two runs at one place of equal length would be told apart by
    nothing, so only the first stays.
    """
    rows, taken = [], set()
    for name, run in sorted(
        runs.items(), key=lambda item: (place(item[1].config), item[0])
    ):
        if place(run.config) not in taken:
            taken.add(place(run.config))
            rows.append(_row(name, run))
    settings = dict(setting(run.config) for run in runs.values())
    unseen = {
        setting(run.config)[0]: _unseen(run).removesuffix("_accuracy").replace("_", "-")
        for run in runs.values()
    }
    rules = {"none", "l2", "lrd", "elastic", *(run.config["rule"] for run in runs.values())}
    return {
        "above": GROKKED,
        "settings": settings,
        "unseen": unseen,
        "rules": {rule: NAMES[rule] for rule in RULES if rule in rules},
        "variants": dict(
            variant(run.config) for run in runs.values() if run.config["rule"] in LOW_RANK
        ),
        "columns": COLUMNS,
        "runs": rows,
    }


def _row(name: str, run: Run) -> list[Any]:
    """One line of the index, in the order of COLUMNS."""
    c, found = run.config, outcome(run, _unseen(run))
    numbers = ("lr", "weight_decay", "l2", "fraction", "seed", "steps", "eval_every")
    said = [four_digits(found.best), four_digits(found.final), found.step]
    flags = [int(found.diverged), int(bool(run.weights))]
    own = [c[key] for key in numbers]
    return [name, setting(c)[0], c["rule"], variant(c)[0], *own, *said, *flags]


def _unseen(run: Run) -> str:
    """The accuracy that says whether a run generalises: on orbit-clean pairs, if there are
    such."""
    known = np.isfinite(run.history["orbit_clean_accuracy"]).any()
    return "orbit_clean_accuracy" if known else "test_accuracy"


# ---- a piece


def piece(run: Run, cell: Sequence[Run] = (), *, answers: bool = False) -> dict[str, Any]:
    """One run as the page draws it; `cell` holds a run of each seed at the same place, for
    the bands.

    steps (T,); curves: a code (T,) of each; spectra: a code (T k) of each query and key
    matrix; fourier: a code (T p // 2) or null; bands: as `bands`, null for a single seed;
    command: what makes the run again. pattern, answers: whether there is a piece
    NAME.pattern, or NAME.answers, besides.
    """
    spectra = {
        name: {"size": S.shape[1]} | encode(S, log=True)
        for name, S in run.spectra.items()
        if name.endswith((".query", ".key"))
    }
    powers = {  # the embedding's, or none
        name: {"size": P.shape[1]} | encode(P, log=True) for name, P in run.fourier.items()
    }
    return {
        "steps": run.history["step"].tolist(),
        "curves": {
            name: encode(run.history[name]) for name in CURVES if name in run.history
        },
        "bands": bands(cell) if len(cell) > 1 else None,
        "spectra": spectra,
        "fourier": powers.get("embedding"),
        "pattern": {"0.query", "0.key"} <= set(run.weights),
        "answers": answers,
        "command": run.provenance.get("command", ""),
    }


def bands(runs: Sequence[Run]) -> dict[str, Any]:
    """The range over runs of other seeds: low and high (S,) of each accuracy, at the steps
    (S,) that all recorded."""
    steps = sorted(set.intersection(*(set(run.history["step"].tolist()) for run in runs)))
    rows = [np.isin(run.history["step"], steps) for run in runs]
    ranges = {  # (seeds, S)
        name: np.stack([run.history[name][at] for run, at in zip(runs, rows, strict=True)])
        for name in ACCURACIES
    }
    low = {name: encode(values.min(0)) for name, values in ranges.items()}
    high = {name: encode(values.max(0)) for name, values in ranges.items()}
    return {"seeds": len(runs), "steps": steps, "low": low, "high": high}


def pattern(run: Run) -> dict[str, Any]:
    """W_Q^T W_K (d, d) of layer 0 at the last step: two residual vectors x and y score x^T
    W_Q^T W_K y."""
    Q, K = (run.weights[name].astype(np.float64) for name in ("0.query", "0.key"))
    return {
        "size": len(Q[0]),
        "steps": [int(run.history["step"][-1])],
        "values": [encode(Q.T @ K)],
    }


# ---- files


def script(name: str, data: Any) -> str:
    """A piece as a script. NaN is an error: JSON has none, and a code says it otherwise."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"lrdLab.piece({json.dumps(name)},{text});\n"


def pieces(
    runs: Mapping[str, Run], answers: Mapping[str, Answers] | None = None
) -> dict[str, dict[str, Any]]:
    """Everything that the page may load, by name: the index, a piece per run of it, the
    patterns, and the answers of runs that have some."""
    known = answers or {}
    made: dict[str, dict[str, Any]] = {"index": index(runs)}
    listed = {row[0]: runs[row[0]] for row in made["index"]["runs"]}
    cells: dict[tuple, list[Run]] = {}
    for run in listed.values():
        cells.setdefault(place(run.config, seed=False), []).append(run)
    for name, run in listed.items():
        every, seed = run.config["eval_every"], run.config["seed"]
        cell = sorted(
            cells[place(run.config, seed=False)],
            key=lambda other: other.config["eval_every"] == every,
        )
        seeds = {other.config["seed"]: other for other in cell} | {seed: run}
        made[name] = piece(run, [*seeds.values()], answers=name in known)
        if made[name]["pattern"]:
            made[f"{name}.pattern"] = pattern(run)
        if name in known:
            made[f"{name}.answers"] = packed(known[name])
    return made


def write(
    folder: Path, runs: Mapping[str, Run], answers: Mapping[str, Answers] | None = None
) -> list[Path]:
    """Write every piece into `folder`, which loses what other pieces it held; returns the
    files."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.js"):
        old.unlink()
    made = pieces(runs, answers)
    for name, data in made.items():
        (folder / f"{name}.js").write_text(script(name, data), encoding="utf-8")
    return [folder / f"{name}.js" for name in made]


def main(arguments: Sequence[str]) -> None:
    if len(arguments) not in (1, 2):
        sys.exit(__doc__)
    source = Path(arguments[1] if len(arguments) > 1 else "book/runs")
    runs = read_runs(source)
    written = write(Path(arguments[0]) / "data", runs, read_answers(source))
    size = sum(file.stat().st_size for file in written)
    print(
        f"   {len(runs)} recorded runs for the lab in {len(written)} pieces, "
        f"{size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
