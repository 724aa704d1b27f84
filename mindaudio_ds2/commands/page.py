#!/usr/bin/env python3
"""Write a page that recognises speech in the browser: one folder for any server of files.

    mindaudio-ds2 page runs/an4/export/model.int8.onnx page/
    mindaudio-ds2 page english page/ --runtime onnxruntime-web-1.30.0.tgz
    cd page && python3 -m http.server --bind 127.0.0.1   # then open http://localhost:8000

The folder holds the network, its labels, and ONNX Runtime compiled to WebAssembly, which comes from npm's package
onnxruntime-web in one version with known checksums: fetched with npm, or given with --runtime. Sound stays in the
browser. See docs/browser.md.
"""

import argparse
from pathlib import Path

from mindaudio_ds2 import console, models
from mindaudio_ds2.browser.folder import read_network, require_replaceable, write_page
from mindaudio_ds2.browser.runtime import PACKAGE, VERSION, find_runtime
from mindaudio_ds2.commands._command import Command, Parser
from mindaudio_ds2.errors import CheckpointError


def add_options(parser: Parser) -> None:
    """The command's own options."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL.onnx",
        help="of export.py, with the waveform in or for streams, or a model's name (path)",
    )
    add("folder", type=Path, metavar="OUT", help="of the page; a page that is there is replaced (path)")
    add("--runtime", type=Path, metavar="DIR|TGZ", help=f"the package {PACKAGE} {VERSION} (path; default: npm's)")
    add("--name", help="of the network, shown on the page (default: the model's, or the file's)")


def run(options: argparse.Namespace) -> None:
    """Look the network through, find the runtime, write."""
    path = models.find_file(options.model, "recognition")
    if path.suffix != ".onnx":
        raise CheckpointError(f"{path} is no ONNX file; write one with export.py --file_format ONNX --weights int8")
    require_replaceable(options.folder)
    network = read_network(path)
    with console.explain_wait(f"{'reading' if options.runtime else 'fetching'} {PACKAGE} {VERSION}"):
        runtime = find_runtime(options.runtime)
    name = options.name or models.find_model(path) or path.stem
    page = write_page(options.folder.resolve(), name, network, runtime)
    console.write_line(f"{page.folder}: {page.num_bytes / 1e6:.1f} MB, for any server of files", to_stdout=True)


main = Command(__doc__, add_options, run)

if __name__ == "__main__":
    main()
