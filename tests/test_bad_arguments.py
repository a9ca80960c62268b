"""Every argument of every public function, given what it cannot be: one TypeError or
ValueError that names it.

Each call is right but for one argument, which is replaced by every value of POOL that is not
right for it. A bad value may never end in another error, in an answer, or in gigabytes.
"""

import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lrdlib
from lrdlib import (
    decay,
    exercises,
    fourier,
    geometry,
    matrices,
    model,
    polar,
    spectral,
    tasks,
)
from lrdlib.optimizer import ROUNDINGS, LowRankDecay
from lrdlib.training import batches, checkpoint, config, records, runs, sweep, train

NAN, INF = float("nan"), float("inf")


class Silent:
    """An object that can do nothing, not even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def quietly(make: Callable[[], Any]) -> Any:
    """The value of make() without torch's warnings that such tensors are a prototype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@torch.inference_mode()
def inference_tensor():
    return torch.ones(3, 3)


def float8(dtype):
    return lambda: torch.zeros(3, 3, dtype=dtype)


POOL: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "a word": lambda: "x",
    "no word": lambda: "",
    "bytes": lambda: b"",
    "beyond float": lambda: 10**400,
    "beyond print": lambda: 10**5000,
    "below print": lambda: -(10**5000),
    "a billion": lambda: 10**9,
    "beyond int64": lambda: 2**70,
    "minus one": lambda: -1,
    "zero": lambda: 0,
    "half": lambda: 0.5,
    "a float": lambda: 3.0,
    "minus": lambda: -0.5,
    "nan": lambda: NAN,
    "inf": lambda: INF,
    "minus inf": lambda: -INF,
    "True": lambda: True,
    "complex": lambda: 1j,
    "fraction": lambda: Fraction(1, 2),
    "numpy nan": lambda: np.float64(NAN),
    "numpy int": lambda: np.int64(-5),
    "numpy bool": lambda: np.bool_(True),
    "object": object,
    "silent": Silent,
    "a type": lambda: int,
    "a module": lambda: math,
    "dots": lambda: ...,
    "list": lambda: [],
    "list of none": lambda: [None],
    "list of numbers": lambda: [1.0, 2.0],
    "list of words": lambda: ["x", "y"],
    "list of the huge": lambda: [10**5000],
    "tuple": lambda: (),
    "dict": lambda: {},
    "dict of words": lambda: {"x": 1},
    "dict of numbers": lambda: {1: 2},
    "set": lambda: {1},
    "generator": lambda: (i for i in ()),
    "random generator": lambda: np.random.default_rng(0),
    "torch generator": torch.Generator,
    "function": lambda: lambda *_: None,
    "array": lambda: np.array([1.0, 2.0]),
    "array of words": lambda: np.array("x"),
    "array of nan": lambda: np.array([[NAN, 1.0], [0.0, 1.0]]),
    "array of objects": lambda: np.array([None, {}], dtype=object),
    "scalar": lambda: torch.tensor(-2.0),
    "scalar nan": lambda: torch.tensor(NAN),
    "empty": lambda: torch.ones(0),
    "empty matrix": lambda: torch.ones(0, 3),
    "vector": lambda: torch.tensor([1.0, 2.0]),
    "matrix of nan": lambda: torch.full((3, 3), NAN),
    "matrix of inf": lambda: torch.full((3, 3), INF),
    "integers": lambda: torch.arange(-3, 6).view(3, 3),
    "booleans": lambda: torch.ones(3, 3, dtype=torch.bool),
    "complex matrix": lambda: torch.ones(3, 3, dtype=torch.complex64),
    "float8": float8(torch.float8_e4m3fn),
    "float8 too": float8(torch.float8_e5m2),
    "meta": lambda: torch.ones(3, 3, device="meta"),
    "meta integers": lambda: torch.ones(3, 3, device="meta", dtype=torch.int64),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: quietly(lambda: torch.eye(3).to_sparse_csr()),
    "quantized": lambda: quietly(
        lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8)
    ),
    "nested": lambda: quietly(lambda: torch.nested.nested_tensor([torch.ones(2, 3)])),
    "expanded": lambda: torch.ones(1, 1).expand(3, 3),
    "inference": inference_tensor,
    "parameters of none": lambda: {"embedding": None},
    "a task": lambda: tasks.task("add", p=2),
    "a model": lambda: SMALL,
    "another model": lambda: model.ModelConfig(vocab=3, seq_len=5, classes=3, d_model=8),
    "a config": lambda: config.TrainConfig(**TINY),
    "list of tasks": lambda: [tasks.task("add", p=2)],
}

