"""The scale-invariant transformer: a pure function of its parameters.

    X_0     = embedding[tokens] + position
    X'_l    = X_l  + Attention_l(RMSNorm(X_l))        Q and K are normalised per head (QK-Norm)
    X_{l+1} = X'_l + MLP_l(RMSNorm(X'_l))             MLP(X) = SiLU(X W_up^T) W_down^T
    logits  = RMSNorm(X_L at the last position) W_head^T

No biases, no causal mask. Every parameter may carry one leading `runs` axis, so that a
stack of independent models is one batched model: shapes below write `...` for that axis
(absent for a single model). Weights act as torch's do, y = x W^T with W of shape (out, in).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib._check import (
    FLOATS,
    amount,
    check_bool,
    check_bytes,
    check_choice,
    check_dense,
    check_float,
    check_instance,
    check_integer,
    check_rows,
    shown,
)

Params = dict[str, Tensor]

QK_NORMS = ("head", "width", "none")
MATRIX_ROLES = ("query", "key", "value", "output", "up", "down")
SIZES = ("vocab", "seq_len", "classes", "d_model", "heads", "layers", "mlp_ratio")
GAIN_ROLES = ("attention_norm", "mlp_norm", "query_norm", "key_norm", "norm")
# Inside RMSNorm's root (Zhang and Sennrich 2019); scale invariance is exact only as EPS -> 0.
EPS = 1e-6
# Of the largest model: 48 layers of width 4096 take 39 GB in float32.
PARAMETER_BYTES = 64 * 2**30
MAX_LAYERS = 10_000


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the transformer: by default two layers of width 128 with four heads.

    vocab, seq_len, classes: of the task. qk_norm: normalise queries and keys per "head",
    over the whole "width", or "none". gains: whether each RMSNorm has a learned gain,
    initially 1. numpy's integers become Python's. Raises TypeError or ValueError for a size
    that is not a positive integer, heads that do not divide d_model, an unknown qk_norm,
    more than MAX_LAYERS layers, or float32 parameters of more than 64 GiB.

    >>> ModelConfig(vocab=98, seq_len=3, classes=97).parameters
    419328
    """

    vocab: int
    seq_len: int
    classes: int
    d_model: int = 128
    heads: int = 4
    layers: int = 2
    mlp_ratio: int = 4
    qk_norm: str = "head"
    gains: bool = True

    def __post_init__(self) -> None:
        for name in SIZES:
            check_integer(name, value := getattr(self, name))
            if isinstance(value, np.generic):  # whose products would wrap around
                object.__setattr__(self, name, value.item())
        check_choice("qk_norm", self.qk_norm, QK_NORMS)
        check_bool("gains", self.gains)
        if self.d_model % self.heads:
            raise ValueError(
                f"heads must divide d_model = {shown(self.d_model)}, got {shown(self.heads)}"
            )
        given = ", ".join(f"{name} = {shown(getattr(self, name))}" for name in SIZES)
        asked = f"{amount(self.parameters)} parameters"
        check_bytes(given, asked, 4 * self.parameters, PARAMETER_BYTES)
        check_integer("layers", self.layers, at_most=MAX_LAYERS)

    @property
    def parameters(self) -> int:
        """How many numbers the parameters of one model hold."""
        block = sum(math.prod(shape) for shape in _block_shapes(self).values())
        outside = self.vocab + self.seq_len + self.classes + self.gains
        return self.layers * block + outside * self.d_model


def role(name: str) -> str:
    """The role of a parameter in the model: its name without the layer.

    >>> role("0.query"), role("embedding")
    ('query', 'embedding')
    """
    check_instance("name", name, str)
    return name.rpartition(".")[2]


def shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter, in the order in which they are initialised.

    >>> shapes(ModelConfig(vocab=98, seq_len=3, classes=97))["1.up"]
    (512, 128)
    """
    check_instance("config", config, ModelConfig)
    d = config.d_model
    out: dict[str, tuple[int, ...]] = {
        "embedding": (config.vocab, d),
        "position": (config.seq_len, d),
    }
    block = _block_shapes(config)
    for layer in range(config.layers):
        out |= {f"{layer}.{name}": shape for name, shape in block.items()}
    return out | {"head": (config.classes, d)} | ({"norm": (d,)} if config.gains else {})


def _block_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Role and shape of every parameter of one layer."""
    d, m = config.d_model, config.mlp_ratio * config.d_model
    qk = d // config.heads if config.qk_norm == "head" else d
    block: dict[str, tuple[int, ...]] = {
        "query": (d, d),
        "key": (d, d),
        "value": (d, d),
        "output": (d, d),
        "up": (m, d),
        "down": (d, m),
    }
    gains: dict[str, tuple[int, ...]] = {"attention_norm": (d,), "mlp_norm": (d,)}
    if config.qk_norm != "none":
        gains |= {"query_norm": (qk,), "key_norm": (qk,)}
    return block | (gains if config.gains else {})


