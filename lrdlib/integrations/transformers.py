"""Low-Rank Decay under the Trainer of transformers (pip install 'lrdlib[transformers]')."""

import json
from collections.abc import Callable
from typing import Any

from transformers.trainer_callback import ExportableState, TrainerCallback

from lrdlib.integrations.attached import Attached


class LowRankDecayCallback(Attached, TrainerCallback, ExportableState):
    """Low-rank decay after each optimizer step of a transformers Trainer.

        from lrdlib.integrations.transformers import LowRankDecayCallback

        lrd = LowRankDecayCallback("attention+mlp", weight_decay=0.1, ranks_every=100)
        trainer = Trainer(model, args, train_dataset=data, callbacks=[lrd])
        lrd.log = trainer.log  # optional: to TensorBoard, wandb and all of args.report_to
        trainer.train()

    Set the `weight_decay` of the TrainingArguments to 0 if this is to be the only decay.
    The decay is attached when the training begins, after the Trainer has prepared model and
    optimizer, and taken off when it ends; `train()` again attaches it again, from step 0.
    The decay's state is in the trainer_state.json of each checkpoint, and
    `train(resume_from_checkpoint=...)` goes on with it if this callback has the arguments
    that it had then; with others, these hold.

    The arguments are those of `Attached`. The stable ranks go into the Trainer's
    `state.log_history`, or to `log`, a function of a dict of numbers, if there is one; as
    "stable_rank/" and the matrix's name.

    Raises as `select` and `LowRankDecay` do, before the first step.
    """

    log: Callable[[dict[str, float]], None] | None = None

    def __init__(self, which: str = "attention+mlp", **settings: Any) -> None:
        super().__init__(which, **settings)
        kept = {"exclude": self.exclude, "ranks_every": self.ranks_every, **self.settings}
        given = {name: kept[name] for name in settings}
        self._args = json.loads(json.dumps({"which": which, **given}))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach, and on a resumed run go on with the state that the checkpoint kept."""
        kept = (
            state.stateful_callbacks.get(type(self).__name__, [])
            if state.global_step
            else []
        )
        states = [
            entry["attributes"]["decay_state"]
            for entry in (kept if isinstance(kept, list) else [kept])
            if entry["args"] == self._args
        ]
        self.attach(kwargs["model"], kwargs["optimizer"], states[-1] if states else None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the ranks."""
        if ranks := self.ranks(state.global_step):
            if self.log is None:
                state.log_history.append({**ranks, "step": state.global_step})
            else:
                self.log(ranks)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach."""
        self.detach()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as transformers asks for it."""
        kept = None if self.decay is None else self.decay.state_dict()
        return {"args": self._args, "attributes": {"decay_state": kept}}
