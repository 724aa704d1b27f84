import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from mindaudio_ds2.batching.plan import (
    BatchSpec,
    EpochPlan,
    count_frames_to_align,
    plan_epoch,
    plan_evaluation,
    select_trainable,
    share_of_padding,
)
from mindaudio_ds2.config import BatchingConfig, Config, DecodingConfig
from mindaudio_ds2.config_reader import from_mapping
from mindaudio_ds2.corpus.manifest import Utterance
from mindaudio_ds2.errors import ManifestError, TrainingError
from mindaudio_ds2.machine.ranks import Place
from mindaudio_ds2.network_config import FeatureConfig, TextConfig

WORLD_SIZES = range(1, 9)
BATCHING = BatchingConfig(
    bucket_edges_seconds=[2.0, 3.0, 5.0, 8.0],
    max_batch_utterances=6,
    max_batch_padded_seconds=20.0,
    accumulation_steps=1,
    sortagrad=False,
    prefetch_batches=2,
    num_workers=0,
)
AUGMENTATION = {
    "join_probability": 0.0,
    "join_max_utterances": 3,
    "join_max_seconds": 8.0,
    "tempo_probability": 0.0,
    "tempo_range": [1.0, 1.0],
    "silence_probability": 0.0,
    "silence_range_seconds": [0.0, 0.0],
    "silence_level_range_db": [-60.0, -60.0],
    "synthetic_rir_probability": 0.0,
    "synthetic_rir_range_seconds": [0.3, 0.3],
    "synthetic_noise_probability": 0.0,
    "synthetic_noise_kinds": ["white"],
    "clip_probability": 0.0,
    "clip_range_db": [0.0, 0.0],
    "low_pass_probability": 0.0,
    "low_pass_range_hz": [4000.0, 4000.0],
    "telephone_probability": 0.0,
    "codec_probability": 0.0,
    "codecs": ["mu_law"],
    "codec_range_kbps": [16.0, 16.0],
    "speed_probability": 0.0,
    "speed_range": [0.9, 1.1],
    "speed_num_factors": 0,
    "shift_probability": 0.0,
    "max_shift_seconds": 0.0,
    "rir_probability": 0.0,
    "rir_path": None,
    "noise_probability": 0.0,
    "noise_path": None,
    "noise_snr_range_db": [5.0, 25.0],
    "gain_probability": 0.0,
    "gain_range_db": [0.0, 0.0],
    "vtlp_probability": 0.0,
    "vtlp_range": [1.0, 1.0],
    "time_warp_probability": 0.0,
    "max_time_warp_share": 0.0,
    "mask_probability": 0.0,
    "num_frequency_masks": 0,
    "max_frequency_mask_share": 0.0,
    "num_time_masks": 0,
    "max_time_mask_share": 0.0,
    "unit_sampling": 0.0,
}
SORTAGRAD = dataclasses.replace(BATCHING, sortagrad=True)


def count_frames(duration_seconds: float) -> int:
    return 1 + int(duration_seconds * 100)


def draw_durations(num_utterances: int, seed: int = 0) -> list[float]:
    generator = np.random.default_rng(seed)
    return [round(duration, 3) for duration in generator.uniform(0.5, 8.0, num_utterances).tolist()]


def plan_all_ranks(durations: list[float], config: BatchingConfig, epoch: int, world_size: int) -> list[EpochPlan]:
    return [
        plan_epoch(durations, config, epoch=epoch, seed=7, num_frames=count_frames, place=Place(rank, world_size))
        for rank in range(world_size)
    ]


def list_indices(batches: tuple[BatchSpec, ...]) -> list[int]:
    return [index for batch in batches for index in batch.indices]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("config", [BATCHING, SORTAGRAD])
@pytest.mark.parametrize("num_utterances", [0, 1, 5, 7, 8, 50, 333])
def test_an_epoch_has_every_utterance_once_or_names_it_as_left_out(
    num_utterances: int, config: BatchingConfig, world_size: int
) -> None:
    durations = draw_durations(num_utterances)
    for epoch in range(3):
        plans = plan_all_ranks(durations, config, epoch, world_size)
        trained = [index for plan in plans for index in list_indices(plan.batches)]
        assert sorted([*trained, *plans[0].left_out]) == list(range(num_utterances))
        assert len(plans[0].left_out) < world_size
        assert all(plan.left_out == plans[0].left_out for plan in plans)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("config", [BATCHING, SORTAGRAD])
