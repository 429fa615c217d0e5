"""The way in which predictions are drawn from a network, as checkpoints store it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from gdmunet.errors import GdmError
from gdmunet.ranges import within


@dataclass(frozen=True)
class SamplerSpec:
    """The way in which a prediction is drawn from a network: in one pass, or in several that move a state.

    Attributes
    ----------
    name
        ``one_step`` is one pass of a network that takes no state; ``euler`` and ``heun`` follow the path without
        noise; ``bridge_deterministic`` is the mean of the bridge's steps, ``bridge_stochastic`` draws them.
    steps
        Steps from the source to the prediction.
    source_channel
        Condition channel that the path starts from; None: standard normal noise.
    noise
        Standard deviation of the bridge, in network units times the square root of its time.
    """

    short_forms: ClassVar[dict[str, dict[str, Any]]] = {
        "one_step": {"name": "one_step", "steps": 1, "source_channel": None, "noise": 0.0}
    }

    name: Literal["one_step", "euler", "heun", "bridge_deterministic", "bridge_stochastic"]
    steps: int
    source_channel: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        within("the steps of a sampler", self.steps, 1, 10_000)
        within("the source channel", self.source_channel, 0, 1023)
        within("the noise of a sampler", self.noise, 0, 1e3)
        if self.one_step and (self.steps, self.source_channel, self.noise) != (1, None, 0.0):
            raise GdmError(
                "a sampler of one step has no path",
                found=self,
                expected=ONE_STEP,
                remedy="use 1 step, without source channel and noise",
            )

    @property
    def one_step(self) -> bool:
        """Whether the network takes no state: its pass is the prediction."""
        return self.name == "one_step"

    @property
    def passes(self) -> int:
        """Passes of the network: Heun takes two per step, except for the last one."""
        return 2 * self.steps - 1 if self.name == "heun" else self.steps

    @property
    def random(self) -> bool:
        """Whether two draws differ."""
        if self.one_step:
            return False
        return self.source_channel is None or (self.name == "bridge_stochastic" and self.noise > 0)


ONE_STEP = SamplerSpec("one_step", 1)