def init_params(config: ModelConfig, generator: torch.Generator) -> Params:
    """Random parameters of one model, float32 on the generator's device.

    Matrices are N(0, 1/fan_in), the embedding N(0, 1), positions N(0, 0.02^2), gains 1.
    Raises TypeError for a config or a generator that is none.

    >>> config = ModelConfig(vocab=5, seq_len=3, classes=4)
    >>> params = init_params(config, torch.Generator().manual_seed(0))
    >>> sum(W.numel() for W in params.values())
    395520
    """
    check_instance("config", config, ModelConfig)
    check_instance("generator", generator, torch.Generator)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        std = initial_std(name, shape)
        if std is None:
            return torch.ones(shape, dtype=torch.float32, device=generator.device)
        return std * torch.randn(
            shape, generator=generator, dtype=torch.float32, device=generator.device
        )

    return {name: draw(name, shape) for name, shape in shapes(config).items()}


def initial_std(name: str, shape: tuple[int, ...]) -> float | None:
    """Standard deviation of a parameter when it is drawn; None for a gain, which starts at
    1.

    >>> initial_std("0.down", (64, 256)), initial_std("norm", (64,))
    (0.0625, None)
    """
    check_instance("shape", shape, tuple)
    if not shape:
        raise ValueError("shape must have at least one side, got ()")
    if role(name) in GAIN_ROLES:
        return None
    return {"embedding": 1.0, "position": 0.02}.get(name, 1 / math.sqrt(shape[-1]))


def stack_params(models: Sequence[Params]) -> Params:
    """Join models of one shape into a stack: every tensor gains a leading `runs` axis.

    Raises TypeError or ValueError unless `models` is a list of parameters that agree in
    names and shapes.

    >>> stack_params([{"head": torch.zeros(4, 2)}] * 3)["head"].shape
    torch.Size([3, 4, 2])
    """
    if not isinstance(models, Sequence) or isinstance(models, (str, bytes)):
        raise TypeError(f"models must be a list of parameters, got {type(models).__name__}")
    if not models:
        raise ValueError("models must hold the parameters of at least one model, got none")
    for i, params in enumerate(models):
        check_instance(f"models[{i}]", params, Mapping)
        for name, W in params.items():
            check_dense(f"models[{i}][{name!r}]", W)
        if {name: (W.shape, W.dtype, W.device) for name, W in params.items()} != {
            name: (W.shape, W.dtype, W.device) for name, W in models[0].items()
        }:
            raise ValueError(
                "models must agree in the names, shapes, dtypes and devices of their "
                f"parameters, got others in models[{i}] than in models[0]"
            )
    return {name: torch.stack([params[name] for params in models]) for name in models[0]}


def check_params(params: Params, config: ModelConfig) -> None:
    """Raise TypeError or ValueError unless `params` are all the parameters of `config`, of
    one model or a stack, on one device, of one floating-point dtype; gains may be narrower.

    >>> check_params({}, ModelConfig(vocab=5, seq_len=3, classes=4, layers=1, gains=False))
    Traceback (most recent call last):
    ...
    ValueError: params must hold the 9 parameters of config, got 0: without embedding
    """
    expected = shapes(config)
    if _as_expected(params, expected):
        return
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of tensors, got {type(params).__name__}")
    if params.keys() != expected.keys():
        missing = [name for name in expected if name not in params]
        foreign = [name for name in params if name not in expected]
        raise ValueError(
            f"params must hold the {len(expected)} parameters of config, got {len(params)}: "
            + (f"without {missing[0]}" if missing else f"with {shown(foreign[0])}")
        )
    runs: set[int] = set()
    kinds: set[tuple[torch.dtype, torch.device]] = set()
    for name, shape in expected.items():
        W, n = params[name], len(shape)
        check_float(f"params[{name!r}]", W)
        if W.shape[-n:] != shape or W.ndim > n + 1:
            raise ValueError(
                f"params[{name!r}] must have shape {shape}, with at most a runs axis before "
                f"it, got {tuple(W.shape)}"
            )
        runs.update(W.shape[:-n])
        wide = torch.promote_types(W.dtype, params["embedding"].dtype)
        kinds.add((wide if role(name) in GAIN_ROLES else W.dtype, W.device))
    if len(runs - {1}) > 1 or len(kinds) > 1:
        raise ValueError(
            "params must agree in their runs axis, dtype and device, got "
            f"{sorted(runs)} runs of {sorted(map(str, kinds))}"
        )