# ---- what is right for an argument, of all that is in POOL


def integer(low: int, high: float = INF) -> Callable[[Any], bool]:
    return lambda x: (
        isinstance(x, (int, np.integer)) and not isinstance(x, bool) and low <= x <= high
    )


def real(low: float, high: float = 1e308, *, open_low: bool = False) -> Callable:
    def right(x: Any) -> bool:
        if isinstance(x, (bool, np.bool_)):
            return False
        number = isinstance(x, (int, float, np.integer, np.floating))
        return number and low <= x <= high and not (open_low and x == low)

    return right


def never(x: Any) -> bool:
    return False


def one_of(*words: Any) -> Callable[[Any], bool]:
    return lambda x: any(type(x) is type(word) and x == word for word in words)


def of_type(*kinds: type) -> Callable[[Any], bool]:
    return lambda x: isinstance(x, kinds)


def or_none(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda x: x is None or right(x)


def dense(x: Any) -> bool:
    return (
        isinstance(x, torch.Tensor)
        and x.layout == torch.strided
        and not x.is_nested
        and not x.is_meta
    )


def matrix(x: Any) -> bool:
    """A finite matrix: of POOL the ones, expanded or made in inference mode."""
    ones = dense(x) and x.dtype == torch.float32 and x.shape == (3, 3)
    return ones and bool(x.isfinite().all())


def singular(x: Any) -> bool:
    """Singular values: rows of ones, or none."""
    return matrix(x) or (dense(x) and x.dtype == torch.float32 and x.shape == (0, 3))


def fourier_values(x: Any) -> bool:
    """A tensor (..., n) without infinities."""
    if not dense(x) or x.dtype != torch.float32 or x.ndim < 1 or not x.shape[-1]:
        return False
    return not bool(x.isinf().any())


def is_scales(x: Any) -> bool:
    return isinstance(x, (list, np.ndarray)) and np.array_equal(x, [1.0, 2.0])


def a_type(x: Any) -> bool:
    """A type can be called, and then complains for itself."""
    return isinstance(x, type)


def booleans(x: Any) -> bool:
    return isinstance(x, bool)


def anything(x: Any) -> bool:
    return True


@dataclass(frozen=True)
class Call:
    """A right call of `function`: `given` makes each argument, `right` says which other
    values are right for it; `names` are what a message may call an argument beside its
    own name."""

    function: Callable[..., Any]
    given: dict[str, Callable[[], Any]]
    right: dict[str, Callable[[Any], bool]]
    names: Mapping[str, str] = field(default_factory=dict)
    title: str = ""

    def __str__(self) -> str:
        return self.title or self.function.__qualname__

    def bad(self, name: str) -> Iterator[tuple[str, Any]]:
        """What is not right for the argument `name`."""
        for key, make in POOL.items():
            value = make()
            if not self.right[name](value):
                yield key, value

    def fault(self, name: str, value: Any) -> str | None:
        """How the call answers a bad value, if not as it should."""
        arguments = {key: make() for key, make in self.given.items()} | {name: value}
        wanted = self.names.get(name, name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                self.function(**arguments)
        except (TypeError, ValueError, OSError) as error:
            if isinstance(error, OSError) and wanted not in ("path", "store", "checkpoint"):
                return f"{type(error).__name__}: {error}"
            text = str(error)
            if isinstance(error, OSError) or re.search(rf"\b({wanted})\b", text):
                return None if len(text) < 1000 else f"a message of {len(text)} letters"
            return f"does not name {wanted}: {type(error).__name__}: {text}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "takes it"


def call(function: Callable, title: str = "", names: Mapping[str, str] | None = None, **of):
    """A Call from argument = (how to make it, what is right for it)."""
    return Call(
        function,
        {name: make for name, (make, _) in of.items()},
        {name: right for name, (_, right) in of.items()},
        names or {},
        title,
    )


# ---- right arguments

SMALL = model.ModelConfig(vocab=6, seq_len=3, classes=5, d_model=4, heads=2, layers=1)
TINY = dict(p=5, steps=1, d_model=4, heads=2, layers=1, batch_size=4, fraction=0.5)


def value(x: Any) -> Callable[[], Any]:
    return lambda: x


def weights():
    return model.init_params(SMALL, torch.Generator().manual_seed(0))


def randn(*shape: int) -> Callable[[], torch.Tensor]:
    return lambda: torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def add():
    return tasks.task("add", p=5)


def rule_of(name: str, right: Callable[[Any], bool], **more: Any) -> Call:
    """TrainConfig(name=...)."""
    given = TINY | more
    default = given.get(name, getattr(config.TrainConfig(), name))
    return call(
        lambda **one: config.TrainConfig(**given | one),
        f"TrainConfig.{name}",
        **{name: (value(default), right)},
    )


FRACTION = real(1e-300, 1 - 1e-16)
SEED = integer(0, 2**32 - 1)
PATH = of_type(str, Path)
W33 = randn(3, 3)
S3 = value(torch.tensor([3.0, 2.0, 1.0]))
RTOL = or_none(real(0, 1 - 1e-16))
GENERATOR = value(torch.Generator().manual_seed(0))
MODEL_SIZES = {
    "vocab": 6, "seq_len": 3, "classes": 5, "d_model": 4, "heads": 2, "layers": 1,
    "mlp_ratio": 4,
}  # fmt: skip
LARGEST = dict.fromkeys(("vocab", "seq_len", "classes"), 10**9)  # 16 GB at width 4
METHOD = (value("cubic"), one_of(*polar.METHODS))
DECAY = {
    "W": (W33, lambda x: matrix(x) and not x.is_inference() and 0 not in x.stride()),
    "weight_decay": (value(0.1), real(0)),
    "lr": (value(0.1), real(0, 1e300)),
    "mode": (value("decoupled"), one_of(*decay.MODES)),
}
SCALED = {**DECAY, "scale": (value("norm"), one_of(*decay.SCALES))}
POLY_STEPS = (value(3), or_none(integer(1, polar.MAX_STEPS)))
TABLE = randn(25, 5)
KEYS = (value(torch.tensor([True, False])), never)
ROWS = (lambda: torch.arange(25) % 2 == 0, or_none(never))


def optimizer_of(**settings: Any) -> LowRankDecay:
    return LowRankDecay(**settings)


def group(settings: dict[str, Any]) -> Callable[..., Any]:
    """add_param_group of an optimizer with one more matrix."""

    def added(param_group: Any) -> None:
        LowRankDecay([W33()], **settings).add_param_group(param_group)

    return added


OWN = [
    # tasks
    call(tasks.task, name=(value("add"), one_of(*tasks.TASKS)), p=(value(5), integer(2, 5181)),
         bits=(value(3), integer(1, 20))),
    call(tasks.table_size, name=(value("add"), one_of(*tasks.TASKS)),
         p=(value(5), integer(2, 5181)), bits=(value(3), integer(1, 20))),
    call(tasks.split, task=(add, of_type(tasks.Task)), fraction=(value(0.5), FRACTION),
         seed=(value(0), SEED)),
    call(tasks.Task, name=(value("own"), of_type(str)), p=(value(5), integer(1)),
         tokens=(lambda: add().tokens, never), labels=(lambda: add().labels, never),
         vocab=(value(6), integer(6)), classes=(value(5), integer(5)),
         commutative=(value(True), booleans), swap=(lambda: add().swap, never)),
    call(tasks.Split, train=(value(torch.arange(3)), never),
         test=(value(torch.arange(3)), never), orbit_clean=(value(torch.arange(3)), never)),
    # model
    call(model.ModelConfig,
         **{name: (value(size), integer(1, LARGEST.get(name, 9)))
           for name, size in MODEL_SIZES.items()},
         qk_norm=(value("head"), one_of(*model.QK_NORMS)), gains=(value(True), booleans)),
    call(model.shapes, config=(value(SMALL), of_type(model.ModelConfig))),
    call(model.role, name=(value("0.query"), of_type(str))),
    call(model.initial_std, name=(value("head"), of_type(str)),
         shape=(value((3, 4)), never)),
    call(model.init_params, config=(value(SMALL), of_type(model.ModelConfig)),
         generator=(GENERATOR, of_type(torch.Generator))),
    call(model.stack_params, models=(lambda: [weights()] * 2, never)),
    call(model.check_params, params=(weights, never), config=(value(SMALL), one_of(SMALL))),
    call(model.forward, params=(weights, never),
         tokens=(lambda: add().tokens, never), config=(value(SMALL), one_of(SMALL)),
         names={"config": "config|params"}),
    # polar
    call(polar.polar_factor, W=(W33, matrix), method=METHOD, steps=POLY_STEPS),
    call(polar.check_polar, method=METHOD, steps=POLY_STEPS,
         name=(value("steps"), anything)),
    call(polar.response, method=METHOD, steps=POLY_STEPS,
         sigma=(value(np.array([0.5])), lambda x: (
             (dense(x)
              and x.dtype == torch.float32 and bool(x.isfinite().all()))
             or (isinstance(x, np.ndarray) and x.dtype == float and np.isfinite(x).all())
             or real(-1e308)(x)))),
    call(polar.minimax_quintic, lower=(value(0.1), real(0, 1 - 1e-16, open_low=True)),
         upper=(value(1.0), real(0.1 + 1e-9, 1e49)), names={"upper": "upper|lower"}),
    call(polar.polar_express_coefficients, steps=(value(3), integer(1, 1000)),
         lower=(value(0.1), FRACTION)),
    call(polar.polar_express_reach, steps=(value(3), integer(1, 1000))),
    # spectral
    call(spectral.singular_values, W=(W33, matrix)),
    call(spectral.cut, W=(W33, matrix), k=(value(1), integer(0))),
    *(call(f, S=(S3, singular))
      for f in (spectral.nuclear_norm, spectral.stable_rank, spectral.effective_rank,
                spectral.participation_ratio, spectral.half_time,
                spectral.check_singular_values)),
    *(call(f, S=(S3, singular), rtol=(value(None), RTOL))
      for f in (spectral.numerical_rank, spectral.polar_alignment)),
    call(spectral.soft_threshold, S=(S3, singular),
         threshold=(value(0.5), real(0))),
    # geometry
    call(geometry.radial_tangential, G=(W33, matrix), W=(W33, matrix),
         names={"W": "W|G", "G": "G|W"}),
    call(geometry.scaled_nuclear_norm, W=(W33, matrix), rtol=(value(None), RTOL)),
    call(geometry.scale_defect, f=(lambda: lambda W: W, a_type), W=(W33, matrix),
         scales=(value((0.5, 2.0)), is_scales)),
    call(geometry.scale_defects, model=(lambda: torch.nn.Linear(3, 3), never),
         batch=(lambda: torch.ones(1, 3), anything), scales=(value((0.5, 2.0)), is_scales)),
    call(geometry.euler_defect, f=(lambda: lambda W: W.sum(), a_type), W=(W33, matrix)),
    call(geometry.project_subdifferential, G=(W33, matrix), W=(W33, matrix),
         rtol=(value(None), RTOL), names={"W": "W|G"}),
    call(geometry.in_subdifferential, G=(W33, matrix), W=(W33, matrix),
         rtol=(value(None), RTOL), tol=(value(None), or_none(real(0))), names={"W": "W|G"}),
    call(geometry.fan_dimension, m=(value(3), integer(2)), n=(value(4), integer(2)),
         rank=(value(2), integer(0, 3)), names={"m": "m|rank", "n": "n|rank"}),
    # decay, optimizer, matrices
    call(decay.frobenius_decay_, **DECAY),
    call(decay.low_rank_decay_, **SCALED, method=METHOD, steps=POLY_STEPS),
    call(decay.proximal_decay_, **SCALED),
    call(decay.weight_decay_to_halve, steps=(value(500), real(0, open_low=True)),
         lr=(value(1e-3), real(0, open_low=True)),
         h=(value(1.0), real(0, open_low=True))),
    call(optimizer_of, "LowRankDecay", params=(lambda: [W33()], lambda x: False),
         weight_decay=(value(0.1), real(0)), mode=DECAY["mode"], scale=SCALED["scale"],
         method=METHOD, steps=POLY_STEPS,
         rule=(value("low_rank"), one_of(*decay.UPDATES)),
         part=(value("both"), one_of(*decay.PARTS)), parts=(value(1), integer(1, 3)),
         dim=(value(0), one_of(0, 1)), interleaved=(value(1), integer(1, 3)),
         rounding=(value("nearest"), one_of(*ROUNDINGS)), seed=(value(0), integer(0)),
         every=(value(1), integer(1)), max_batch=(value(None), or_none(integer(1))),
         check_finite=(value(True), booleans)),
    call(group({"weight_decay": 0.1}), "LowRankDecay.add_param_group",
         param_group=(lambda: {"params": [W33()]}, never),
         names={"param_group": "param_group|parameter group|params"}),
    call(lambda lr: LowRankDecay([W33()], weight_decay=0.1).step(lr),
         "LowRankDecay.step", lr=(value(0.1), real(0))),
    call(lambda optimizer: LowRankDecay([W33()], weight_decay=0.1).attach(optimizer),
         "LowRankDecay.attach", optimizer=(lambda: None, never)),
    call(lambda state: LowRankDecay([W33()], weight_decay=0.1).load_state_dict(state),
         "LowRankDecay.load_state_dict",
         state=(lambda: LowRankDecay([W33()], weight_decay=0.2).state_dict(), never),
         names={"state": "state_dict"}),
    call(matrices.select, model=(weights, never),
         which=(value("qk"), a_type)),
    # fourier
    call(fourier.fourier_power, E=(W33, matrix)),
    call(fourier.key_frequencies, power=(S3, fourier_values),
         share=(value(None), RTOL)),
    call(fourier.sum_power, logits=(TABLE, never)),
    call(fourier.sum_component, logits=(TABLE, never), keys=KEYS),
    call(fourier.restricted_loss, logits=(TABLE, never), keys=KEYS, rows=ROWS),
    call(fourier.excluded_loss, logits=(TABLE, never), keys=KEYS, rows=ROWS),
    call(fourier.distance_irrelevance, logits=(TABLE, never)),
    call(fourier.logits_of_embeddings, params=(weights, never),
         config=(value(SMALL), one_of(SMALL)), names={"config": "config|params"}),
    call(lambda X: fourier.logits_of_embeddings(weights(), SMALL)(X), "logits_of",
         X=(randn(7, 2, 4), never)),
    call(fourier.gradient_symmetricity,
         logits_of=(lambda: fourier.logits_of_embeddings(weights(), SMALL), a_type),
         E=(randn(5, 4), never), triples=(value(torch.tensor([[0, 1, 2], [3, 4, 0]])), never),
         names={"E": "E|X|triples"}),
    # exercises
    call(exercises.compare, answer=(value(abs), callable), expected=(value(abs), callable),
         cases=(value([(1,)]), never), rtol=(value(1e-4), real(0))),
    # training.config
    rule_of("task", one_of(*tasks.TASKS)),
    rule_of("p", integer(2, 5181)),
    rule_of("bits", integer(1, 20)),
    rule_of("fraction", FRACTION),
    rule_of("seed", SEED),
    rule_of("rule", one_of(*config.RULES)),
    rule_of("weight_decay", real(0)),
    rule_of("l2", real(0)),
    rule_of("l2", real(0, 0), rule="none"),
    rule_of("mode", one_of(*decay.MODES)),
    rule_of("scale", one_of(*decay.SCALES)),
    rule_of("select", one_of("attention+mlp", "qk")),
    rule_of("method", one_of(*polar.METHODS)),
    rule_of("ns_steps", or_none(integer(1, 1000))),
    rule_of("lr", real(0, open_low=True)),
    rule_of("rank", lambda x: or_none(integer(1, 4))(x) or one_of("flat")(x)),
    rule_of("qk_rates", lambda x: isinstance(x, (list, tuple))
            and all(map(real(0, open_low=True), x))),
    rule_of("betas", never),
    rule_of("batch_size", integer(1, 10**6)),
    rule_of("steps", integer(1, 10**6)),
    rule_of("eval_every", integer(1, 2**63 - 1)),
    rule_of("d_model", integer(1, 9)),
    rule_of("heads", integer(1, 4)),
    rule_of("layers", integer(1, 9)),
    rule_of("qk_norm", one_of(*model.QK_NORMS)),
    rule_of("gains", of_type(bool, np.bool_)),
    call(lambda data: config.TrainConfig(**TINY).model(data), "TrainConfig.model",
         data=(add, of_type(tasks.Task, tasks.TableSize))),
    call(config.plain, config=(lambda: config.TrainConfig(**TINY),
                               of_type(config.TrainConfig))),
    call(config.check_stack, configs=(lambda: [config.TrainConfig(**TINY)], never)),
]  # fmt: skip

# ---- the training's own: other modules, the same promise


def a_run() -> runs.Run:
    fields = {"rule": "lrd", "weight_decay": 1.0, "l2": 0.0}  # what a label needs
    history = {"step": np.arange(2), "test_accuracy": np.zeros(2)}
    return runs.Run(fields, history, {}, {}, {})


def a_stack(**more: Any) -> list[config.TrainConfig]:
    return [config.TrainConfig(**TINY | more)]


def setting(name: str, right: Callable[[Any], bool]) -> Call:
    """Training.set(name=...)."""
    return call(
        lambda **one: train.Training(a_stack()).set(**one),
        f"Training.set.{name}",
        **{name: (value(getattr(config.TrainConfig(), name)), right)},
    )


def trainings(folder: Path) -> list[Call]:
    """The calls of the training, which may write below `folder`."""
    fields = {
        "history": {"step": np.arange(2)},
        "spectra": {},
        "weights": {},
        "fourier": {},
    }
    some = of_type(dict)  # an empty one is right, others are other tests' matter
    configs = lambda x: isinstance(x, config.TrainConfig)  # noqa: E731

    def several(x: object) -> bool:  # nothing is a grid of no configs
        empty = isinstance(x, (list, tuple, dict, set)) and not len(x)
        return empty or isinstance(x, Iterator)

    metrics = {"loss": torch.ones(1)}
    return [
        call(train.train, configs=(a_stack, configs),
             checkpoint=(value(None), or_none(of_type(str, Path, bytes))),
             device=(value("cpu"), one_of("cpu", "meta")), compile=(value(False), booleans)),
        call(train.Training, configs=(a_stack, never),
             device=(value("cpu"), one_of("cpu", "meta")), compile=(value(False), booleans)),
        setting("rule", one_of(*config.RULES)),
        setting("weight_decay", real(0)),
        setting("l2", real(0)),
        setting("lr", real(0, open_low=True)),
        call(config.config_list, configs=(a_stack, several)),
        call(checkpoint.checkpoint_configs, path=(value(folder / "no.npz"), never)),
        call(runs.runs_of, training=(lambda: ended(), never), command=(value(""), of_type(str))),
        call(runs.compact, run=(a_run, of_type(runs.Run)), bits=(value(8), integer(1))),
        call(runs.save_run, run=(a_run, never), path=(value(folder / "a.npz"), PATH)),
        call(runs.load_run, path=(value(folder / "no.npz"), never)),
        call(runs.Run, config=(value({}), some), provenance=(value({}), some),
             **{name: (value(x), some) for name, x in fields.items()}),
        call(records.Record, step=(value(0), integer(0)), metrics=(value(metrics), some),
             singular_values=(value({}), some), fourier=(value({}), some)),
        call(sweep.recorded, configs=(a_stack, several), store=(value(folder), PATH)),
        call(sweep.sweep, configs=(a_stack, several), store=(value(folder), PATH),
             workers=(value(1), lambda x: integer(1)(x) or integer(-1, -1)(x)),
             stack_size=(value(None), or_none(integer(1))),
             device=(value("cpu"), one_of("cpu", "meta")),
             compile=(value(False), booleans), full=(value(False), booleans),
             commands=(value(None), or_none(lambda x: isinstance(x, dict) and not x))),
        call(lambda blocks: sweep.expand(blocks), "expand",
             blocks=(value({}), lambda x: isinstance(x, dict) and not x),
             names={"blocks": "blocks?"}),
    ]  # fmt: skip


def ended() -> train.Training:
    """A training that has made its first record."""
    training = train.Training(a_stack())
    next(training)
    return training


TRAINING = [(str(one), name) for one in trainings(Path("nowhere")) for name in one.given]


# ---- the tests


@pytest.fixture(autouse=True)
def at_most_one_gigabyte_more():
    """An address space of 1 GB more than now: whoever asks for gigabytes is refused."""
    if sys.platform != "linux":
        yield
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def faults(one: Call, name: str) -> list[str]:
    """What is wrong with the answers to the bad values of one argument."""
    bad = ((key, one.fault(name, value)) for key, value in one.bad(name))
    return [f"{key}: {fault}" for key, fault in bad if fault]


@pytest.mark.parametrize("one", OWN, ids=str)
def test_the_right_call_is_right(one):
    if one.title != "LowRankDecay.attach":
        one.function(**{name: make() for name, make in one.given.items()})


@pytest.mark.parametrize(
    ("one", "name"), [(one, name) for one in OWN for name in one.given], ids=str
)
def test_a_bad_argument_is_named(one, name):
    assert not faults(one, name)


@pytest.mark.parametrize(("title", "name"), TRAINING)
def test_a_bad_argument_of_the_training_is_named(title, name, tmp_path):
    one = next(one for one in trainings(tmp_path) if str(one) == title)
    assert not faults(one, name)


def test_there_are_thousands_of_them():
    assert sum(len(list(one.bad(name))) for one in OWN for name in one.given) >= 2000


# Pieces of a checked function, for traces and hot loops: they say that they check nothing.
UNCHECKED = {
    model: "rms_norm gained linear rows_times qk_norm attention",
    polar: "polar_iteration rescale polar_of_rescaled",
    spectral: "truncated cores by_cores",
    decay: "strength frobenius_update_ low_rank_update_ proximal_update_ frobenius_norm "
    "subtract_polar_ frobenius_norms tall check_strength check_fit check_writable check_dtype "
    "generator_of stochastically_rounded overlap",
    matrices: "places Selection cut matrix_of like check_cut same_parameter",
    lrdlib.optimizer: "Wrapper plain",
    train: "compiled",
    batches: "batches",
    checkpoint: "checked_step configs_after layout check_arrays checked_records",
    config: "check_settable",
    records: "rank unless_diverged record_arrays records_from gram from_gram Snapshot",
    runs: "provenance rounded short_name",
    sweep: "file_name stacks_of default_stack_size run_bytes seconds",
}


def public(module: Any) -> set[str]:
    """The functions and classes that a module defines, by name."""
    return {
        name
        for name, x in vars(module).items()
        if (inspect.isfunction(x) or inspect.isclass(x)) and not name.startswith("_")
        and x.__module__ == module.__name__
    }  # fmt: skip


def test_no_public_function_is_forgotten():
    calls = [*OWN, *trainings(Path("nowhere"))]
    known = {str(one).split(".")[0] for one in calls} | {
        "TableSize",
    }  # no calls of ours
    for module in (tasks, model, polar, spectral, geometry, decay, matrices, lrdlib.optimizer,
                   fourier, exercises, config, records, runs, sweep, train, batches,
                   checkpoint):  # fmt: skip
        assert public(module) - {*UNCHECKED.get(module, "").split()} <= known
    assert set(lrdlib.__all__) <= known


# ---- what no one can mean, of a TrainConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"p": 30_000},
            "p = 30000 asks for a table of 900,000,000 sequences, 36.0 GB; at most",
        ),
        ({"p": 2**31}, "p = 2147483648 asks for a table of about 10^19 sequences"),
        ({"bits": 64}, "bits = 64 asks for a table of about 10^19 sequences"),
        (
            {"layers": 10**9},
            "layers = 1000000000, mlp_ratio = 4 asks for 196,928,000,025,472",
        ),
        ({"d_model": 2**20}, "d_model = 1048576, heads = 4"),
        (
            {"batch_size": 10**9},
            "batch_size = 1000000000 asks for a tensor of 1,536,000,000,000",
        ),
        (
            {"steps": 10**12},
            "steps = 1000000000000 with eval_every = 50 asks for 20,000,000,002",
        ),
        (
            {"steps": 10**9, "eval_every": 1},
            "steps = 1000000000 with eval_every = 1 asks for",
        ),
        (
            {"steps": 10**5000},
            "steps must be an integer <= 9223372036854775807, got an integer",
        ),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_a_run_that_no_one_can_mean_is_refused(options, message, monkeypatch):
    def built(*_, **__):
        raise AssertionError("built a table to look at its size")

    monkeypatch.setattr(tasks, "_pairs", built)
    with pytest.raises(ValueError, match=re.escape(message)):
        config.TrainConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"p": 127, "d_model": 1024, "batch_size": 127**2},
        {"p": 2001, "batch_size": 2001**2 // 100},
        {"task": "parity", "bits": 20},
        {"steps": 10**6, "eval_every": 5, "d_model": 16},
        {"steps": 10**12, "eval_every": 10**10},
        {"d_model": 4096, "heads": 32, "layers": 48},
    ],
    ids=str,
)
def test_a_large_run_is_not(options):
    made = config.TrainConfig(**options)
    assert all(getattr(made, name) == x for name, x in options.items())


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_model_of_a_config_is_that_of_its_table(name):
    one = config.TrainConfig(task=name, p=7, bits=3)
    assert one.model(one.data()) == one.model(tasks.table_size(name, p=7, bits=3))
