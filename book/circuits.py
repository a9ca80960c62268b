"""Record the circuits of chapter "What did it learn?": the measures of lrdlib.fourier while
runs train.

python book/circuits.py small   50 runs modulo 29, ten settings, five seeds: 5 minutes, one core
python book/circuits.py paper   22 runs of the paper's setting, their last step alone: 30 minutes

Each writes book/runs/circuits/NAME.npz, with the header of lrdlib.training.store (configs,
provenance) and the arrays, for T recorded steps and R runs:

step         (T,)            the recorded steps
embedding    (T, R, p // 2)  fourier_power of the embedding
logits       (T, R, p // 2)  sum_power of the logits
keys         (R, p // 2)     the key frequencies of the logits at the step of the best accuracy
                             on pairs unseen in either order (small runs are not steady to
                             the end)
restricted   (T, R)          the loss with these keys alone
excluded     (T, R)          the loss without them, of the training pairs
symmetricity (T, R)          gradient symmetricity (100 triples of numbers)
irrelevance  (T, R)          distance irrelevance
METRICS      (T, R) each     of lrdlib.training.records
"""

import sys
from pathlib import Path

import numpy as np
import torch

from lrdlib.evidence.grids import FRACTIONS
from lrdlib.fourier import (
    distance_irrelevance,
    excluded_loss,
    gradient_symmetricity,
    key_frequencies,
    logits_of_embeddings,
    restricted_loss,
    sum_power,
)
from lrdlib.model import forward
from lrdlib.training.backend import use_onednn
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.runs import provenance, rounded
from lrdlib.training.store import write_arrays
from lrdlib.training.train import Training, train

KIND = "lrdlib-circuits/1"
METRICS = (
    "train_loss",
    "test_loss",
    "train_accuracy",
    "test_accuracy",
    "orbit_clean_accuracy",
    "qk_stable_rank",
)
RULES = {"none": [0.0], "l2": [1.0, 2.0, 3.0, 5.0], "lrd": [0.005, 0.01, 0.02, 0.03, 0.05]}
SMALL = {
    "p": 29,
    "d_model": 48,
    "fraction": 0.6,
    "batch_size": 128,
    "lr": 5e-3,
    "steps": 800,
    "eval_every": 50,
}

STACKS = {
    "paper": [
        [TrainConfig(rule=rule, weight_decay=0.05, fraction=fraction, eval_every=100)]
        for rule in ("lrd", "l2")
        for fraction in FRACTIONS
    ],
    "small": [
        [
            TrainConfig(**SMALL, rule=rule, weight_decay=strength, seed=seed)
            for seed in range(5)
        ]
        for rule, strengths in RULES.items()
        for strength in strengths
    ],
}


def measured(stack: list[TrainConfig], *, only_last: bool) -> dict[str, np.ndarray]:
    """Train one stack and measure it at every record, or at the last: the arrays (T, R, ...)
    of the module's docstring; steps (T, 1) and keys (1, R, p // 2), to be joined on axis 1."""
    training, steps, tables, measures = train(stack), [], [], []
    for record in training:
        if only_last and record.step < stack[0].steps:
            continue
        with torch.no_grad():
            table = forward(training.params, training.tokens, training.model)
        now = {name: record.metrics[name] for name in METRICS}
        now["embedding"] = record.fourier["embedding"]
        now["logits"] = sum_power(table)
        now["irrelevance"] = distance_irrelevance(table)
        now["symmetricity"] = symmetricity(training)
        steps.append([record.step])
        tables.append(table)
        measures.append(now)
        accuracy = record.metrics["test_accuracy"].tolist()
        print(stack[0].rule, stack[0].weight_decay, record.step, accuracy, flush=True)
    clean = torch.stack([now["orbit_clean_accuracy"] for now in measures])  # (T, R)
    best = enumerate(clean.argmax(0).tolist())
    keys = key_frequencies(torch.stack([measures[t]["logits"][r] for r, t in best]))
    for table, now in zip(tables, measures, strict=True):
        now["restricted"] = restricted_loss(table, keys)
        now["excluded"] = excluded_loss(table, keys, training.masks["train"])
    names = measures[0]
    found = {name: torch.stack([now[name] for now in measures]).numpy() for name in names}
    return found | {"keys": keys.numpy()[None], "step": np.array(steps)}


def symmetricity(training: Training) -> torch.Tensor:
    """The gradient symmetricity (R,) of every model of a stack."""
    seed = torch.Generator().manual_seed(0)
    triples = torch.randint(training.task.p, (100, 3), generator=seed)
    found = []
    for r in range(len(training.configs)):
        params = {name: W[r] for name, W in training.params.items()}
        logits = logits_of_embeddings(params, training.model)
        found.append(gradient_symmetricity(logits, params["embedding"], triples))
    return torch.stack(found)


def main(name: str) -> None:
    torch.set_num_threads(1)
    use_onednn()
    parts = [measured(stack, only_last=name == "paper") for stack in STACKS[name]]
    arrays = {key: np.concatenate([part[key] for part in parts], 1) for key in parts[0]}
    arrays["step"], arrays["keys"] = arrays["step"][:, 0], arrays["keys"][0]
    floats = {key: array for key, array in arrays.items() if array.dtype.kind == "f"}
    arrays |= {key: rounded(array, 10) for key, array in floats.items()}  # to 0.05 percent
    header = {"configs": [plain(config) for stack in STACKS[name] for config in stack]}
    header["provenance"] = provenance(f"python book/circuits.py {name}")
    path = Path(__file__).parent / "runs" / "circuits" / f"{name}.npz"
    write_arrays(path, KIND, header, arrays)


if __name__ == "__main__":
    main(sys.argv[1])
