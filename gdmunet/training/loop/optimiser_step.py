"""One optimiser step, written once: predict, weigh, send gradients, clip, step, average."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import nn

from gdmunet.device import exact_float32, mixed_precision
from gdmunet.training import distributed
from gdmunet.training.loop.ema import copy_weights
from gdmunet.training.loop.epoch import check_finite
from gdmunet.training.loop.state import TrainingState
from gdmunet.training.patches.batch import Batch
from gdmunet.training.trainers.step import Generated, Step, as_terms, step_draws
from gdmunet.training.trainers.trainer import Trainer


def begin_step(trainer: Trainer, state: TrainingState, say: Callable[[str], None]) -> Step:
    """The step that `state` stands before, handed to the trainer's hooks."""
    step = Step(
        iteration=state.iteration,
        network=state.called,
        scaler=state.scaler,
        draws=step_draws(trainer.seed, state.iteration, distributed.rank(), trainer.device),
        autocast=functools.partial(mixed_precision, trainer.device, trainer.precision_on(trainer.device)),
        say=say,
    )
    trainer.step = step
    if trainer.starts_from_average():
        copy_weights(state.network, state.average.state)
        state.average.steps = 0  # what learns from here on starts afresh, and its average with it
    return step


def add_gradients(trainer: Trainer, batch: Batch) -> None:
    """Forward pass, losses and backward pass of one batch within the trainer's present step."""
    step = trainer.step
    with step.autocast():
        made = trainer.generate(batch)
    generated = made if isinstance(made, Generated) else Generated(made)
    batch = replace(batch, context=generated.context)
    terms = as_terms(trainer.loss_terms(batch, generated.prediction.float()))
    trainer.combine(terms, generated.prediction)
    for name, term in terms.items():
        if term.reported:
            step.note(f"loss_{name}", term.value)


@exact_float32()
def take_step(trainer: Trainer, state: TrainingState, batches: Sequence[Batch]) -> dict[str, float]:
    """One optimiser step over `accumulation` batches; returns the numbers that the journal averages over an epoch.

    These are ``loss_NAME`` of every reported term, ``gradient_norm``, and what the hooks gave to `Step.note`. A float16
    step whose gradient overflows changes nothing but the loss scale, which falls: it reports its finite numbers alone,
    and ``skipped`` as 1.

    Raises
    ------
    GdmError
        A loss that is not a number, or something that a hook required; nothing has been written then.
    """
    step = trainer.step
    state.network.train()
    state.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(batches, start=1):
        # Several processes exchange the sum of the batches' gradients, once.
        with distributed.unsynchronised(state.called, number < len(batches)):
            add_gradients(trainer, batch)
    state.scaler.unscale_(state.optimizer)
    step.note("gradient_norm", nn.utils.clip_grad_norm_(state.network.parameters(), trainer.gradient_clip))
    report = step.report()
    identifiers = {identifier for batch in batches for identifier in batch.identifiers}
    # float16 steps with an infinite gradient are skipped, by design
    check_finite(report, step.iteration, identifiers, gradient_too=not state.scaler.is_enabled())
    for group in state.optimizer.param_groups:
        group["lr"] = trainer.group_learning_rate(group)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if not state.scaler.is_enabled():
        state.average.update(state.network)
        return report
    taken = math.isfinite(report["gradient_norm"])
    if taken:
        state.average.update(state.network)
    return {name: value for name, value in report.items() if math.isfinite(value)} | {"skipped": float(not taken)}
