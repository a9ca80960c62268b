"""Weights to decay: random matrices, matrices of known spectra, and a small network."""

import torch
from torch import nn


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def conditioned(*shape, seed=0, dtype=torch.float64):
    """A stack of matrices with singular values in [0.1, 1], where every polar method is
    accurate."""
    U, S, Vh = torch.linalg.svd(
        gaussian(*shape, seed=seed, dtype=torch.float64), full_matrices=False
    )
    S = torch.linspace(1.0, 0.1, S.shape[-1], dtype=torch.float64).expand_as(S)
    return ((U * S.unsqueeze(-2)) @ Vh).to(dtype)


def rtol_of(dtype):
    """Rounding of an SVD and two products in this precision, with room for small
    matrices."""
    return {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 3e-2}[dtype]


def svdvals(W):
    return torch.linalg.svdvals(W.detach().double())


class Net(nn.Module):
    """Two blocks in a ModuleList, an embedding, a position table, norms with bias, and a
    head tied to the embedding."""

    def __init__(self, *, tied=True):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.positions = nn.Parameter(gaussian(3, 8))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "attention": nn.MultiheadAttention(8, 2),
                    "norm": nn.LayerNorm(8),
                    "mlp": nn.Linear(8, 8),
                }
            )
            for _ in range(2)
        )
        self.head = nn.Linear(8, 7, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions
        for block in self.blocks:
            x = x + block["attention"](x, x, x, need_weights=False)[0]
            x = x + torch.tanh(block["mlp"](block["norm"](x)))
        return self.head(x)


def net(seed=0, **options):
    torch.manual_seed(seed)
    return Net(**options)


def loss_of(model):
    return model(torch.tensor([[0, 1, 2], [3, 4, 5]])).square().mean()


# tensors that hold no strength of a decay, made when asked for
NO_STRENGTHS = {
    "bool": lambda: torch.ones(1, 1).bool(),
    "complex": lambda: torch.ones(1, 1).cfloat(),
    "float8": lambda: torch.zeros(1, 1, dtype=torch.float8_e5m2),
    "meta": lambda: torch.ones(1, 1, device="meta"),
    "sparse": lambda: torch.eye(1).to_sparse(),
}


def parameters(*shapes, dtype=torch.float32):
    return [
        nn.Parameter(gaussian(*shape, seed=i, dtype=dtype))
        for i, shape in enumerate(shapes)
    ]


def copies(params):
    return [W.detach().clone() for W in params]
