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


def decay_weight(name, W, config):
    """What the rule of `config` does to the weight `name` after the optimiser's step, by
    float64 SVD."""
    role = name.split(".")[-1]
    chosen = BLOCK if config.select == "attention+mlp" else ("query", "key")
    selected, gain = role in chosen, role in GAINS
    t = config.weight_decay * (config.lr if config.mode == "decoupled" else 1.0)
    if config.rule in ("lrd", "elastic", "proximal") and selected and config.weight_decay:
        rule = "proximal" if config.rule == "proximal" else "low_rank"
        W = decayed(W, t, rule=rule, scale=config.scale)
    if gain:
        return W
    if config.rule == "l2":
        return (1 - config.lr * config.weight_decay) * W
    if config.rule == "elastic" or (config.rule in ("lrd", "proximal") and not selected):
        return (1 - config.lr * config.l2) * W
    return W


def train(params, logits_of, batches, config):
    """Plain training of one model in float64: params name -> tensor, logits_of(params,
    tokens), batches of (x, y)."""
    params = {name: W.detach().double().requires_grad_() for name, W in params.items()}
    states = {name: {} for name in params}
    for tokens, labels in batches:
        for W in params.values():
            W.grad = None
        F.cross_entropy(logits_of(params, tokens), labels).backward()
        stepped = {
            n: adamw_step(W, states[n], lr=config.lr, betas=config.betas)
            for n, W in params.items()
        }
        params = {
            n: decay_weight(n, W, config).requires_grad_() for n, W in stepped.items()
        }
    return {name: W.detach() for name, W in params.items()}
