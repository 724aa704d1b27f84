#!/usr/bin/env python3
"""Train DeepSpeech2.

python train.py -c hparams/an4.yaml
python train.py -c hparams/an4.yaml --resume
mpirun -n 2 python train.py -c hparams/an4.yaml
python train.py -c hparams/an4.yaml --run_dir runs/wide --model.rnn_hidden_size 512
"""

from typing import Any

from mindaudio_ds2.commands._command import Command
from mindaudio_ds2.config import Config
from mindaudio_ds2.machine import collectives, runtime
from mindaudio_ds2.training.corpora import check_start


def add_options(parser: Any) -> None:
    """The verb's own options."""
    parser.add_argument("--resume", action="store_true", help="go on with the run in run_dir, if there is one")
    parser.add_argument(
        "--pre_trained_model_path", metavar="X.ckpt", help="start from the weights of this checkpoint (path)"
    )


def run(config: Config, options: Any) -> None:
    """Look for mistakes that can be found at once, prepare the device, train."""
    with collectives.join(runtime.find_own_place(), config.processes.timeout_seconds) as ranks:
        corpora = check_start(config, options.resume, options.pre_trained_model_path, ranks.is_first)
        backend = runtime.start(
            config.device_target, config.seed, config.ops.native, ranks.count_threads(), config.precision.compute
        )
        from mindaudio_ds2.training.trainer import train

        train(config, options.resume, options.pre_trained_model_path, backend, ranks, corpora)


main = Command(__doc__, add_options, run, takes_keys=True, default="deepspeech2")

if __name__ == "__main__":
    main()
