"""Low-Rank Decay under the Trainer of Lightning (pip install 'lrdlib[lightning]')."""

from typing import Any

try:
    from pytorch_lightning import Callback
except ImportError:  # the same library under its other name
    from lightning.pytorch import Callback

from lrdlib.integrations.attached import Attached


class LowRankDecayCallback(Attached, Callback):
    """Low-rank decay after each optimizer step of a Lightning Trainer.

        from lrdlib.integrations.lightning import LowRankDecayCallback

        lrd = LowRankDecayCallback("attention+mlp", weight_decay=0.1, ranks_every=100)
        trainer = Trainer(callbacks=[lrd], logger=TensorBoardLogger("runs"))
        trainer.fit(module, data)

    The decay is attached when the training begins, when model and optimizer are where the
    strategy wants them, and taken off when it ends. Its state is in each checkpoint, and
    `fit(..., ckpt_path=...)` goes on with it, and with the settings that it holds, whatever
    the arguments of this callback. The arguments are those of `Attached`. The
    stable ranks go to the Trainer's loggers, TensorBoard or any other, as "stable_rank/" and
    the matrix's name.

    Raises as `select` and `LowRankDecay` do, before the first step; and ValueError for a
    module with several optimizers, to each of which a `LowRankDecay` of its own matrices
    can be attached in `configure_optimizers`.
    """

    _kept: dict[str, Any] | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach, with the state that a checkpoint kept."""
        if len(trainer.optimizers) != 1:
            raise ValueError(
                f"the module must have one optimizer, got {len(trainer.optimizers)} (attach "
                "a LowRankDecay to each in configure_optimizers)"
            )
        self.attach(pl_module, trainer.optimizers[0], self._kept)
        self._kept = None

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the ranks."""
        if ranks := self.ranks(trainer.global_step):
            for logger in trainer.loggers:
                logger.log_metrics(ranks, step=trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach."""
        self.detach()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {} if self.decay is None else self.decay.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until the training begins."""
        self._kept = state_dict or None