def test_all_ranks_take_the_same_steps_within_the_limits(config: BatchingConfig, world_size: int) -> None:
    durations = draw_durations(500)
    for epoch in range(2):
        plans = plan_all_ranks(durations, config, epoch, world_size)
        assert len({len(plan.batches) for plan in plans}) == 1
        for step in zip(*(plan.batches for plan in plans), strict=True):
            sizes = [len(batch.indices) for batch in step]
            longest = max(durations[index] for batch in step for index in batch.indices)
            assert min(sizes) >= 1
            assert max(sizes) - min(sizes) <= 1
            assert max(sizes) <= config.max_batch_utterances
            assert max(sizes) * longest <= config.max_batch_padded_seconds
            assert {batch.num_padded_frames for batch in step} == {count_frames(longest)}


@pytest.mark.parametrize(("world_size", "steps"), [(1, 8), (2, 4), (4, 2)])
def test_accumulation_makes_the_updates_of_as_many_more_processes(world_size: int, steps: int) -> None:
    durations = draw_durations(333)
    for epoch in range(2):
        eight = plan_all_ranks(durations, SORTAGRAD, epoch, 8)
        accumulating = dataclasses.replace(SORTAGRAD, accumulation_steps=steps)
        for rank, plan in enumerate(plan_all_ranks(durations, accumulating, epoch, world_size)):
            assert plan.num_joint_utterances == eight[0].num_joint_utterances
            assert plan.left_out == eight[0].left_out
            assert len(plan.batches) == steps * plan.num_updates
            for update in range(plan.num_updates):
                group = plan.batches[update * steps : (update + 1) * steps]
                assert group == tuple(other.batches[update] for other in eight[rank * steps : (rank + 1) * steps])


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_the_joint_sizes_are_the_sums_over_the_ranks(world_size: int) -> None:
    plans = plan_all_ranks(draw_durations(100), BATCHING, 1, world_size)
    sizes = [[len(batch.indices) for batch in plan.batches] for plan in plans]
    assert plans[0].num_joint_utterances == tuple(map(sum, zip(*sizes, strict=True)))


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("changes", [[(2, 3)], [(8, 1), (3, 2), (1, 4)], [(4, 0)], [(1, 1000)]])
def test_an_epoch_that_changes_hands_still_has_every_utterance_once(changes: list[tuple[int, int]], epoch: int) -> None:
    durations = draw_durations(150)
    trained: list[int] = []
    for place, (world_size, num_updates) in enumerate([*changes, (2, 1000)]):
        plans = [
            plan_epoch(
                durations,
                SORTAGRAD,
                epoch=epoch,
                seed=7,
                num_frames=count_frames,
                place=Place(rank, world_size),
                finished=changes[:place],
            )
            for rank in range(world_size)
        ]
        assert plans[0].share_done == pytest.approx(len(trained) / len(durations))
        trained += [index for plan in plans for index in list_indices(plan.batches[:num_updates])]
    assert len(set(trained)) == len(trained)
    assert sorted([*trained, *plans[0].left_out]) == list(range(len(durations)))


def test_the_share_of_an_epoch_runs_from_what_was_done_to_one() -> None:
    plan = plan_epoch(draw_durations(90), BATCHING, epoch=1, seed=7, num_frames=count_frames, finished=[(3, 2)])
    shares = [plan.share_after(num_updates) for num_updates in range(plan.num_updates + 1)]
    assert shares[0] == plan.share_done > 0
    assert shares[-1] == pytest.approx(1)
    np.testing.assert_allclose(np.diff(shares), (1 - plan.share_done) / plan.num_updates)


def test_one_process_leaves_nothing_out() -> None:
    for num_utterances in range(40):
        durations = draw_durations(num_utterances, seed=num_utterances)
        assert plan_all_ranks(durations, BATCHING, 1, 1)[0].left_out == ()


def test_the_same_arguments_give_the_same_plan_and_another_epoch_or_seed_another() -> None:
    durations = draw_durations(200)

    def plan(epoch: int, seed: int) -> EpochPlan:
        return plan_epoch(durations, BATCHING, epoch=epoch, seed=seed, num_frames=count_frames)

    assert plan(3, 7) == plan(3, 7)
    assert plan(3, 7) == plan_epoch(np.array(durations), BATCHING, epoch=3, seed=7, num_frames=count_frames)
    members = [{frozenset(batch.indices) for batch in plan(*case).batches} for case in [(3, 7), (4, 7), (3, 8)]]
    assert all(len(a & b) < len(a) / 10 for a, b in itertools.combinations(members, 2))


