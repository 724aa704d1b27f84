"""The training loop: a plain loop over one compiled step, that can be stopped and taken up again at any update.

With several processes, each runs this loop on its own batches, and all come to the same updates; the first one alone
writes files.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

from mindaudio_ds2.batching.augmentation import Augmenter
from mindaudio_ds2.batching.dataset import TensorBatch, open_loader
from mindaudio_ds2.batching.plan import EpochPlan
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.checkpoint import build_network, fill
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.corpus.opening import open_manifest
from mindaudio_ds2.evaluate import Evaluation, Evaluator
from mindaudio_ds2.machine.agreement import fingerprint_of, require_same_start, require_same_weights
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.model.precision import compute_in
from mindaudio_ds2.ops.joint import DeviceSum, JointSum
from mindaudio_ds2.text.alphabet import Alphabet
from mindaudio_ds2.training.device_step import DeviceStep
from mindaudio_ds2.training.display import EpochDisplay, describe_epoch, describe_run
from mindaudio_ds2.training.dropout import draw_dropout
from mindaudio_ds2.training.epoch_plan import plan_next_epoch
from mindaudio_ds2.training.feature_statistics import settle_statistics
from mindaudio_ds2.training.flat_step import Inputs
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.training.joint_step import JointStep, LoneStep, make_step
from mindaudio_ds2.training.layer_choice import choose_trained
from mindaudio_ds2.training.loss import CTCLoss
from mindaudio_ds2.training.loss_scale import LossScale
from mindaudio_ds2.training.optimizer import make_optimizer
from mindaudio_ds2.training.pace import Pace
from mindaudio_ds2.training.progress import Progress, clock_time
from mindaudio_ds2.training.run_checkpoints import RunCheckpoints
from mindaudio_ds2.training.runlog import RunLog, SilentLog
from mindaudio_ds2.training.schedule import learning_rate
from mindaudio_ds2.training.skipped_steps import report_bad_step, report_overflow
from mindaudio_ds2.training.starting import require_nothing_frozen, start_from, take_up
from mindaudio_ds2.training.step import TrainStep
from mindaudio_ds2.training.training_set import TrainingSet, read_training_set, require_audio
from mindaudio_ds2.training.weight_average import MovingAverage, average_checkpoints


def train(
    config: Config,
    resume: bool,
    pre_trained_model_path: str | None,
    backend: Backend = STOCK,
    ranks: Ranks | None = None,
) -> Progress:
    """Train a network as `config` says; everything it leaves lies in `config.run_dir`.

    Args:
        config: the whole run.
        resume: continue the run in that folder, if there is one; the numbers are those of a run never interrupted.
        pre_trained_model_path: a checkpoint of the same network whose weights are the start; with another alphabet,
            the output layer begins anew.
        backend: how this process computes, from `runtime.start`.
        ranks: the processes that train together, from `collectives.join`; None for this one alone.

    Returns:
        The state at the end.

    Raises:
        Interrupted: SIGTERM or Ctrl-C; last.ckpt was saved first.
        TrainingError: too many steps were not finite.
        ConfigError, ManifestError, AudioError, CheckpointError, DeviceError, OutputError: see their places.
    """
    ranks = ranks or Ranks()
    training_set = read_training_set(config)
    dev_utterances = open_manifest(config.data.dev_manifest, config.data.root)
    require_audio(dev_utterances, config.data.dev_manifest)
    manifests = {config.data.train_manifest: training_set.utterances, config.data.dev_manifest: dev_utterances}
    require_same_start(ranks, config, manifests)
    run = RunLog(config, resume) if ranks.is_first else SilentLog(config)
    try:
        start = run.last_checkpoint if run.is_resumed else pre_trained_model_path
        config = settle_statistics(config, start, training_set.utterances, run.say, ranks)
        trainer = Trainer(config, run, training_set, dev_utterances, backend, ranks)
        if resume and not run.is_resumed:
            run.say(f"nothing to resume: {run.last_checkpoint} does not exist")
        if ranks.is_first and run.is_resumed:
            trainer.resume()
        elif ranks.is_first and pre_trained_model_path:
            trainer.start_from(pre_trained_model_path)
        elif ranks.is_first:
            require_nothing_frozen(config)
        trainer.spread_start()
        run.remember(config, training_set)
        return trainer.run()
    finally:
        run.close()


class Trainer:
    """One run. `run` is the loop; the rest is what it does at each place.

    Args:
        config: the whole run.
        log: its folder.
        training_set: what is trained on.
        dev_utterances: scored after each epoch.
        backend: how this process computes.
        ranks: the processes that train together.
    """

    def __init__(
        self,
        config: Config,
        log: RunLog,
        training_set: TrainingSet,
        dev_utterances: Sequence[Utterance],
        backend: Backend,
        ranks: Ranks,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.log = log
        self.utterances = utterances = training_set.utterances
        self.durations = [utterance.duration_seconds for utterance in utterances]
        self.loader = open_loader(utterances, training_set.labels, config)
        self.augmenter = Augmenter(config, utterances, training_set.labels)
        self.backend = joint = backend
        if config.processes.sync_batch_norm and ranks.world_size > 1:
            joint_sum = DeviceSum() if backend.stays_on_device else JointSum(ranks.sum)
            joint = dataclasses.replace(backend, joint_sum=joint_sum)
        self.network = build_network(config, joint)
        compute_in(self.network, config.precision.compute)
        self.trained = choose_trained(self.network, config.training)
        self.optimizer = make_optimizer(self.trained.parameters, config.optimizer, self.trained.factors)
        decay = config.training.ema_decay
        scored_network = build_network(config, backend) if decay else self.network
        self.average = MovingAverage(self.network, scored_network, decay) if decay else None
        self.loss_scale = LossScale(config.precision)
        state = {**self.optimizer.state(), **(self.average.state() if self.average else {}), **self.loss_scale.state()}
        self.checkpoints = RunCheckpoints(config, log, self.network, scored_network, state, ranks.is_first)
        counts, is_open = list(map(len, training_set.labels)), self.network.takes_open_shapes
        self.shapes = None if is_open else FixedShapes(self.durations, counts, config, is_augmented=True)
        self.num_batches = config.batching.accumulation_steps
        self.step = self._make_step()
        self.evaluator = Evaluator(Recognizer(scored_network), dev_utterances, config, ranks)
        self.progress = Progress(
            fingerprint=fingerprint_of(utterances, self.augmenter.rirs, self.augmenter.noises),
            dev_fingerprint=fingerprint_of(dev_utterances),
            train_hours=sum(self.durations) / 3600,
            num_parts=ranks.world_size * self.num_batches,
            has_fixed_shapes=not is_open,
        )
        self.saved_at = time.monotonic()

    def _make_step(self) -> LoneStep | JointStep | DeviceStep:
        """The step of the network as it is; it is compiled when it is first taken."""
        config, model, training = self.config, self.config.model, self.config.training
        blank_id, clip = Alphabet(config.text).blank_id, config.optimizer.max_gradient_norm
        loss = CTCLoss(blank_id, self.backend, training.label_smoothing, training.consistency_weight)
        step = TrainStep(self.network, loss, self.optimizer, clip, self.loss_scale, self.average)
        sizes = (model.rnn_num_layers, model.rnn_hidden_size) if model.rnn_dropout else None
        open_shapes = (config.features.num_bins, sizes) if self.network.takes_open_shapes else None
        return make_step(step, self.ranks, self.num_batches, open_shapes, self.backend.stays_on_device)

    def resume(self) -> None:
        """Take everything from last.ckpt.

        Raises:
            CheckpointError: it is damaged, or belongs to other data or to a configuration that gives other numbers.
        """
        self.progress = take_up(
            self.log.last_checkpoint, self.config, self.network, self.checkpoints.state, self.progress
        )
        self.log.forget_after(self.progress.step, self.progress.epoch)
        self.log.say(f"going on after step {self.progress.step}, epoch {self.progress.epoch + 1}")
        if change := self.progress.change_parts(self.ranks.world_size * self.num_batches):
            self.log.say(change)

    def start_from(self, path: str) -> None:
        """Take only the weights of another run's checkpoint.

        Raises:
            CheckpointError: other features, another network, or a damaged file.
        """
        self.log.say(start_from(path, self.config, self.network))
        if self.average:
            self.average.begin()

    def spread_start(self) -> None:
        """Give all processes the first one's weights, optimiser state and progress."""
        for parameters in (self.network.weights(), self.checkpoints.state):
            arrays = self.ranks.broadcast({name: parameter.asnumpy() for name, parameter in parameters.items()})
            if not self.ranks.is_first:
                fill(parameters, arrays, "rank 0")
        self.progress = self.ranks.broadcast(self.progress)

    def run(self) -> Progress:
        """Train until the last epoch, or until the dev WER stops falling."""
        self.log.say(describe_run(self.config, self.log.folder, self.progress, len(self.utterances), self.trained))
        self.log.say(f"augmentation: {self.augmenter.describe()}")
        if self.shapes:
            self.log.say(self.shapes.describe())
        with Interruption() as interruption:
            while self.progress.epoch < self.config.training.epochs and not self._is_stalled():
                self._freeze_norms_if_due()
                self._train_epoch(interruption)
                self._finish_epoch(self._validate(interruption, self.evaluator))
            if len(self.progress.best_epochs) > 1:
                self._average_best(interruption)
        best = self.progress
        self.log.say(
            f"done: best dev WER {100 * best.best_wer:.2f} % {best.describe_best()}, "
            f"{clock_time(best.train_seconds)} of training; {self.log.best_checkpoint}"
        )
        return best

    def _freeze_norms_if_due(self) -> None:
        """In the last epochs, take another step, in which batch norms use and keep their running statistics."""
        training, norms = self.config.training, self.network.batch_norms()
        first = round(training.epochs * (1 - training.frozen_norm_share))
        if self.progress.epoch < first or all(norm.is_frozen for norm in norms):
            return
        for norm in norms:
            norm.is_frozen = True
        self.step = self._make_step()
        self.log.say("batch norms keep their running statistics from here on")

    def _train_epoch(self, interruption: Interruption) -> None:
        progress = self.progress
        plan = plan_next_epoch(self.config, self.utterances, progress, self.ranks.place, self.shapes, self.log)
        if progress.batch == 0 and not progress.finished:
            progress.begin_epoch()
        pace = Pace(progress)
        with EpochDisplay(self.log, progress, plan, self.config.training.epochs, self.ranks.is_first) as display:
            augment = functools.partial(self.augmenter.make_changes, progress.epoch)
            loaded = self.loader.iterate(plan.batches, progress.batch * self.num_batches, augment)
            batches = pace.await_batches(loaded)
            while group := tuple(itertools.islice(batches, self.num_batches)):
                is_stop_wished = self._take_step(group, plan, interruption, pace)
                display.update()
                self._save_if_due(is_stop_wished, interruption)

    def _take_step(self, group: Sequence[TensorBatch], plan: EpochPlan, interruption: Interruption, pace: Pace) -> bool:
        """Make one update from the batches of this and all other processes; returns whether one was asked to stop."""
        progress, training = self.progress, self.config.training
        num_utterances = plan.num_joint_utterances[progress.batch]
        progress_epochs = progress.epoch + plan.share_after(progress.batch + 1)
        rate = learning_rate(self.config.schedule, progress_epochs, training.epochs, progress.dev_wers)
        outcome = self.step.take(
            [self._list_inputs(batch) for batch in group],
            [len(batch.indices) / num_utterances for batch in group],
            rate,
            lambda: bool(interruption.signal_number),
        )
        # exact for one process, and what this one's part lets expect for several
        seconds = sum(self.durations[index] for batch in group for index in batch.indices)
        pace.count(seconds * self.ranks.world_size)
        progress.batch += 1
        progress.step += 1
        if outcome.is_finite:
            progress.loss_sum += outcome.loss * num_utterances
            progress.num_utterances += num_utterances
            self.log.record(
                "step",
                step=progress.step,
                epoch=progress.epoch + 1,
                loss=outcome.loss,
                gradient_norm=outcome.gradient_norm,
                learning_rate=rate,
                train_seconds=progress.train_seconds,
            )
        elif outcome.has_overflowed:
            report_overflow(progress, self.log, self.loss_scale.scale.asnumpy().item())
        else:
            own = [self.utterances[index].id for batch in group for index in batch.indices]
            ids = [utterance_id for theirs in self.ranks.gather(own) for utterance_id in theirs]
            report_bad_step(progress, self.log, ids, training.max_bad_steps)
        return outcome.is_stop_wished

    def _list_inputs(self, batch: TensorBatch) -> Inputs:
        inputs = (batch.features, batch.feature_lengths, batch.labels, batch.label_lengths)
        if not self.config.model.rnn_dropout:
            return inputs
        ids = [self.utterances[index].id for index in batch.indices]
        return (*inputs, draw_dropout(self.config, self.progress.epoch, ids, len(batch.feature_lengths)))

    def _save_if_due(self, is_stop_wished: bool, interruption: Interruption) -> None:
        if self.ranks.world_size == 1:  # nobody else needs to hear of a signal that came after the update was made
            is_stop_wished = bool(interruption.signal_number)  # read once: a signal may come at any moment
        if is_stop_wished or time.monotonic() - self.saved_at >= 60 * self.config.training.checkpoint_every_minutes:
            self.checkpoints.save_last(self.progress)
            self.saved_at = time.monotonic()
        if is_stop_wished:
            interruption.end(f"saved {self.log.last_checkpoint}; go on with --resume")

    def _validate(self, interruption: Interruption, evaluator: Evaluator) -> Evaluation:
        started = time.monotonic()
        evaluation = evaluator.run(self._watched(evaluator, interruption))
        self.progress.train_seconds += time.monotonic() - started
        return evaluation

    def _watched(self, evaluator: Evaluator, interruption: Interruption) -> Iterator[TensorBatch]:
        batches = iter(evaluator.batches())
        for _ in range(self.ranks.largest(len(evaluator.plan))):  # some processes have one batch less
            if self.ranks.largest(interruption.signal_number):
                self._save_if_due(True, interruption)
            yield from itertools.islice(batches, 1)

    def _finish_epoch(self, evaluation: Evaluation) -> None:
        progress, counts = self.progress, evaluation.counts
        is_best = progress.finish_epoch(counts)
        self.log.record("epoch", **progress.list_measures(), dev_wer=counts.wer, dev_cer=counts.cer)
        self.log.say(describe_epoch(progress, self.config.training.epochs, evaluation, is_best))
        self.checkpoints.save_epoch(progress, counts, is_best)
        require_same_weights(self.ranks, self.network.weights())
        self.saved_at = time.monotonic()

    def _average_best(self, interruption: Interruption) -> None:
        """Average the weights of the best epochs; best.ckpt has the average from now on, if that is better."""
        progress, log = self.progress, self.log
        epochs = sorted(epoch for _, _, epoch in progress.best_epochs)
        network = build_network(self.config, self.backend)
        paths = [log.epoch_checkpoint(epoch) for epoch in epochs]
        arrays = self.ranks.broadcast(average_checkpoints(paths) if self.ranks.is_first else {})
        fill(network.weights(), arrays, f"the average of epochs {epochs}")
        evaluator = Evaluator(Recognizer(network), self.evaluator.utterances, self.config, self.ranks)
        counts = self._validate(interruption, evaluator).counts
        is_best = (counts.wer, counts.cer) < (progress.best_wer, progress.best_cer)
        if is_best:
            progress.best_wer, progress.best_cer, progress.averaged_epochs = counts.wer, counts.cer, epochs
        self.checkpoints.save_average(progress, network, is_best)
        log.record(
            "average", step=progress.step, epoch=progress.epoch, epochs=epochs, dev_wer=counts.wer, dev_cer=counts.cer
        )
        log.say(
            f"average of epochs {', '.join(map(str, epochs))}: dev WER {100 * counts.wer:.2f} % "
            f"CER {100 * counts.cer:.2f} %{' (best)' if is_best else ''}"
        )

    def _is_stalled(self) -> bool:
        patience = self.config.training.early_stopping_epochs
        stalled = bool(patience) and self.progress.epoch - self.progress.best_epoch >= patience
        if stalled:
            self.log.say(f"stopping early: the dev WER has not fallen for {patience} epochs")
        return stalled
