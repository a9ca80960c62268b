"""Slow, obviously right references: plain loops, numpy in float64, full SVDs. Nothing here
imports the code it checks.

The exception is data (the table of a task, its split, the order of the batches), which has
tests of its own.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

EPS = 1e-6  # inside the root of RMSNorm, as the model documents it


# --- the model, one sequence, one head, one position at a time


def rms_norm(x, gain=None, eps=EPS):
    y = x / math.sqrt(float(np.mean(x * x)) + eps)
    return y if gain is None else y * gain


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def silu(x):
    return x / (1 + np.exp(-x))


def block(X, W, *, heads, qk_norm, eps):
    """One transformer block on the rows of X (T, d); W maps a role to its array."""
    T, d = X.shape
    dh = d // heads
    N = [rms_norm(X[t], W.get("attention_norm"), eps) for t in range(T)]
    Q, K, V = ([W[name] @ N[t] for t in range(T)] for name in ("query", "key", "value"))
    if qk_norm == "width":
        Q = [rms_norm(q, W.get("query_norm"), eps) for q in Q]
        K = [rms_norm(k, W.get("key_norm"), eps) for k in K]
    rows = []
    for t in range(T):
        mixed = np.zeros(d)
        for h in range(heads):
            part = slice(h * dh, (h + 1) * dh)
            q, keys = Q[t][part], [k[part] for k in K]
            if qk_norm == "head":
                q = rms_norm(q, W.get("query_norm"), eps)
                keys = [rms_norm(k, W.get("key_norm"), eps) for k in keys]
            A = softmax(np.array([q @ k / math.sqrt(dh) for k in keys]))
            mixed[part] = sum(A[s] * V[s][part] for s in range(T))
        x = X[t] + W["output"] @ mixed
        rows.append(x + W["down"] @ silu(W["up"] @ rms_norm(x, W.get("mlp_norm"), eps)))
    return np.stack(rows)


def forward(params, tokens, *, heads, layers, qk_norm, eps=EPS):
    """Logits (B, classes), float64, of one model: every layer computes every position."""
    P = {name: W.detach().double().numpy() for name, W in params.items()}
    out = []
    for sequence in tokens.tolist():
        X = np.stack(
            [P["embedding"][token] + P["position"][t] for t, token in enumerate(sequence)]
        )
        for layer in range(layers):
            W = {
                name.split(".")[1]: value
                for name, value in P.items()
                if name.split(".")[0] == str(layer)
            }
            X = block(X, W, heads=heads, qk_norm=qk_norm, eps=eps)
        out.append(P["head"] @ rms_norm(X[-1], P.get("norm"), eps))
    return torch.from_numpy(np.stack(out))


# --- decay, by a float64 SVD of one matrix


def matrix_svd(W):
    """U, S, Vh and the numerical rank of one matrix, float64."""
    A = W.detach().double().numpy()
    U, S, Vh = np.linalg.svd(A, full_matrices=False)
    # half precision has no SVD
    eps = torch.finfo(torch.float64 if W.dtype == torch.float64 else torch.float32).eps
    return U, S, Vh, int(np.sum(S / max(S[0], 1e-300) > 10 * max(A.shape) * eps))


def decayed(W, t, *, rule, scale):
    """One matrix after one decay of strength t, float64; singular values below the
    numerical rank count as 0."""
    if rule == "frobenius":
        return (1 - t) * W.detach().double()
    U, S, Vh, r = matrix_svd(W)
    s = np.linalg.norm(S) / math.sqrt(max(r, 1)) if scale == "norm" else 1.0
    moved, kept = S - t * s, np.arange(len(S)) < r
    S = np.where(kept, moved, S) if rule == "low_rank" else np.maximum(moved, 0.0)
    return torch.from_numpy(U @ np.diag(S) @ Vh)


def decayed_stack(W, t, *, rule, scale):
    """`decayed` for each matrix of a stack (..., m, n); t is a number or one per matrix."""
    flat = W.reshape(-1, *W.shape[-2:])
    strengths = np.broadcast_to(np.asarray(t, dtype=float).reshape(-1), len(flat))
    parts = [
        decayed(w, float(x), rule=rule, scale=scale)
        for w, x in zip(flat, strengths, strict=True)
    ]
    return torch.stack(parts).reshape(W.shape)


# --- training: one model, one plain loop

BLOCK = ("query", "key", "value", "output", "up", "down")
GAINS = ("attention_norm", "mlp_norm", "query_norm", "key_norm", "norm")


def adamw_step(W, state, *, lr, betas, eps=1e-8):
    """Adam with bias correction (Kingma and Ba 2015), in float64 on numpy-like tensors; no
    weight decay."""
    grad, (b1, b2) = W.grad, betas
    state["step"] = state.get("step", 0) + 1
    state["m"] = b1 * state.get("m", torch.zeros_like(W)) + (1 - b1) * grad
    state["v"] = b2 * state.get("v", torch.zeros_like(W)) + (1 - b2) * grad * grad
    m, v = state["m"] / (1 - b1 ** state["step"]), state["v"] / (1 - b2 ** state["step"])
    return W.detach() - lr * m / (v.sqrt() + eps)


WHERE = {
    "qk": ("query", "key"),
    "vo": ("value", "output"),
    "mlp": ("up", "down"),
    "attention": ("query", "key", "value", "output"),
    "embedding": ("embedding", "position"),
    "head": ("head",),
}


def low_rank(W, t, config):
    """One matrix after its low-rank or proximal decay, the part of it that the config asks
    for."""
    if config.part == "both":
        rule = "proximal" if config.rule == "proximal" else "low_rank"
        return decayed(W, t, rule=rule, scale=config.scale)
    G = W - decayed(W, 1.0, rule="low_rank", scale=config.scale)
    radial = (G * W).sum() / (W * W).sum() * W
    return W - t * (radial if config.part == "radial" else G - radial)


def per_head(W, role, heads, what):
    """`what` of each head's part of an attention matrix: rows, or columns of the output."""
    parts = W.chunk(heads, dim=1 if role == "output" else 0)
    return torch.cat([what(part) for part in parts], dim=1 if role == "output" else 0)