def test_a_plan_does_not_depend_on_numpys_global_state() -> None:
    durations = draw_durations(50)
    np.random.seed(1)
    first = plan_all_ranks(durations, BATCHING, 1, 1)
    np.random.seed(2)
    expected = np.random.rand()
    np.random.seed(2)
    assert plan_all_ranks(durations, BATCHING, 1, 1) == first
    assert np.random.rand() == expected


@pytest.mark.parametrize("world_size", [1, 3])
def test_sortagrad_goes_from_short_to_long_in_the_first_epoch_only(world_size: int) -> None:
    durations = draw_durations(300)

    def list_by_step(epoch: int) -> list[list[float]]:
        plans = plan_all_ranks(durations, SORTAGRAD, epoch, world_size)
        steps = zip(*(plan.batches for plan in plans), strict=True)
        return [sorted(durations[i] for batch in step for i in batch.indices) for step in steps]

    first = list(itertools.chain.from_iterable(list_by_step(0)))
    assert first == sorted(durations)[: len(first)]
    later = list(itertools.chain.from_iterable(list_by_step(1)))
    assert later != sorted(later)
    assert plan_all_ranks(durations, SORTAGRAD, 1, world_size) == plan_all_ranks(durations, BATCHING, 1, world_size)


def test_batches_of_an_epoch_come_in_no_order_of_length() -> None:
    batches = plan_all_ranks(draw_durations(2000), BATCHING, 1, 1)[0].batches
    lengths = [batch.num_padded_frames for batch in batches]
    assert abs(np.corrcoef(lengths, range(len(lengths)))[0, 1]) < 0.2


def test_only_the_last_batch_of_a_bucket_meets_the_next_bucket() -> None:
    durations = draw_durations(400)
    batches = plan_all_ranks(durations, BATCHING, 1, 1)[0].batches
    edges = [0.0, *BATCHING.bucket_edges_seconds]

    def find_bucket(index: int) -> int:
        return next(number for number, edge in enumerate(edges[1:]) if durations[index] <= edge)

    mixed = [batch for batch in batches if len({find_bucket(index) for index in batch.indices}) > 1]
    assert len(mixed) <= len(BATCHING.bucket_edges_seconds) - 1


def test_batches_are_filled_up_to_the_limits_and_what_is_left_moves_up() -> None:
    # 1.9 s: six make 11.4 s, so the count is the limit. 4.5 s: four make 18 s, so the seconds are.
    durations = [1.9] * 45 + [4.5] * 33
    sizes = Counter(
        (max(durations[i] for i in batch.indices), len(batch.indices))
        for batch in plan_all_ranks(durations, BATCHING, 1, 1)[0].batches
    )
    # 45 = 7 * 6 + 3; the three move up and take one long one with them; 32 = 8 * 4.
    assert sizes == {(1.9, 6): 7, (4.5, 4): 9}


def test_an_utterance_beyond_the_last_edge_shares_the_last_bucket() -> None:
    durations = [*draw_durations(30), 9.0, 9.5]
    assert sorted(list_indices(plan_all_ranks(durations, BATCHING, 1, 1)[0].batches)) == list(range(32))


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("max_batch_utterances", [1, 2, 5, 64])
@pytest.mark.parametrize("num_utterances", [0, 1, 3, 64, 131])
def test_evaluation_has_every_utterance_exactly_once(
    num_utterances: int, max_batch_utterances: int, world_size: int
) -> None:
    config = dataclasses.replace(BATCHING, max_batch_utterances=max_batch_utterances)
    durations = draw_durations(num_utterances)
    seen: list[int] = []
    for rank in range(world_size):
        batches = plan_evaluation(durations, config, num_frames=count_frames, place=Place(rank, world_size))
        assert all(0 < len(batch.indices) <= max_batch_utterances for batch in batches)
        assert [b.num_padded_frames for b in batches] == sorted(b.num_padded_frames for b in batches)
        seen += list_indices(batches)
    assert sorted(seen) == list(range(num_utterances))


