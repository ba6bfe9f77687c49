"""The training loop for all systems: stages in order, batches, steps, validation, checkpoints."""

import collections
import functools
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from rich.console import Console

from cardiac_jax.core.step import fit, inference_variables, init_state, keep_best, take_best
from cardiac_jax.core.types import Array, Config, Stage, System, TrainState, Variables
from cardiac_jax.data.pipeline import Examples, Prefetch, batch_of, refuse_empty
from cardiac_jax.progress import progress
from cardiac_jax.train import devices, log
from cardiac_jax.train.checkpoint import WORST, Checkpoints

IN_FLIGHT = 2
"""Steps queued on the devices beyond the one waited for: keeps the devices busy and bounds memory."""

Validate = Callable[[Variables, str], dict[str, float]]
"""(inference variables, name of an output) -> figures, including the output's `score`."""


def train(
    system: System,
    config: Config,
    examples: Examples,
    validate: Validate,
    workdir: Path,
    about: Mapping[str, Any],
    console: Console,
    start_from: Callable[[TrainState], TrainState] | None = None,
    begin: Callable[[], None] | None = None,
) -> int:
    """Trains `system`, or resumes from the latest checkpoint in `workdir`.

    Args:
      system: the system to train.
      config: `seed` and the keys of `train` are read.
      examples: the training set; a stage may derive its own examples from it.
      validate: runs every `eval_every` steps of the stages that name an output to validate.
      workdir: receives `checkpoints/` and `log.jsonl`.
      about: JSON stored with the weights; `fits`, the figures of the fits by stage, is added.
      console: where progress is printed.
      start_from: changes the state before the first step (warm start).
      begin: called before the first step, after all checks have passed.

    Returns:
      0 when every stage is done, or the number of the signal that stopped training; the state is saved and can be
      resumed.

    Raises:
      InputError: a stage has no examples, or the checkpoint cannot be restored.
    """
    settings = config.train
    own = {stage.name: _examples(stage, examples) for stage in system.stages}
    scores_by = {output.name: output.score for output in system.outputs}
    checkpoints = Checkpoints(workdir, keep_best=settings.keep_best, writing=True)
    step, last = checkpoints.latest() or 0, sum(stage.steps for stage in system.stages)
    last_stage = system.stages[-1]
    ranked_by = scores_by.get(last_stage.validate, "")
    lines = log.Log(workdir, step, settings.tensorboard, (last_stage.name, ranked_by))

    def exhausted() -> bool:
        return 0 < settings.patience <= lines.since_best

    if step >= last or exhausted():
        console.print(f"trained already: {step} steps")
        checkpoints.close()
        lines.close()
        return 0
    fresh, fits = functools.partial(init_state, system, config.seed, ema=settings.ema > 0), {}
    if step:
        state = checkpoints.restore(step, jax.eval_shape(fresh))
        fits = dict(checkpoints.about(step)["fits"])
        console.print(f"going on from step {step}")
    else:
        state = fresh() if start_from is None else start_from(fresh())
    state = devices.replicate(state)
    if begin is not None:
        begin()
    end, stopped, stop = 0, 0, StopRequest()
    with progress(console) as bar, stop:
        for stage in system.stages:
            # --- a stage: its compiled step, and its batches from the step where the last run stopped
            start, end = end, end + stage.steps
            stopped = devices.agreed(stop.number, now=True)
            if step >= end or stopped:
                continue
            run = devices.compile_train(stage, start=start, accumulate=settings.accumulate, ema_decay=settings.ema)
            task = bar.add_task(stage.name, total=stage.steps, completed=step - start, note="compiling")
            make = functools.partial(_batch, own[stage.name], stage, start, config)
            meter, in_flight = log.Meter(step), collections.deque()
            with Prefetch(make, range(step, end)) as batches:
                for batch in batches:
                    # --- a step
                    state, metrics = run(state, batch)
                    step += 1
                    in_flight.append(metrics)
                    if len(in_flight) > IN_FLIGHT:
                        jax.block_until_ready(in_flight.popleft())
                    # --- the log: one transfer to the host every `log_every` steps
                    logging = step % settings.log_every == 0 or step == end
                    if logging:
                        figures = {name: float(value) for name, value in devices.fetch(metrics).items()}
                        figures |= meter.read(step, batches.waited_s)
                        lines.write(step, stage=stage.name, split="train", **figures)
                        bar.update(task, completed=step - start, note=log.note(figures))
                    # --- validation
                    due = (step - start) % settings.eval_every == 0 or step == end
                    scores: dict[str, float] = {}
                    if due and stage.validate:
                        scores = validate(inference_variables(state), stage.validate)
                        lines.write(step, stage=stage.name, split="val", **scores)
                        console.print(f"{stage.name} {step - start}/{stage.steps}: {log.note(scores)}")
                        state = devices.replicate(keep_best(stage, state, scores[scores_by[stage.validate]]))
                    # --- the end of the stage: its best weights, then its fit
                    if step == end:
                        state = devices.replicate(take_best(stage, state))
                    if step == end and stage.fit is not None:
                        bar.update(task, completed=step - start, note="fitting")
                        with devices.on_host():
                            state, found = fit(stage, devices.fetch(state), own[stage.name].arrays)
                        state = devices.replicate(state)
                        fits[stage.name] = found
                        numbers = {
                            name: float(value) for name, value in found.items() if isinstance(value, int | float)
                        }
                        lines.write(step, stage=stage.name, split="fit", **numbers)
                        shown = ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())
                        console.print(f"{stage.name}: {shown}")
                    # --- checkpoint
                    stopped = devices.agreed(stop.number, now=logging)
                    if due or stopped:
                        score = scores.get(ranked_by, WORST) if stage is last_stage else WORST
                        checkpoints.save(step, state, {**about, "fits": fits}, score)
                        meter.skip()
                    if stopped or exhausted():
                        break
            console.print(f"{stage.name}: {meter.summary()}")
            if exhausted():
                console.print(
                    f"{stage.name}: ended at step {step}, no better validation in the last {lines.since_best}"
                )
            if stopped:
                break
        checkpoints.close()  # inside `with stop`: a second signal must not interrupt the save
    lines.close()
    return stopped if step < last and not exhausted() else 0


def _examples(stage: Stage, examples: Examples) -> Examples:
    """The examples of a stage; raises InputError if there are none to train on."""
    own = Examples(stage.stream.of(examples.arrays)) if stage.stream.of else examples
    refuse_empty(own, stage.stream.flag, stage.stream.share)
    return own


def _batch(examples: Examples, stage: Stage, start: int, config: Config, step: int) -> dict[str, Array]:
    """The global batch of `step`, on the devices."""
    stream = stage.stream
    size = stream.batch_size or config.train.batch_size
    return devices.shard(batch_of(examples, stream.flag, config.seed, step - start, size, stream.share))


class StopRequest:
    """Context manager that records SIGTERM and SIGINT in `number`; a second SIGINT raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