def frozen(name, config):
    """Whether the config leaves this parameter as it begins."""
    kept = ("query", "key", "query_norm", "key_norm")
    return config.attention == "frozen" and name.split(".")[-1] in kept


def decay_weight(name, W, config, start):
    """What `config` does to the weight `name` after the optimiser's step, by float64 SVD;
    start: the weight as it began."""
    role = name.split(".")[-1]
    selected = any(role in WHERE[word] for word in config.select.split("+"))
    t = config.weight_decay * (config.lr if config.mode == "decoupled" else 1.0)
    if frozen(name, config):
        return W
    if config.rank == "flat" and role in ("query", "key"):
        U, S, Vh, _ = matrix_svd(W)
        W = torch.from_numpy(U @ Vh) * np.linalg.norm(S) / math.sqrt(len(S))
    elif config.rule in ("lrd", "elastic", "proximal") and selected and config.weight_decay:
        if config.per_head and role in WHERE["attention"]:
            W = per_head(W, role, config.heads, lambda part: low_rank(part, t, config))
        else:
            W = low_rank(W, t, config)
    if role not in GAINS or config.decay_gains:
        if config.rule == "l2" and (config.l2_on == "all" or selected or role in GAINS):
            W = (1 - config.lr * config.weight_decay) * W
        elif config.rule == "elastic" or (
            config.rule in ("lrd", "proximal") and not selected
        ):
            W = (1 - config.lr * config.l2) * W
    if config.hold == "norm" and role in BLOCK:
        W = W * (torch.linalg.norm(start) / torch.linalg.norm(W))
    return W


def muon_step(W, state, *, lr, momentum):
    """Muon with Nesterov's momentum (Jordan 2024), its step as large as AdamW's (Liu et al.
    2025)."""
    state["M"] = momentum * state.get("M", torch.zeros_like(W)) + (1 - momentum) * W.grad
    U, _, Vh, r = matrix_svd(momentum * state["M"] + (1 - momentum) * W.grad)
    polar = torch.from_numpy(U[:, :r] @ Vh[:r])
    return W.detach() - lr * 0.2 * math.sqrt(max(W.shape)) * polar


def sgd_step(W, state, *, lr, momentum):
    """SGD with momentum, as torch.optim.SGD has it."""
    state["M"] = momentum * state.get("M", torch.zeros_like(W)) + W.grad
    return W.detach() - lr * state["M"]


def optimiser_step(name, W, state, config, *, lr):
    """The weight after the config's optimiser."""
    if frozen(name, config):
        return W.detach()
    if config.optimizer == "sgd":
        return sgd_step(W, state, lr=lr, momentum=config.betas[0])
    if config.optimizer == "muon" and name.split(".")[-1] in BLOCK:
        return muon_step(W, state, lr=lr, momentum=config.betas[0])
    return adamw_step(W, state, lr=lr, betas=config.betas)


def train(params, logits_of, batches, config):
    """Plain training of one model in float64: params name -> tensor, logits_of(params,
    tokens), batches of (x, y)."""
    scaled = (*BLOCK, "head")
    first = {
        name: W.detach().double()
        * (config.init_scale if name.split(".")[-1] in scaled else 1.0)
        for name, W in params.items()
    }
    params = {name: W.clone().requires_grad_() for name, W in first.items()}
    states = {name: {} for name in params}
    for tokens, labels in batches:
        for W in params.values():
            W.grad = None
        F.cross_entropy(logits_of(params, tokens), labels).backward()
        stepped = {
            n: optimiser_step(n, W, states[n], config, lr=config.lr)
            for n, W in params.items()
        }
        params = {
            n: decay_weight(n, W, config, first[n]).requires_grad_()
            for n, W in stepped.items()
        }
    return {name: W.detach() for name, W in params.items()}


# --- the lab's numbers as text


def decode_digits(code):
    """The numbers of a code of lrdlib.lab.digits, one letter at a time; NaN where there is
    none."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
    text, n = code["text"], len(code["text"]) // 2
    numbers = []
    for first, second in zip(text[:n], text[n:], strict=True):
        if first + second == "~~":
            numbers.append(math.nan)
            continue
        place = 64 * digits.index(first) + digits.index(second)
        x = code["low"] + place * (code["high"] - code["low"]) / 4095
        numbers.append(10**x if code["log"] else x)
    return np.array(numbers)
