"""The training loop: a plain loop over one compiled step, that can be stopped and taken up again at any update.

With several processes, each runs this loop on its own batches, and all come to the same updates; the first one alone
writes files.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Iterator, Sequence

from mindspore import Tensor

from mindaudio_ds2.batching.augmentation import Augmenter, draw_dropout
from mindaudio_ds2.batching.augmentation_text import describe_augmentation
from mindaudio_ds2.batching.dataset import TensorBatch, open_loader
from mindaudio_ds2.batching.plan import EpochPlan
from mindaudio_ds2.batching.shapes import FixedShapes
from mindaudio_ds2.checkpoint import build_network, fill
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.decoding.choice import DecoderChoice, make_choice
from mindaudio_ds2.evaluate import Evaluation, Evaluator, open_decoder
from mindaudio_ds2.machine.agreement import fingerprint_of, require_same_start, require_same_weights
from mindaudio_ds2.machine.backend import STOCK, Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.model.deepspeech2 import Recognizer
from mindaudio_ds2.text.characters import describe_unwritable
from mindaudio_ds2.training.compiled.joint_step import Inputs
from mindaudio_ds2.training.compiled.weight_average import average_checkpoints
from mindaudio_ds2.training.corpora import Corpora, read_corpora
from mindaudio_ds2.training.display import (
    COMPILING,
    Divergence,
    EpochDisplay,
    Pace,
    describe_average,
    describe_epoch,
    describe_run,
    report_bad_step,
    report_overflow,
)
from mindaudio_ds2.training.feature_statistics import settle_statistics
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.training.learner import Learner
from mindaudio_ds2.training.progress import Progress, clock_time
from mindaudio_ds2.training.resuming import settle_tokenizer, take_up
from mindaudio_ds2.training.run_checkpoints import RunCheckpoints
from mindaudio_ds2.training.runlog import RunLog, SilentLog
from mindaudio_ds2.training.schedule import count_frozen_epochs, learning_rate, pruned_share
from mindaudio_ds2.training.training_set import TrainingSet, plan_next_epoch
from mindaudio_ds2.training.weights import require_nothing_frozen, start_from


def train(
    config: Config,
    resume: bool,
    pre_trained_model_path: str | None,
    backend: Backend = STOCK,
    ranks: Ranks | None = None,
    corpora: Corpora | None = None,
) -> Progress:
    """Train a network as `config` says; everything it leaves lies in `config.run_dir`.

    Args:
        config: the whole run.
        resume: continue the run in that folder, if there is one; the numbers are those of a run never interrupted.
        pre_trained_model_path: a checkpoint of the same network whose weights are the start; with other labels,
            the output layer begins anew.
        backend: how this process computes, from `runtime.start`.
        ranks: the processes that train together, from `collectives.join`; None for this one alone.
        corpora: from `check_start`; None reads them here.

    Returns:
        The state at the end.

    Raises:
        Interrupted: SIGTERM or Ctrl-C; last.ckpt was saved first.
        TrainingError, ConfigError, ManifestError, AudioError, CheckpointError, DeviceError, OutputError: as it says.
    """
    ranks = ranks or Ranks()
    config = dataclasses.replace(config, text=corpora.text) if corpora else settle_tokenizer(config, resume)
    corpora = corpora or read_corpora(config)
    training_set, dev_utterances = corpora.training_set, corpora.dev_utterances
    manifests = {config.data.train_manifest: training_set.utterances, config.data.dev_manifest: dev_utterances}
    require_same_start(ranks, config, manifests)
    run = RunLog(config, resume) if ranks.is_first else SilentLog(config)
    try:
        start = run.last_checkpoint if run.is_resumed else pre_trained_model_path
        sources = [path for path in (start, config.training.teacher) if path is not None]
        config = settle_statistics(config, sources, training_set.utterances, run.say, ranks)
        trainer = Trainer(config, run, training_set, dev_utterances, backend, ranks)
        if resume and not run.is_resumed:
            run.say(f"nothing to resume: {run.last_checkpoint} does not exist")
        if ranks.is_first and run.is_resumed:
            trainer.resume()
        elif ranks.is_first and pre_trained_model_path:
            trainer.start_from(pre_trained_model_path)
        elif ranks.is_first:
            require_nothing_frozen(config, trainer.learner.network.weights())
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
        self.loader = open_loader(utterances, training_set.labels, config)
        self.augmenter = Augmenter(config, utterances, training_set.labels)
        self.learner = Learner(config, backend, ranks)
        self.checkpoints = RunCheckpoints(config, log, self.learner, ranks.is_first)
        is_open, additions = self.learner.takes_open_shapes, self.augmenter.additions
        self.shapes = None if is_open else FixedShapes(*additions.list_reachable(), config, is_augmented=True)
        self.num_batches = config.batching.accumulation_steps
        self.decoder = open_decoder(make_choice(config.decoding) or DecoderChoice(), config)
        self.evaluator = Evaluator(Recognizer(self.learner.scored), dev_utterances, config, ranks, self.decoder)
        self.progress = Progress(
            fingerprint=fingerprint_of(utterances, self.augmenter.rirs, self.augmenter.noises),
            dev_fingerprint=fingerprint_of(dev_utterances),
            teacher=self.learner.teacher.digest if self.learner.teacher else "",
            train_hours=sum(additions.durations) / 3600,
            longest_seconds=float(max(additions.list_reachable()[0])),
            num_parts=ranks.world_size * self.num_batches,
            has_fixed_shapes=not is_open,
        )
        self.divergence = Divergence()
        self.saved_at = time.monotonic()

    def resume(self) -> None:
        """Take everything from last.ckpt.

        Raises:
            CheckpointError: it is damaged, or belongs to other data or to a configuration that gives other numbers.
        """
        self.progress = take_up(
            self.log.last_checkpoint, self.config, self.learner.network, self.learner.state, self.progress
        )
        progress = self.progress
        self.log.forget_after(progress.step, progress.epoch, len(progress.best_epochs) > 1)
        is_done = progress.epoch >= self.config.training.epochs
        how = "the run had finished" if is_done else "going on"
        self.log.say(f"{how} after step {progress.step}, epoch {progress.epoch + (not is_done)}")
        if change := self.progress.change_parts(self.ranks.world_size * self.num_batches):
            self.log.say(change)

    def start_from(self, path: str) -> None:
        """Take only the weights of another run's checkpoint.

        Raises:
            CheckpointError: other features, another network, or a damaged file.
            ConfigError: layers that begin anew are to stay as they are.
        """
        message = start_from(path, self.config, self.learner.network)
        self.learner.begin_average()
        self.log.say(message)

    def spread_start(self) -> None:
        """Give all processes the first one's weights, optimiser state and progress."""
        self.learner.spread()
        self.progress = self.ranks.broadcast(self.progress)

    def run(self) -> Progress:
        """Train until the last epoch, or until the dev WER stops falling."""
        self.log.say(
            describe_run(self.config, self.log.folder, self.progress, len(self.utterances), self.learner.trained)
        )
        augmentation = f"augmentation: {describe_augmentation(self.augmenter)}"
        notes = (augmentation, *self.learner.describe(), self.shapes.describe() if self.shapes else "")
        for note in filter(None, (*notes, describe_unwritable(self.evaluator.unwritable, "dev's references"))):
            self.log.say(note)
        with Interruption() as interruption:
            while self._goes_on():
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

    def _goes_on(self) -> bool:
        """Whether there is one more epoch; where the dev WER no longer falls, the last part begins, or the run ends."""
        progress, training = self.progress, self.config.training
        frozen_from, end = progress.plan_end(training)
        if progress.epoch < end and progress.is_stalled(training):
            stalled = f"the dev WER has not fallen for {training.early_stopping_epochs} epochs"
            if not progress.epoch < frozen_from < end:
                self.log.say(f"stopping early: {stalled}; --resume --training.early_stopping_epochs 0 goes on")
                return False
            progress.frozen_from = progress.epoch
            self.log.say(
                f"{stalled}; what is left is the last part, {end - frozen_from} epochs with frozen batch norms"
            )
        return progress.epoch < progress.plan_end(training)[1]

    def _freeze_norms_if_due(self) -> None:
        """In the last epochs, take another step, in which batch norms use and keep their running statistics."""
        training = self.config.training
        frozen_from, end = self.progress.plan_end(training)
        if frozen_from <= self.progress.epoch < end and count_frozen_epochs(training) and self.learner.freeze_norms():
            self.log.say("batch norms keep their running statistics from here on")

    def _train_epoch(self, interruption: Interruption) -> None:
        progress = self.progress
        plan = plan_next_epoch(self.config, self.augmenter, progress, self.ranks.place, self.shapes, self.log.say)
        if progress.batch == 0 and not progress.finished:
            progress.begin_epoch()
        pace = Pace(progress)
        num_epochs = progress.plan_end(self.config.training)[1]
        if not self.learner.is_compiled:
            self.log.say(COMPILING)
        with EpochDisplay(self.log, progress, plan, num_epochs, self.ranks.is_first) as display:
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
        outcome = self.learner.take_step(
            [self._list_inputs(batch) for batch in group],
            [len(batch.indices) / num_utterances for batch in group],
            rate,
            lambda: bool(interruption.signal_number),
        )
        self.learner.prune(pruned_share(training, progress_epochs))
        # exact for one process, and what this one's part lets expect for several
        seconds = sum(self.augmenter.additions.durations[index] for batch in group for index in batch.indices)
        pace.count(seconds * self.ranks.world_size, num_utterances)
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
            self.divergence.require_none(outcome.loss)
        elif outcome.has_overflowed:
            report_overflow(progress, self.log, self.learner.loss_scale.scale.asnumpy().item())
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
        return (*inputs, Tensor(draw_dropout(self.config, self.progress.epoch, ids, len(batch.feature_lengths))))

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
        if not evaluator.is_compiled:
            self.log.say(f"scoring {len(evaluator.utterances)} dev utterances; the network is compiled for that first")
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
        training = self.config.training
        is_best = progress.finish_epoch(counts, training)
        zeros = {"zero_share": pruned_share(training, progress.epoch)} if training.prune_share else {}
        self.log.record("epoch", **progress.list_measures(), **zeros, dev_wer=counts.wer, dev_cer=counts.cer)
        self.log.say(describe_epoch(progress, progress.plan_end(training)[1], evaluation, is_best))
        self.checkpoints.save_epoch(progress, counts, is_best)
        require_same_weights(self.ranks, self.learner.network.weights())
        self.saved_at = time.monotonic()

    def _average_best(self, interruption: Interruption) -> None:
        """Average the weights of the best epochs; best.ckpt has the average from now on, if that is better."""
        progress, log = self.progress, self.log
        epochs = sorted(epoch for _, _, epoch in progress.best_epochs)
        network = build_network(self.config, self.learner.backend)
        paths = [log.epoch_checkpoint(epoch) for epoch in epochs]
        arrays = self.ranks.broadcast(average_checkpoints(paths) if self.ranks.is_first else {})
        fill(network.weights(), arrays, f"the average of epochs {epochs}")
        evaluator = Evaluator(Recognizer(network), self.evaluator.utterances, self.config, self.ranks, self.decoder)
        counts = self._validate(interruption, evaluator).counts
        is_best = (counts.wer, counts.cer) < (progress.best_wer, progress.best_cer)
        if is_best:
            progress.best_wer, progress.best_cer, progress.averaged_epochs = counts.wer, counts.cer, epochs
        log.record(  # before last.ckpt says that it is done: a resumed run drops the line where it is not
            "average", step=progress.step, epoch=progress.epoch, epochs=epochs, dev_wer=counts.wer, dev_cer=counts.cer
        )
        self.checkpoints.save_average(progress, network, is_best)
        log.say(describe_average(epochs, counts, is_best))