def _as_expected(params: Params, expected: dict[str, tuple[int, ...]]) -> bool:
    """Whether params are as expected at a glance: in order, all with the same runs axis or
    none, dense, of one dtype and device. `forward` looks at each step: 20 microseconds."""
    try:
        tensors = list(params.values())
        runs = tuple(tensors[0].shape[:-2])
        sizes = [runs + shape for shape in expected.values()]
        dtypes, devices = {W.dtype for W in tensors}, {W.device for W in tensors}
        return (
            list(params) == list(expected)
            and len(runs) <= 1
            and [W.shape for W in tensors] == sizes
            and {W.layout for W in tensors} == {torch.strided}
            and len(dtypes) == len(devices) == 1
            and dtypes < {*FLOATS}
            and torch.device("meta") not in devices
        )
    except (AttributeError, IndexError, RuntimeError):  # no mapping, none in it, no tensors
        return False


def _check_tokens(tokens: Tensor, params: Params, config: ModelConfig) -> None:
    """Raise unless tokens are int64 of shape (B, T) or (runs, B, T), on params' device."""
    check_rows("tokens", tokens)
    E = params["embedding"]
    if tokens.ndim not in (2, 3) or tokens.shape[-1] != config.seq_len:
        raise ValueError(
            f"tokens must have shape (B, {config.seq_len}) or (runs, B, {config.seq_len}), "
            f"got {tuple(tokens.shape)}"
        )
    runs = {W.shape[0] for W in (E, params["head"]) if W.ndim == 3} | {*tokens.shape[:-2]}
    if len(runs - {1}) > 1 or tokens.device != E.device:
        raise ValueError(
            "tokens must have the runs and the device of params, got shape "
            f"{tuple(tokens.shape)} on {tokens.device} for {tuple(E.shape)} on {E.device}"
        )


def _check_temper(temper: Tensor, tokens: Tensor, params: Params) -> None:
    """Raise unless temper is of one number, or one for each run."""
    check_float("temper", temper)
    heads = params["head"]
    runs = {*heads.shape[:-2], *tokens.shape[:-2], *temper.shape}
    if temper.ndim > 1 or len(runs - {1}) > 1:
        raise ValueError(
            "temper must be one number, or one for each run, got shape "
            f"{tuple(temper.shape)} for a head {tuple(heads.shape)} and tokens "
            f"{tuple(tokens.shape)}"
        )


def _one_hot(tokens: Tensor, vocab: int) -> Tensor:
    """(..., T) to (..., T, vocab), int64. Raise ValueError for a token that is none, where
    torch sees it."""
    try:
        return F.one_hot(tokens, vocab)
    except RuntimeError:
        low, high = (int(token) for token in tokens.aminmax())
        if low >= 0 and high < vocab:  # it was not that
            raise
        raise ValueError(
            f"tokens must be in 0 .. {vocab - 1} (vocab = {vocab}), got {low} .. {high}"
        ) from None


def rms_norm(X: Tensor) -> Tensor:
    """X / sqrt(mean(X^2) + eps) along the last axis (Zhang and Sennrich 2019); `gained`
    applies its gain."""
    return F.rms_norm(X, X.shape[-1:], eps=EPS)


def gained(W: Tensor, gain: Tensor | None) -> Tensor:
    """The matrix that reads X as W reads X * gain: (X * gain) W^T = X (W * gain)^T, which
    is far cheaper."""
    return W if gain is None else W * gain.unsqueeze(-2)


def linear(X: Tensor, W: Tensor) -> Tensor:
    """X W^T for X (..., B, T, in) and W (..., out, in): the rows of all B sequences in one
    matmul."""
    return rows_times(X.flatten(-3, -2), W.mT).unflatten(-2, X.shape[-3:-1])


def rows_times(X: Tensor, W: Tensor) -> Tensor:
    """X W for X (..., rows, in) and W (..., in, out); a stack of one as a plain product,
    whose gradient is faster."""
    return X @ (W.squeeze(0) if W.ndim == 3 and len(W) == 1 else W)


