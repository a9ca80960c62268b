"""What every lab in the kernel has of its trainer."""

from typing import Any

from lrdlib.lab.thread import Trainer
from lrdlib.training.config import TrainConfig
from lrdlib.training.runs import Run


class Driven:
    """What a lab has of its `trainer`, under the same names."""

    trainer: Trainer

    def start(self, config: TrainConfig | None = None) -> None:
        """Train `config`, or what this lab begins with. See Trainer.start."""
        self.trainer.start(config if config is not None else self.beginning)

    @property
    def beginning(self) -> TrainConfig:
        """The config of the first preset."""
        first: dict[str, Any] = next(iter(self.presets.values()))  # type: ignore[attr-defined]
        return TrainConfig(**first["config"])

    def set(self, **values: Any) -> None:
        """Train with these values from the next step on. See Trainer.set."""
        self.trainer.set(**values)

    def pause(self) -> None:
        """Stand still after this step."""
        self.trainer.pause()

    def resume(self) -> None:
        """Go on."""
        self.trainer.resume()

    def step(self) -> None:
        """Take one step and stand still."""
        self.trainer.step()

    def stop(self) -> None:
        """End the run within a step; it stays `run`."""
        self.trainer.stop()

    def reset(self) -> None:
        """Stop, and forget the run."""
        self.trainer.reset()

    def wait(self, timeout: float | None = None) -> str:
        """Wait for the end of the run, or for `timeout` seconds; returns the state."""
        return self.trainer.wait(timeout)

    @property
    def run(self) -> Run:
        """The run as far as it has come. See Trainer.run."""
        return self.trainer.run

    @property
    def state(self) -> str:
        """ "idle", "running", "paused", "done", "stopped" or "failed"."""
        return self.trainer.state

    @property
    def message(self) -> str:
        """More on the state, such as why it has failed; or ""."""
        return self.trainer.message
