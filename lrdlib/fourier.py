"""Measures of the circuit that a network builds for modular arithmetic: Fourier modes over
the p numbers.

A network that adds modulo p by rotating (Nanda et al. 2023) needs a handful of frequencies
k, and holds each number a as cos(w_k a) and sin(w_k a), w_k = 2 pi k / p. One that
memorises needs none in particular.

    embedding   fourier_power, key_frequencies                which frequencies, and how few
    logits      sum_power, restricted_loss, excluded_loss     how much of the answer they give
    algorithm   gradient_symmetricity, distance_irrelevance   "clock" or "pizza" (Zhong et al. 2023)

`logits` (..., p^2, p) are those of the whole table of task("add", p), in its order: row a p
+ b is the pair (a, b).
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from lrdlib._check import (
    check_callable,
    check_dense,
    check_float,
    check_matrix,
    check_real,
    check_rows,
)
from lrdlib.model import ModelConfig, Params, check_params, forward

# ---- which frequencies


def fourier_power(E: Tensor) -> Tensor:
    """The share of the variance of E's rows over a = 0 .. p - 1 that each frequency k = 1
    .. p // 2 holds.

    E (..., p, d): one row per number, such as an embedding without its "=" token, or a
    head; real, p >= 2. Returns (..., p // 2), which sums to 1: |sum_a E_a exp(-2 pi i k a /
    p)|^2 over the columns, both signs of k together (Parseval), divided by its sum; NaN if
    the rows do not vary, beyond the rounding of their mean. Raises TypeError or ValueError
    if E is no matrix. Source: Nanda, Chan, Lieberum, Smith and Steinhardt 2023, section
    4.2.

    >>> angle = 2 * torch.pi * 3 * torch.arange(11) / 11
    >>> fourier_power(torch.stack([angle.cos(), angle.sin()], -1)).argmax() + 1
    tensor(3)
    """
    check_matrix("E", E)
    if E.shape[-2] < 2:
        raise ValueError(f"E must have at least 2 rows, got shape {tuple(E.shape)}")
    power = _power(E.float())
    return power / _unless_rounding(power.sum(-1), E.float()).unsqueeze(-1)


def key_frequencies(power: Tensor, *, share: float | None = None) -> Tensor:
    """Which frequencies hold more than `share` of the whole: power (..., p // 2), shares ->
    booleans of its shape.

    share: by default twice an even share, 2 / (p // 2). Index i is the frequency k = i + 1;
    NaN is no key frequency. Nanda et al. 2023 pick the frequencies of a trained network by
    eye; a threshold can be stated and repeated. Raises TypeError or ValueError unless
    `power` is a floating-point tensor and 0 <= share < 1.

    >>> key_frequencies(torch.tensor([0.05, 0.05, 0.7, 0.1, 0.1])).nonzero().flatten() + 1
    tensor([3])
    """
    _check_values("power", power)
    if share is None:
        share = min(2 / power.shape[-1], 1.0)
    else:
        check_real("share", share, at_least=0, below=1)
    return power > share


# ---- how much of the answer they give


def sum_power(logits: Tensor) -> Tensor:
    """The share of the logits' variance over the table that cos(w_k (a + b)) and sin(w_k (a
    + b)) hold.

    logits (..., p^2, p) -> (..., p // 2), one share per k = 1 .. p // 2. All of them
    together are what depends on a + b alone, so they sum to at most 1; the rest tells pairs
    of one sum apart. The mean over the classes is taken off first, since a softmax cannot
    see it. NaN if they do not vary from pair to pair. Raises as `restricted_loss`.

    >>> right_answers = torch.tensor([0, 1, 2, 1, 2, 0, 2, 0, 1])  # modulo 3
    >>> sum_power(F.one_hot(right_answers, 3).float())
    tensor([1.])
    """
    p = _check_table(logits)
    X = logits.double() - logits.double().mean(-1, keepdim=True)  # (..., p^2, p)
    variance = (X - X.mean(-2, keepdim=True)).square().sum((-2, -1))  # (...)
    held = p * _power(_mean_by_sum(X, p))  # (..., p // 2); a sum stands for p pairs
    return (held / _unless_rounding(variance, logits.double()).unsqueeze(-1)).float()


def sum_component(logits: Tensor, keys: Tensor) -> Tensor:
    """The projection of the logits, as functions of (a, b), onto cos and sin of w_k (a + b)
    for the k in `keys`.

    logits (..., p^2, p) and keys (..., p // 2), booleans as from `key_frequencies` -> (...,
    p^2, p), float64. Averaging over the p pairs of each sum projects onto all functions of
    a + b; of that, the Fourier modes in `keys` are kept. In the 2-D Fourier transform over
    (a, b) these are the entries (k, k) and (-k, -k). Raises as `restricted_loss`.
    """
    p = _check_table(logits)
    _check_bools("keys", keys, p // 2, logits)
    modes = torch.fft.rfft(_mean_by_sum(logits.double(), p), dim=-2)  # (..., p // 2 + 1, p)
    kept = F.pad(keys, (1, 0)).unsqueeze(-1)  # (..., p // 2 + 1, 1), without the constant
    by_sum = torch.fft.irfft(modes * kept, n=p, dim=-2)  # (..., p, p): sums, classes
    return by_sum[..., _sums(p, logits.device), :]


def restricted_loss(logits: Tensor, keys: Tensor, rows: Tensor | None = None) -> Tensor:
    """The loss (...) of the logits' mean over the table plus their `sum_component`: the
    circuit alone.

    logits (..., p^2, p); keys (..., p // 2) booleans; rows (..., p^2), booleans: the pairs
    to take the mean cross-entropy over, by default all. The projection always uses the
    whole table. Raises TypeError or ValueError for another shape or type. Source: Nanda et
    al. 2023, section 5.1: all terms of the logits' 2-D Fourier transform are set to zero
    but the constant and those of cos(w_k (a + b)) and sin(w_k (a + b)).
    """
    p = _check_table(logits)
    if rows is not None:
        _check_bools("rows", rows, p * p, logits)
    mean = logits.double().mean(-2, keepdim=True)
    return _loss(mean + sum_component(logits, keys), rows)


def excluded_loss(logits: Tensor, keys: Tensor, rows: Tensor | None = None) -> Tensor:
    """The loss (...) of the logits without their `sum_component`: everything but the
    circuit.

    Arguments as of `restricted_loss`. Nanda et al. 2023, section 5.1, measure it on the
    training pairs: a network that has memorised them hardly misses the key frequencies, one
    that rotates is lost without them.
    """
    p = _check_table(logits)
    if rows is not None:
        _check_bools("rows", rows, p * p, logits)
    return _loss(logits.double() - sum_component(logits, keys), rows)


# ---- clock or pizza


def logits_of_embeddings(params: Params, config: ModelConfig) -> Callable[[Tensor], Tensor]:
    """The model as a function of the two embedded numbers: X (n, 2, d) -> logits (n,
    classes).

    params: of one model. It is lrdlib.model.forward on a stack of n models that differ in
    their embedding alone, which has three rows: X's two and that of "=". Position vectors
    are added as ever. Raises TypeError or ValueError for params that are not those of
    config or have a runs axis, and for a config of other than three tokens.
    """
    check_params(params, config)
    if config.seq_len != 3:
        raise ValueError(f"config must have seq_len = 3, got {config.seq_len}")
    if params["embedding"].ndim != 2:
        raise ValueError(
            "params must be those of one model, got embedding of shape "
            f"{tuple(params['embedding'].shape)}"
        )
    shared = {name: W.detach() for name, W in params.items()}
    small = replace(config, vocab=3)

    def logits_of(X: Tensor) -> Tensor:
        check_float("X", X)
        if X.ndim != 3 or X.shape[1:] != (2, config.d_model):
            raise ValueError(
                f"X must have shape (n, 2, {config.d_model}), got {tuple(X.shape)}"
            )
        equals = shared["embedding"][-1:].expand(len(X), 1, -1)  # (n, 1, d)
        tokens = torch.arange(3, device=X.device).expand(len(X), 1, 3)  # (n, B = 1, T = 3)
        stack = shared | {"embedding": torch.cat([X, equals], 1)}
        return forward(stack, tokens, small).squeeze(-2)

    return logits_of


def gradient_symmetricity(
    logits_of: Callable[[Tensor], Tensor], E: Tensor, triples: Tensor
) -> Tensor:
    """The mean cosine between dQ_abc / dE_a and dQ_abc / dE_b over triples (a, b, c): a
    number in [-1, 1].

    Q_abc is the logit of answer c to the pair (a, b). logits_of: X (n, 2, d) -> (n,
    classes), such as `logits_of_embeddings`; E (at least p, d): the embedding; triples (n,
    3), int64. Both gradients are taken at the two places of the input, so that a = b is no
    exception. 1 if the network sees E_a + E_b alone, as a pizza does; a clock of one
    frequency has cos(w (a - b)) at each triple, 0 on average. Raises TypeError or
    ValueError for triples of another shape, dtype or range, and for a logits_of that does
    not return logits which depend on X. Source: Zhong, Liu, Tegmark
    and Andreas 2023, definition 4.1, with 100 random triples.
    """
    check_callable("logits_of", logits_of)
    check_matrix("E", E)
    if E.ndim != 2:
        raise ValueError(f"E must have shape (p, d), got {tuple(E.shape)}")
    check_rows("triples", triples)
    if triples.ndim != 2 or triples.shape[1] != 3 or not len(triples):
        raise ValueError(
            f"triples must have shape (n, 3), n >= 1, got {tuple(triples.shape)}"
        )
    if bool((triples < 0).any()) or bool((triples[:, :2] >= len(E)).any()):
        raise ValueError(
            f"triples must hold a and b in 0 .. {len(E) - 1} and c >= 0, got "
            f"{triples.min().item()} .. {triples.max().item()}"
        )
    X = E.detach()[triples[:, :2]].requires_grad_()  # (n, 2, d), as G
    with torch.enable_grad():
        logits = logits_of(X)  # (n, classes)
        check_dense("logits_of(X)", logits)
        if logits.ndim != 2 or len(logits) != len(X) or not logits.requires_grad:
            raise ValueError(
                f"logits_of must return logits ({len(X)}, classes) that depend on X, got "
                f"shape {tuple(logits.shape)}"
            )
        if bool((triples[:, 2] >= logits.shape[1]).any()):
            raise ValueError(
                f"triples must hold answers c in 0 .. {logits.shape[1] - 1}, got "
                f"{triples[:, 2].max().item()}"
            )
        (G,) = torch.autograd.grad(logits.gather(-1, triples[:, 2:]).sum(), X)
    return F.cosine_similarity(G[:, 0], G[:, 1], dim=-1).mean()


def distance_irrelevance(logits: Tensor) -> Tensor:
    """How little the correct logit depends on the distance a - b: logits (..., p^2, p) ->
    (...), in [0, 1].

    mean_d std_i(L_{i, i + d}) / std_{i, j}(L_{i, j}), with L_{i, j} the logit of the right
    answer i + j. 0 if L depends on a - b alone (a pizza: |cos(w (a - b) / 2)|); 1 if it
    depends on a + b alone and p is odd; NaN if L is constant. (For even p a sum has the
    parity of its distance, and (-1)^(a + b) gives 0.) Raises as `restricted_loss`. Source:
    Zhong, Liu, Tegmark and Andreas 2023, definition 4.2.
    """
    p = _check_table(logits)
    answers = _sums(p, logits.device).expand(logits.shape[:-1])
    L = logits.double().gather(-1, answers.unsqueeze(-1)).squeeze(-1)  # (..., p^2)
    i = torch.arange(p, device=logits.device)
    by_distance = L[..., i * p + (i + i.unsqueeze(-1)) % p]  # (..., d, i)
    squares = (L - L.mean(-1, keepdim=True)).square().sum(-1)  # (...)
    whole = (_unless_rounding(squares, L.unsqueeze(-1)) / p**2).sqrt()
    return (by_distance.std(-1, correction=0).mean(-1) / whole).float()


# ---- numbers and checks


def _power(M: Tensor) -> Tensor:
    """sum_a |M_a - mean|^2 over the columns, as a sum over k = 1 .. p // 2: M (..., p, d)
    -> (..., p // 2)."""
    p = M.shape[-2]
    modes = torch.fft.rfft(M - M.mean(-2, keepdim=True), dim=-2)[..., 1:, :]  # k, columns
    power = 2 * modes.abs().square().sum(-1) / p
    if p % 2 == 0:
        power[..., -1] /= 2  # k = p / 2 is its own negative
    return power


def _unless_rounding(squares: Tensor, X: Tensor) -> Tensor:
    """squares (...), the sum of the squared deviations of X (..., n, d) from its mean over
    the n rows; NaN where that is no more than the rounding of a mean, n eps |X|_F."""
    rounding = X.shape[-2] * torch.finfo(X.dtype).eps * torch.linalg.matrix_norm(X)
    return squares.where(squares > rounding.square(), torch.nan)


def _sums(p: int, device: torch.device) -> Tensor:
    """(a + b) mod p of each row of the table, (p^2,)."""
    a = torch.arange(p, device=device)
    return ((a.unsqueeze(-1) + a) % p).flatten()


def _mean_by_sum(logits: Tensor, p: int) -> Tensor:
    """The mean over the p pairs (a, s - a) of each sum s: (..., p^2, c) -> (..., p, c)."""
    a = torch.arange(p, device=logits.device)
    rows = a * p + (a.unsqueeze(-1) - a) % p  # (s, a)
    return logits[..., rows, :].mean(-2)


def _loss(logits: Tensor, rows: Tensor | None) -> Tensor:
    """The mean cross-entropy (...) of logits (..., p^2, p) over `rows` (..., p^2), or all."""
    labels = _sums(logits.shape[-1], logits.device).expand(logits.shape[:-1])
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    losses = losses.view_as(labels)  # (..., p^2)
    if rows is None:
        return losses.mean(-1)
    return (losses * rows).sum(-1) / rows.sum(-1)


def _check_table(logits: Tensor) -> int:
    """p, for logits (..., p^2, p) of a whole table; raises unless they are that."""
    check_matrix("logits", logits)
    shape = logits.shape
    p = math.isqrt(shape[-2])
    if p < 2 or shape[-2:] != (p * p, p):
        raise ValueError(
            "logits must have shape (..., p * p, p), p >= 2: the whole table; got "
            f"{tuple(shape)}"
        )
    return p


def _check_bools(name: str, x: Tensor, n: int, logits: Tensor) -> None:
    """Raise unless x (..., n) holds booleans, for each stack of logits (..., p^2, p) or all."""
    check_dense(name, x)
    stacks = logits.shape[:-2]
    fits = x.ndim >= 1 and x.shape[-1] == n
    fits &= all(
        1 in (a, b) or a == b
        for a, b in zip(x.shape[-2::-1], reversed(stacks), strict=False)
    )
    if x.dtype != torch.bool or not fits:
        raise ValueError(
            f"{name} must be booleans {(*stacks, n)} or ({n},), got {x.dtype} "
            f"{tuple(x.shape)}"
        )


def _check_values(name: str, values: Tensor) -> None:
    """Raise unless values (..., n), n >= 1, are floating-point and not infinite."""
    check_float(name, values)
    if values.ndim < 1 or values.shape[-1] < 1:
        raise ValueError(
            f"{name} must have shape (..., n) with n >= 1, got {tuple(values.shape)}"
        )
    if bool(values.isinf().any()):
        raise ValueError(f"{name} must not be infinite, got {values.max().item()}")
