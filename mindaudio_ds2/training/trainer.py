"""The training loop: a plain loop over one compiled step, that can be stopped and taken up again at any batch."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Tensor
from tqdm import tqdm

from mindaudio_ds2.batching.augmentation import Augmenter, Changes
from mindaudio_ds2.batching.dataset import TensorBatch, open_loader
from mindaudio_ds2.batching.plan import BatchSpec, plan_epoch, share_of_padding
from mindaudio_ds2.checkpoint import build_network, fill
from mindaudio_ds2.config import Config
from mindaudio_ds2.corpus.manifest import Utterance, read_manifest
from mindaudio_ds2.errors import TrainingError
from mindaudio_ds2.evaluate import Evaluation, Evaluator
from mindaudio_ds2.model.deepspeech2 import Recognizer, count_parameters
from mindaudio_ds2.text.alphabet import Alphabet
from mindaudio_ds2.training.dropout import draw_dropout
from mindaudio_ds2.training.interruption import Interruption
from mindaudio_ds2.training.loss import CTCLoss
from mindaudio_ds2.training.optimizer import Adam
from mindaudio_ds2.training.progress import Progress, clock_time, fingerprint_of
from mindaudio_ds2.training.run_checkpoints import RunCheckpoints
from mindaudio_ds2.training.runlog import RunLog
from mindaudio_ds2.training.schedule import learning_rate
from mindaudio_ds2.training.starting import start_from, take_up
from mindaudio_ds2.training.step import TrainStep
from mindaudio_ds2.training.training_set import TrainingSet, read_training_set, require_audio
from mindaudio_ds2.training.weight_average import MovingAverage, average_checkpoints

SECONDS_BETWEEN_LINES = 60.0


@dataclass
class _Clock:
    """When last.ckpt was last saved, and when the last line of progress was shown (monotonic seconds)."""

    saved: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)


def train(config: Config, resume: bool, pre_trained_model_path: str | None, kernels: Path | None = None) -> Progress:
    """Train a network as `config` says; everything it leaves lies in `config.run_dir`.

    Args:
        config: the whole run.
        resume: continue the run in that folder, if there is one; the numbers are those of a run never interrupted.
        pre_trained_model_path: a checkpoint of the same network and alphabet whose weights are the start.
        kernels: the library of native kernels, from `runtime.start`, or None.

    Returns:
        The state at the end.

    Raises:
        Interrupted: SIGTERM or Ctrl-C; last.ckpt was saved first.
        TrainingError: too many steps were not finite.
        ConfigError, ManifestError, AudioError, CheckpointError, OutputError: see their places.
    """
    training_set = read_training_set(config)
    dev_utterances = read_manifest(config.data.dev_manifest)
    require_audio(dev_utterances, config.data.dev_manifest)
    run = RunLog(config, resume)
    try:
        trainer = Trainer(config, run, training_set, dev_utterances, kernels)
        if resume and not run.is_resumed:
            run.say(f"nothing to resume: {run.last_checkpoint} does not exist")
        if run.is_resumed:
            trainer.resume()
        elif pre_trained_model_path:
            trainer.start_from(pre_trained_model_path)
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
        kernels: the library of native kernels, or None.
    """

    def __init__(
        self,
        config: Config,
        log: RunLog,
        training_set: TrainingSet,
        dev_utterances: Sequence[Utterance],
        kernels: Path | None,
    ) -> None:
        self.config = config
        self.log = log
        self.utterances = utterances = training_set.utterances
        self.durations = [utterance.duration_seconds for utterance in utterances]
        self.loader = open_loader(utterances, training_set.labels, config)
        self.augmenter = Augmenter(config, utterances, training_set.labels)
        self.network = build_network(config, kernels)
        self.kernels = kernels
        self.optimizer = Adam(self.network.trainable_params(), config.optimizer)
        scored_network = self.network
        self.average: MovingAverage | None = None
        if config.training.ema_decay:
            scored_network = build_network(config, kernels)
            self.average = MovingAverage(self.network, scored_network, config.training.ema_decay)
            self.average.begin()
        state = {**self.optimizer.state(), **(self.average.state() if self.average else {})}
        self.checkpoints = RunCheckpoints(config, log, self.network, scored_network, state)
        loss = CTCLoss(Alphabet(config.text).blank_id, kernels)
        clip = config.optimizer.max_gradient_norm
        self.step = TrainStep(self.network, loss, self.optimizer, clip, self.average)
        if self.network.takes_open_shapes:
            sizes = (config.model.rnn_num_layers, config.model.rnn_hidden_size) if config.model.rnn_dropout else None
            self.step.open_shapes(config.features.num_bins, sizes)
        self.evaluator = Evaluator(Recognizer(scored_network), dev_utterances, config)
        self.progress = Progress(fingerprint=fingerprint_of(utterances), train_hours=sum(self.durations) / 3600)
        self.clock = _Clock()

    def resume(self) -> None:
        """Take everything from last.ckpt.

        Raises:
            CheckpointError: it is damaged, or belongs to other data or to a configuration that gives other numbers.
        """
        self.progress = take_up(
            self.log.last_checkpoint, self.config, self.network, self.checkpoints.state, self.progress.fingerprint
        )
        self.log.forget_after(self.progress.step, self.progress.epoch)
        self.log.say(f"going on after step {self.progress.step}, epoch {self.progress.epoch + 1}")

    def start_from(self, path: str) -> None:
        """Take only the weights of another run's checkpoint.

        Raises:
            CheckpointError: other features, another alphabet or network, or a damaged file.
        """
        message = start_from(path, self.config, self.network)
        if self.average:
            self.average.begin()
        self.log.say(message)

    def run(self) -> Progress:
        """Train until the last epoch, or until the dev WER stops falling."""
        self._introduce()
        with Interruption() as interruption:
            while self.progress.epoch < self.config.training.epochs and not self._is_stalled():
                self._train_epoch(interruption)
                self._finish_epoch(self._validate(interruption, self.evaluator))
            if len(self.progress.best_epochs) > 1:
                self._average_best(interruption)
        best = self.progress
        self.log.say(
            f"done: best dev WER {100 * best.best_wer:.2f} % {best.describe_best()}, "
            f"{clock_time(best.train_seconds)} of training; {self.log.best_checkpoint}"
        )
        return self.progress

    def _introduce(self) -> None:
        model = self.config.model
        self.log.say(
            f"{len(self.utterances)} utterances, {self.progress.train_hours:.2f} hours of audio; "
            f"{count_parameters(self.network):,} parameters, {model.rnn_num_layers} x {model.rnn_hidden_size} "
            f"{model.rnn_type}; run folder {self.log.folder}"
        )
        self.log.say(f"augmentation: {self.augmenter.describe()}")

    def _train_epoch(self, interruption: Interruption) -> None:
        progress = self.progress
        plan = plan_epoch(
            self.durations,
            self.config.batching,
            epoch=progress.epoch,
            seed=self.config.seed,
            num_frames=self.config.features.num_frames,
        ).batches
        if progress.batch == 0:
            progress.loss_sum, progress.num_utterances = 0.0, 0
            frames = [self.config.features.num_frames(duration) for duration in self.durations]
            self.log.say(f"epoch {progress.epoch + 1}: {len(plan)} steps, {share_of_padding(plan, frames):.1%} padding")
        self.step.set_train(True)
        bar = tqdm(
            total=len(plan), initial=progress.batch, desc=f"epoch {progress.epoch + 1}", unit="step", disable=None
        )
        with bar:
            started, audio_seconds, self.clock.shown = time.monotonic(), 0.0, time.monotonic()
            ticked = started
            for batch in self.loader.iterate(plan, progress.batch, self._augment):
                self._take_step(batch, len(plan))
                now = time.monotonic()
                progress.train_seconds += now - ticked
                ticked = now
                audio_seconds += sum(self.durations[index] for index in batch.indices)
                self._show_progress(bar, plan, audio_seconds / (now - started), now)
                self._save_if_due(interruption)

    def _augment(self, index: int) -> Changes:
        return self.augmenter.make_changes(self.progress.epoch, index)

    def _take_step(self, batch: TensorBatch, num_batches: int) -> None:
        progress, training = self.progress, self.config.training
        rate = learning_rate(self.config.schedule, progress.epoch + (progress.batch + 1) / num_batches, training.epochs)
        outputs = self.step(
            batch.features,
            batch.feature_lengths,
            batch.labels,
            batch.label_lengths,
            Tensor(rate, ms.float32),
            *self._draw_dropout(batch),
        )
        loss, norm, is_finite = (output.asnumpy().item() for output in outputs)
        progress.batch += 1
        progress.step += 1
        if is_finite:
            progress.loss_sum += loss * len(batch.indices)
            progress.num_utterances += len(batch.indices)
            self.log.record(
                "step", step=progress.step, epoch=progress.epoch + 1, loss=loss, gradient_norm=norm, learning_rate=rate
            )
        else:
            self._report_bad_step(batch)

    def _draw_dropout(self, batch: TensorBatch) -> list[Tensor]:
        """The step's last input; none where there is no dropout."""
        model, ids = self.config.model, [self.utterances[index].id for index in batch.indices]
        return [Tensor(draw_dropout(model, self.config.seed, self.progress.epoch, ids))] if model.rnn_dropout else []

    def _report_bad_step(self, batch: TensorBatch) -> None:
        progress = self.progress
        progress.num_bad_steps += 1
        ids = [self.utterances[index].id for index in batch.indices]
        self.log.record("bad_step", step=progress.step, epoch=progress.epoch + 1, utterances=ids)
        self.log.say(f"step {progress.step} skipped: loss or gradient not finite; utterances {', '.join(ids)}")
        if progress.num_bad_steps > self.config.training.max_bad_steps:
            raise TrainingError(
                f"{progress.num_bad_steps} steps had a loss or gradient that was not finite, more than "
                f"training.max_bad_steps allows; lower schedule.peak_learning_rate, or look at the last batch: "
                f"{', '.join(ids)}"
            )

    def _show_progress(self, bar: Any, plan: Sequence[BatchSpec], speed: float, now: float) -> None:
        progress = self.progress
        time_left = self._time_left(progress.batch / len(plan))
        bar.set_postfix_str(
            f"{progress.describe_loss()}, {speed:.0f} h of audio/h, all done in {time_left}", refresh=False
        )
        bar.update()
        if bar.disable and now - self.clock.shown > SECONDS_BETWEEN_LINES:
            self.clock.shown = now
            self.log.say(
                f"epoch {progress.epoch + 1} step {progress.batch}/{len(plan)}: {progress.describe_loss()}, "
                f"{speed:.0f} hours of audio an hour, {time_left} left"
            )

    def _time_left(self, share_of_epoch: float) -> str:
        done = self.progress.epoch + share_of_epoch
        return clock_time(self.progress.train_seconds * (self.config.training.epochs - done) / done)

    def _save_if_due(self, interruption: Interruption) -> None:
        minutes = (time.monotonic() - self.clock.saved) / 60
        is_asked = bool(interruption.signal_number)  # read once: a signal may come at any moment
        if is_asked or minutes >= self.config.training.checkpoint_every_minutes:
            self.checkpoints.save_last(self.progress)
            self.clock.saved = time.monotonic()
        if is_asked:
            interruption.end(f"saved {self.log.last_checkpoint}; go on with --resume")

    def _validate(self, interruption: Interruption, evaluator: Evaluator) -> Evaluation:
        started = time.monotonic()
        evaluation = evaluator.run(self._watched(interruption))
        self.progress.train_seconds += time.monotonic() - started
        return evaluation

    def _watched(self, interruption: Interruption) -> Iterator[TensorBatch]:
        for batch in self.evaluator.batches():
            if interruption.signal_number:
                self._save_if_due(interruption)
            yield batch

    def _finish_epoch(self, evaluation: Evaluation) -> None:
        progress, counts = self.progress, evaluation.counts
        progress.epoch += 1
        progress.batch = 0
        is_best = (counts.wer, counts.cer) < (progress.best_wer, progress.best_cer)
        if is_best:
            progress.best_wer, progress.best_cer, progress.best_epoch = counts.wer, counts.cer, progress.epoch
        self.log.record(
            "epoch",
            step=progress.step,
            epoch=progress.epoch,
            loss=progress.mean_loss,
            dev_wer=counts.wer,
            dev_cer=counts.cer,
            num_bad_steps=progress.num_bad_steps,
            train_seconds=progress.train_seconds,
        )
        example = evaluation.utterances[progress.epoch % len(evaluation.utterances)]
        self.log.say(
            f"epoch {progress.epoch}/{self.config.training.epochs}: {progress.describe_loss()}, "
            f"dev WER {100 * counts.wer:.2f} % CER {100 * counts.cer:.2f} %{' (best)' if is_best else ''}, "
            f"{clock_time(progress.train_seconds)} done, "
            f"{self._time_left(0.0)} left\n  said       {example.reference}\n  recognised {example.hypothesis}"
        )
        self.checkpoints.save_epoch(progress, counts, is_best)
        self.clock.saved = time.monotonic()

    def _average_best(self, interruption: Interruption) -> None:
        """Average the weights of the best epochs; best.ckpt has the average from now on, if that is better."""
        progress, log = self.progress, self.log
        epochs = sorted(epoch for _, _, epoch in progress.best_epochs)
        network = build_network(self.config, self.kernels)
        arrays = average_checkpoints([log.epoch_checkpoint(epoch) for epoch in epochs])
        fill(network.weights(), arrays, f"the average of epochs {epochs}")
        evaluator = Evaluator(Recognizer(network), self.evaluator.utterances, self.config)
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