def qk_norm(X: Tensor, config: ModelConfig) -> Tensor:
    """Split (..., B, T, d) queries or keys into heads (..., B, T, heads, d_h), normalised
    as config.qk_norm says."""
    if config.qk_norm == "width":
        X = rms_norm(X)
    X = X.unflatten(-1, (config.heads, -1))  # (..., B, T, heads, d_h)
    return rms_norm(X) if config.qk_norm == "head" else X


def attention(
    X: Tensor,
    read: slice,
    weights: Params,
    config: ModelConfig,
    temper: Tensor | None = None,
) -> Tensor:
    """Attention from the positions `read` to all positions: X = RMSNorm(...) (..., B, T, d)
    -> (..., B, read, d).

    softmax(Norm(X W_Q^T) Norm(X W_K^T)^T / sqrt(d_h)) X W_V^T W_O^T, the paper's equation
    (2), without a mask. The products over the few positions are written out: thousands of 3
    x 3 matmuls are slower than one sum. temper (...,): a factor of the scores of each run.
    """
    gain = weights.get("attention_norm")
    # Q (..., B, read, heads, d_h); K and V (..., B, T, heads, d_h)
    Q = qk_norm(linear(X[..., read, :], gained(weights["query"], gain)), config)
    K = qk_norm(linear(X, gained(weights["key"], gain)), config)
    V = linear(X, gained(weights["value"], gain)).unflatten(-1, (config.heads, -1))
    d_h = Q.shape[-1]
    if "query_norm" in weights:  # in the product Q K^T the two gains act as one
        G = weights["query_norm"] * weights["key_norm"]  # (..., d_h); for "width" (..., d)
        # (..., 1, 1, heads, d_h), with 1 for heads where all heads share the gain
        Q = Q * G[..., None, None, :].unflatten(-1, (-1, d_h))
    if temper is not None:
        Q = Q * temper[..., None, None, None, None]
    products = Q.unsqueeze(-3) * K.unsqueeze(-4)  # (..., B, read, T, heads, d_h)
    A = (products.sum(-1) / math.sqrt(d_h)).softmax(-2)  # (..., B, read, T, heads)
    mixed = (A.unsqueeze(-1) * V.unsqueeze(-4)).sum(-3)  # (..., B, read, heads, d_h)
    return linear(mixed.flatten(-2), weights["output"])


def forward(
    params: Params, tokens: Tensor, config: ModelConfig, temper: Tensor | None = None
) -> Tensor:
    """Logits (..., B, classes) of the sequences `tokens` (..., B, T), int64.

    tokens may be (B, T), shared by every run of a stack, or (runs, B, T). The last layer
    computes only the position that is read, the last one. The embedding is a product with
    one-hot rows, which serves a stack as it serves one. temper (...,), one number per run:
    a factor of all attention scores; 0 makes attention uniform.

    Raises TypeError or ValueError for params that are not those of `config`, tokens of
    another dtype, shape or device, or a temper of another number of runs; and for a token
    outside 0 .. vocab - 1 on the CPU (on a GPU the look would wait for the device). Nothing
    is checked inside torch.compile.
    """
    if not torch.compiler.is_compiling():
        check_params(params, config)
        _check_tokens(tokens, params, config)
        if temper is not None:
            _check_temper(temper, tokens, params)
    E = params["embedding"]  # (..., vocab, d)
    onehot = _one_hot(tokens, config.vocab).to(E.dtype)  # (..., B, T, vocab)
    X = rows_times(onehot.flatten(-3, -2), E).unflatten(-2, tokens.shape[-2:])
    X = X + params["position"].unsqueeze(-3)  # (..., B, T, d)
    for layer in range(config.layers):
        prefix = f"{layer}."
        weights = {role(name): W for name, W in params.items() if name.startswith(prefix)}
        read = slice(-1, None) if layer == config.layers - 1 else slice(None)
        X = X[..., read, :] + attention(rms_norm(X), read, weights, config, temper)
        # (..., B, read, mlp_ratio d)
        H = F.silu(linear(rms_norm(X), gained(weights["up"], weights.get("mlp_norm"))))
        X = X + linear(H, weights["down"])  # (..., B, read, d), read = 1 in the last layer
    return linear(rms_norm(X), gained(params["head"], params.get("norm"))).squeeze(-2)