def test_evaluation_gives_utterances_above_the_limit_a_batch_of_their_own() -> None:
    durations = [35.0, 1.0, 21.0, 1.0]
    batches = plan_evaluation(durations, BATCHING, num_frames=count_frames)
    assert [batch.indices for batch in batches] == [(1, 3), (2,), (0,)]
    for rank in range(2):
        shared = plan_evaluation(durations, BATCHING, num_frames=count_frames, place=Place(rank, 2))
        assert all(len(batch.indices) == 1 for batch in shared if batch.num_padded_frames > count_frames(20.0))


def test_share_of_padding_is_counted_in_frames() -> None:
    batches = (BatchSpec((0, 2), 10), BatchSpec((1,), 5))
    assert share_of_padding(batches, [10, 5, 4]) == 1 - 19 / 25
    assert share_of_padding((), [10, 5, 4]) == 0.0


def test_a_big_corpus_is_planned_with_little_padding() -> None:
    # 281,241 utterances spread as LibriSpeech's are: a third of any length, the rest near 14 s.
    generator = np.random.default_rng(0)
    size = 281_241
    anywhere, near = generator.uniform(1.4, 11, size), np.clip(generator.normal(14.2, 1.6, size), 1.4, 24.5)
    durations = np.where(generator.random(size) < 0.35, anywhere, near)
    config = BatchingConfig([4.0, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 20, 24.5], 32, 400.0, 1, True, 4, 0)
    frames = [count_frames(duration) for duration in durations.tolist()]
    for epoch, most in ((0, 0.005), (1, 0.07)):
        plan = plan_epoch(durations, config, epoch=epoch, seed=1, num_frames=count_frames, place=Place(3, 8))
        assert share_of_padding(plan.batches, frames) < most
        assert abs(sum(len(batch.indices) for batch in plan.batches) - size / 8) <= len(plan.batches)


def enumerate_collapsed_paths(num_labels: int, num_frames: int) -> set[tuple[int, ...]]:
    """All transcripts that some path of `num_frames` steps over labels 1..num_labels and blank 0 collapses to."""
    paths = itertools.product(range(num_labels + 1), repeat=num_frames)
    return {tuple(label for label, _ in itertools.groupby(path) if label) for path in paths}


def test_frames_to_align_agree_with_an_enumeration_of_all_paths() -> None:
    reachable = [enumerate_collapsed_paths(2, num_frames) for num_frames in range(8)]
    for num_labels in range(5):
        for labels in itertools.product((1, 2), repeat=num_labels):
            fewest = next(count for count, texts in enumerate(reachable) if labels in texts)
            assert count_frames_to_align(np.array(labels, dtype=np.int32)) == fewest


def make_config(**data: float) -> Config:
    """A small configuration: 10 ms frames, time strides 2 and 2."""
    features = FeatureConfig(16000, "log_spectrogram", "hamming", 0.02, 0.01, 320, 80, "utterance", [], [])
    sections = {
        "run_dir": "run",
        "device_target": "CPU",
        "seed": 1,
        "data": {
            "train_manifest": "train.jsonl",
            "dev_manifest": "dev.jsonl",
            "test_manifest": "test.jsonl",
            "min_duration_seconds": 0.2,
            "max_duration_seconds": 8.0,
            "root": None,
            "max_excluded_share": 1.0,
            "feature_cache_dir": None,
            **data,
        },
        "text": dataclasses.asdict(TextConfig("AB ", "first", "upper", "error")),
        "features": dataclasses.asdict(features),
        "augmentation": AUGMENTATION,
        "batching": dataclasses.asdict(BATCHING),
        "model": {
            "conv_channels": [32, 32],
            "conv_kernel_frequency": [41, 21],
            "conv_kernel_time": [11, 11],
            "conv_stride_frequency": [2, 2],
            "conv_stride_time": [2, 2],
            "conv_bias": False,
            "activation": "clipped_relu",
            "rnn_type": "lstm",
            "rnn_num_layers": 1,
            "rnn_hidden_size": 8,
            "bidirectional": True,
            "lookahead_frames": 20,
            "rnn_initialization": "uniform",
            "rnn_dropout": 0.0,
            "rnn_batch_norm": True,
            "head_batch_norm": True,
            "head_bias": False,
            "batch_norm_momentum": 0.9,
            "batch_norm_epsilon": 1e-5,
        },
        "optimizer": {
            "name": "adam",
            "betas": [0.9, 0.999],
            "momentum": 0.9,
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "max_gradient_norm": 100.0,
        },
        "schedule": {
            "name": "cosine",
            "peak_learning_rate": 1e-3,
            "final_learning_rate": 1e-5,
            "warmup_epochs": 1.0,
            "decay_per_epoch": 0.9,
            "plateau_patience_epochs": 2,
            "plateau_factor": 0.5,
        },
        "training": {
            "epochs": 1,
            "early_stopping_epochs": 0,
            "max_bad_steps": 1,
            "checkpoint_every_minutes": 10.0,
            "keep_every_epochs": 0,
            "ema_decay": 0.0,
            "average_best": 0,
            "label_smoothing": 0.0,
            "consistency_weight": 0.0,
            "teacher": None,
            "teacher_weight": 0.5,
            "prune_share": 0.0,
            "prune_end_share": 0.5,
            "frozen_norm_share": 0.0,
            "freeze": [],
            "learning_rate_factors": {},
        },
        "decoding": dataclasses.asdict(DecodingConfig()),
        "precision": {"compute": "fp32", "loss_scale": 1.0, "loss_scale_window": 0},
        "processes": {"sync_batch_norm": False, "timeout_seconds": 60.0},
        "ops": {"native": "off"},
    }
    config: Config = from_mapping(sections, "test")
    return config


