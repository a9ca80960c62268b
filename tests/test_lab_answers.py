"""What recorded networks answer: against the run that they are of, through files, and as the
page reads it."""

import numpy as np
import pytest
import torch
from test_lab_page import ROOT

from lrdlib.lab.answers import (
    LEVELS,
    Answers,
    answers_of,
    load_answers,
    packed,
    save_answers,
    trained,
)
from lrdlib.lab.data import read_answers, read_runs
from lrdlib.lab.digits import DIGITS
from lrdlib.model import forward, init_params
from lrdlib.tasks import split
from lrdlib.training.config import TrainConfig, plain
from lrdlib.training.store import write_arrays

TINY = TrainConfig(
    p=7, d_model=16, heads=2, fraction=0.6, batch_size=16, steps=20, eval_every=10
)


def known(found: Answers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which answers are right (S, N), and which rows are trained on and new (N,)."""
    config = TrainConfig(**found.config)
    task, parts = config.data(), split(config.data(), config.fraction, config.seed)
    right = found.answers == task.labels.numpy()
    inside = np.zeros(len(task.labels), bool)
    inside[parts.train.numpy()] = True
    return right, inside, ~inside


def test_answers_are_those_of_the_network():
    model = TINY.model(TINY.data())
    params = init_params(model, torch.Generator().manual_seed(3))
    answers, sure = answers_of(params, TINY)
    logits = forward(params, TINY.data().tokens, model).double()
    shares = logits.exp() / logits.exp().sum(-1, keepdim=True)
    for row in range(49):
        assert answers[row] == int(shares[row].argmax())
        assert abs(sure[row] / LEVELS - float(shares[row].max())) <= 0.5 / LEVELS + 1e-9


def test_a_training_keeps_a_table_at_some_of_its_records():
    run, found = trained(TINY, every=20)
    assert found.steps.tolist() == [0, 20] and run.history["step"].tolist() == [0, 10, 20]
    assert found.config == run.config == plain(TINY)
    right, inside, new = known(found)
    for part, name in ((inside, "train_accuracy"), (new, "test_accuracy")):
        expected = run.history[name][[0, 2]]
        np.testing.assert_allclose(right[:, part].mean(1), expected, atol=1e-6)


RECORDED = ROOT / "book" / "runs"
KEPT = read_answers(RECORDED)


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_agrees_with_its_run(name):
    found, run = KEPT[name], read_runs(RECORDED / "answers")[name]
    assert run.config == found.config
    right, inside, new = known(found)
    at = np.isin(run.history["step"], found.steps)
    assert at.sum() == len(found.steps) >= 10
    for part, metric in ((inside, "train_accuracy"), (new, "test_accuracy")):
        np.testing.assert_allclose(
            right[:, part].mean(1), run.history[metric][at], atol=1e-6
        )


def test_three_networks_are_kept_of_which_two_generalise():
    best = []
    for found in KEPT.values():
        right, _, new = known(found)
        best.append(right[:, new].mean(1).max())
    assert [share > 0.95 for share in sorted(best)] == [False, True, True]


def test_a_file_gives_back_what_it_took(tmp_path):
    _, found = trained(TINY, every=20)
    save_answers(found, tmp_path / "a.npz", {})
    again = load_answers(tmp_path / "a.npz")
    assert again.config == found.config
    for name in ("steps", "answers", "sure"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    write_arrays(tmp_path / "b.npz", "lrdlib-answers/1", {}, {"steps": np.arange(2)})
    with pytest.raises(ValueError, match="path must hold answers"):
        load_answers(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError):
        load_answers(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("fields", "shape"),
    [({}, (7, 7)), ({"task": "div"}, (7, 6)), ({"task": "parity", "bits": 5}, (8, 4))],
)
def test_the_page_reads_a_digit_for_each_answer(fields, shape):
    config = TrainConfig(**plain(TINY) | fields)
    task = config.data()
    labels = task.labels.numpy().astype(np.uint8)
    rows = np.stack([labels, 0 * labels])
    made = packed(Answers(plain(config), np.array([0, 5]), rows, rows + 1))
    assert (made["down"], made["across"]) == shape and made["steps"] == [0, 5]
    assert [DIGITS.index(digit) for digit in made["answers"][0]] == labels.tolist()
    assert made["answers"][0] == made["labels"] and set(made["sure"][1]) == {"1"}
    inside = split(task, config.fraction, config.seed).train.tolist()
    assert [i for i, digit in enumerate(made["trained"]) if digit == "1"] == sorted(inside)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"config": None}, TypeError, "config must be of type dict"),
        ({"answers": [1]}, TypeError, "answers must be of type ndarray"),
        ({"sure": np.zeros((1, 48), np.uint8)}, ValueError, r"sure must be uint8 of shape"),
        ({"answers": np.zeros((1, 49))}, ValueError, "answers must be uint8 of shape"),
        ({"sure": np.full((1, 49), 64, np.uint8)}, ValueError, "sure must be below 64"),
        ({"steps": np.zeros(1)}, ValueError, "steps must be integers that rise"),
        ({"config": plain(TrainConfig(p=97))}, ValueError, "the task's answers must be"),
    ],
)
def test_bad_input_is_one_clear_error(changes, error, words):
    rows = np.zeros((1, 49), np.uint8)
    whole = {"config": plain(TINY), "steps": np.array([0]), "answers": rows, "sure": rows}
    with pytest.raises(error, match=words):
        Answers(**whole | changes)
