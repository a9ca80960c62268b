"""What the callbacks share: a decay of a model's matrices while somebody trains it."""

import inspect
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from lrdlib._check import check_integer, shown
from lrdlib.matrices import select
from lrdlib.optimizer import LowRankDecay, plain


class Attached:
    """Picks a model's matrices, attaches a `LowRankDecay` to its optimizer, and lets go.

    which, exclude: what `select` takes, in words. ranks_every: after how many steps the
    stable rank of each matrix is logged; 0 for never. settings: those of `LowRankDecay`,
    numbers and words alone, as checkpoints keep them.

    decay: the LowRankDecay, while it is attached and after; None before.

    Raises TypeError or ValueError for an argument of another kind.
    """

    def __init__(
        self,
        which: str = "attention+mlp",
        *,
        exclude: str | None = None,
        ranks_every: int = 0,
        **settings: Any,
    ) -> None:
        if not isinstance(which, str):
            raise TypeError(
                f"which must be words of `select`, as 'attention+mlp', got {shown(which)}"
            )
        check_integer("ranks_every", ranks_every, at_least=0)
        if exclude is not None and not isinstance(exclude, str):
            raise TypeError(f"exclude must be a string, got {shown(exclude)}")
        for name, value in settings.items():
            if isinstance(value, torch.Tensor):
                raise TypeError(f"{name} must be a number or a word, got a tensor")
        inspect.signature(LowRankDecay).bind((), **settings)  # a slip is told at once
        self.which, self.exclude, self.ranks_every = which, exclude, ranks_every
        self.settings = {name: plain(value) for name, value in settings.items()}
        self.decay: LowRankDecay | None = None
        self._handle: RemovableHandle | None = None
        self._logged = 0

    def attach(self, model: nn.Module, optimizer: Any, state: Any = None) -> None:
        """Decay the model's matrices after every step of the optimizer from now on, with
        the decay's `state_dict` that a checkpoint kept."""
        self.detach()  # where an earlier training ended in an error
        self._logged = 0
        matrices = select(model, self.which, exclude=self.exclude)
        self.decay = LowRankDecay(matrices, **self.settings)
        if state is not None:
            self.decay.load_state_dict(state)
        self._handle = self.decay.attach(optimizer)

    def detach(self) -> None:
        """Leave the optimizer as it was."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def ranks(self, step: int) -> dict[str, float]:
        """The stable rank of each matrix, if this is a step at which it is to be logged and
        has not been."""
        due = self.ranks_every and step and step % self.ranks_every == 0
        if self.decay is None or not due or step == self._logged:
            return {}
        self._logged = step
        return {f"stable_rank/{name}": rank for name, rank in self.decay.ranks().items()}