def make_utterances(durations: list[float]) -> list[Utterance]:
    return [Utterance(f"u{i}", f"/audio/u{i}.wav", duration, "A B") for i, duration in enumerate(durations)]


def make_labels(*rows: list[int]) -> list[NDArray[np.int32]]:
    return [np.array(row, dtype=np.int32) for row in rows]


def test_each_reason_for_leaving_out_is_named_with_the_utterance_and_its_numbers() -> None:
    utterances = make_utterances([0.19, 0.2, 8.0, 8.01, 1.0, 1.0])
    labels = make_labels([1], [1], [1], [1], [], [1, 1] * 13)
    selection = select_trainable(utterances, labels, make_config())
    assert selection.kept == (1, 2)
    assert [(e.utterance_id, e.reason, e.detail) for e in selection.excluded] == [
        ("u0", "shorter than data.min_duration_seconds", "0.190 s"),
        ("u3", "longer than data.max_duration_seconds", "8.010 s"),
        ("u4", "without a character of the alphabet", "'A B'"),
        ("u5", "with a transcript too long for its audio", "needs 51 output frames, has 26"),
    ]
    text = selection.describe_excluded()
    assert text.startswith("4 of 6: 1 shorter than data.min_duration_seconds, 1 longer than")
    assert "u5 (with a transcript too long for its audio: needs 51 output frames, has 26)" in text


@pytest.mark.parametrize("num_centiseconds", range(20, 61))
def test_the_longest_transcript_that_can_be_aligned_is_kept_and_one_more_label_is_not(num_centiseconds: int) -> None:
    config = make_config()
    num_frames = num_centiseconds + 1  # one around every hop, both ends included
    num_outputs = math.ceil(math.ceil(num_frames / 2) / 2)
    utterances = make_utterances([num_centiseconds / 100] * 4)
    alternating = [1, 2] * num_outputs
    labels = make_labels(
        alternating[:num_outputs],
        alternating[: num_outputs + 1],
        [1, *alternating[: num_outputs - 2]],  # a repeat: a label less, and a blank instead
        [1, *alternating[: num_outputs - 1]],
    )
    assert select_trainable(utterances, labels, config).kept == (0, 2)


def test_too_many_left_out_is_an_error_that_counts_and_names_them() -> None:
    utterances = make_utterances([1.0] * 80 + [9.0] * 15 + [0.1] * 5)
    labels = make_labels(*[[1]] * 100)
    assert len(select_trainable(utterances, labels, make_config(max_excluded_share=0.2)).kept) == 80
    with pytest.raises(ManifestError) as caught:
        select_trainable(utterances, labels, make_config(max_excluded_share=0.19))
    text = str(caught.value)
    assert "train.jsonl" in text
    assert "data.max_excluded_share = 0.19" in text
    assert "20 of 100: 15 longer than data.max_duration_seconds, 5 shorter than data.min_duration_seconds" in text
    assert "u80 (" in text
    assert "u89 (" in text
    assert "u90 (" not in text
    assert "and 10 more" in text


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no utterance is left to train on"):
        select_trainable(make_utterances([9.0]), make_labels([1]), make_config())
