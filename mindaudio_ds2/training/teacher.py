"""A trained network that a run's network learns from, beside its labels."""

from dataclasses import dataclass, replace

from mindaudio_ds2.checkpoint import Checkpoint, load_checkpoint, restore_network
from mindaudio_ds2.config import Config
from mindaudio_ds2.errors import CheckpointError
from mindaudio_ds2.machine.agreement import digest_of
from mindaudio_ds2.machine.backend import Backend
from mindaudio_ds2.machine.collectives import Ranks
from mindaudio_ds2.model.deepspeech2 import DeepSpeech2, count_parameters
from mindaudio_ds2.model.precision import compute_in
from mindaudio_ds2.text.tokenizer import Tokenizer
from mindaudio_ds2.training.resuming import describe_difference


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that is not trained, and hears what the one that is trained hears.

    Attributes:
        network: normalises by its running statistics, also where all others train.
        digest: of its weights, to tell whether a run that goes on has the same teacher.
        text: what it is, for the log.
    """

    network: DeepSpeech2
    digest: str
    text: str


def load_teacher(config: Config, backend: Backend, ranks: Ranks) -> Teacher | None:
    """The teacher that `training.teacher` names; None where it names none.

    Args:
        config: of the run, its features complete.
        backend: how this process computes.
        ranks: the processes of the run; the first alone reads the checkpoint.

    Raises:
        CheckpointError: it cannot be used, or hears or says something else than the network that is trained.
    """
    path, weight = config.training.teacher, config.training.teacher_weight
    if path is None:
        return None
    checkpoint = ranks.broadcast(load_checkpoint(path) if ranks.is_first else None)
    assert checkpoint is not None, "the first process has read it"
    require_same_language(checkpoint, config, path)
    network = restore_network(checkpoint, path, replace(backend, joint_sum=None))
    view = "two-sided" if checkpoint.config.model.bidirectional else "forward-only"
    text = (
        f"teacher: {path}, {count_parameters(network):,} parameters, {view}; {weight:g} of the loss is how far each "
        "frame is from what it says"
    )
    for norm in network.batch_norms():
        norm.is_frozen = True
    for parameter in network.get_parameters():
        parameter.requires_grad = False
    network.update_parameters_name("teacher.")  # a graph wants different names
    compute_in(network, config.precision.compute, backend)
    return Teacher(network, digest_of(checkpoint.weights), text)


def require_same_language(checkpoint: Checkpoint, config: Config, path: str) -> None:
    """Make sure that what a teacher says about a frame means something to the network that is trained.

    Args:
        checkpoint: of the teacher.
        config: of the run.
        path: of the checkpoint, for the error's text.

    Raises:
        CheckpointError: other features, labels or output frames; says which, and both values.
    """
    old = checkpoint.config
    problems = []
    if differing := describe_difference(old, config, lambda key: key.startswith("features.")):
        problems.append(f"it hears other features: {differing}")
    before, now = (Tokenizer(each.text) for each in (old, config))
    if before.symbols != now.symbols:
        problems.append(
            f"it has other labels, or the same in another order: {before.describe()}, blank {old.text.blank}; "
            f"now {now.describe()}, blank {config.text.blank}"
        )
    if old.model.time_stride != config.model.time_stride:
        problems.append(
            f"it has an output frame for {old.model.time_stride} frames of features, now {config.model.time_stride} "
            "(model.conv_stride_time)"
        )
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise CheckpointError(
            f"{path} cannot teach this network:{listed}\nGive these keys the teacher's values, train a teacher with "
            "those of this run, or leave training.teacher null"
        )
