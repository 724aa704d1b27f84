"""The page's folder: the server's page with another engine, the runtime, and a network with what belongs to it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from mindaudio_ds2.browser.features import plan_features
from mindaudio_ds2.errors import CheckpointError, OutputError
from mindaudio_ds2.files import replace_folder
from mindaudio_ds2.portable.description import Description
from mindaudio_ds2.portable.network import INPUT_NAMES, OUTPUT_NAMES, open_session, require_signature
from mindaudio_ds2.portable.stream import OnnxStreamingNetwork
from mindaudio_ds2.text.tokenizer import Tokenizer

OWN_PAGE = Path(__file__).with_name("page")
SHARED_PAGE = Path(str(files("mindaudio_ds2.serving") / "page"))
SHARED = ("app.js", "picture.js", "sound.js", "words.js", "worklet.js", "style.css", "icon.svg")
"""Of the server's page; its engine.js, which asks the server, is replaced by one that asks a worker."""

MODEL, ABOUT, RUNTIME = "model.onnx", "model.json", "runtime"
KIND = "mindaudio_ds2 page"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
)
WAITING = (
    "Loading… If this stays: the page needs a recent browser and a web server, because browsers run no modules from a "
    "disk. In its folder: python3 -m http.server"
)


@dataclass(frozen=True)
class Page:
    """A page that has been written.

    Attributes:
        folder: where it lies.
        num_bytes: size of all its files.
    """

    folder: Path
    num_bytes: int


@dataclass(frozen=True)
class PageNetwork:
    """A network that the page can run.

    Attributes:
        content: of its ONNX file.
        description: what belongs to it.
        stream: what the page needs to feed it chunk by chunk; None where it takes whole waveforms.
    """

    content: bytes
    description: Description
    stream: dict[str, object] | None = None


def read_network(path: Path) -> PageNetwork:
    """Look a network through.

    Raises:
        CheckpointError: missing, damaged, foreign, or of a form that the page cannot give its sound to.
        DeviceError: onnxruntime, which tries the file, is not installed.
    """
    session, description = open_session(path, num_threads=1)
    if not description.is_stream:
        if description.input != "waveform":
            raise CheckpointError(f"{path} takes features, and the page has sound; export it with --input waveform")
        require_signature(session, str(path), INPUT_NAMES["waveform"], OUTPUT_NAMES)
        return PageNetwork(path.read_bytes(), description)
    if description.features.normalization != "corpus":
        raise CheckpointError(
            f"{path} is for streams, but its features.normalization {description.features.normalization} needs the "
            "whole recording; export it without --stream"
        )
    network = OnnxStreamingNetwork(path)
    stream = {
        "features": plan_features(description.features),
        "states": network.state_shapes,
        "time_stride": description.time_stride,
    }
    return PageNetwork(path.read_bytes(), description, stream)


def write_page(folder: Path, name: str, network: PageNetwork, runtime: dict[str, bytes]) -> Page:
    """Write the folder aside, then put it in its place.

    Args:
        folder: is made, or replaced where it is empty or such a page.
        name: of the network, shown on the page.
        network: as `read_network` gives it.
        runtime: as `runtime.find_runtime` gives it.

    Raises:
        OutputError: it cannot be written, or something else is there.
    """
    require_replaceable(folder)

    def write(partial: Path) -> None:
        for place, data in _list_files(name, network, runtime):
            (partial / place).parent.mkdir(exist_ok=True)
            (partial / place).write_bytes(data)

    replace_folder(folder, write)
    return Page(folder, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))


def require_replaceable(folder: Path) -> None:
    """Only an empty folder, or one that holds a page, is replaced.

    Raises:
        OutputError: something else is there.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    about = folder / ABOUT
    if not (folder.is_dir() and about.is_file() and f'"kind": "{KIND}"' in about.read_text("utf-8", "replace")[:200]):
        raise OutputError(f"{folder} is there already, and no page of this command; name another folder")


def _list_files(name: str, network: PageNetwork, runtime: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    yield "index.html", make_index((SHARED_PAGE / "index.html").read_text(encoding="utf-8")).encode()
    for file in SHARED:
        yield f"page/{file}", (SHARED_PAGE / file).read_bytes()
    for path in sorted(OWN_PAGE.iterdir()):
        yield f"{RUNTIME if path.suffix == '.txt' else 'page'}/{path.name}", path.read_bytes()
    for target, data in runtime.items():
        yield f"{RUNTIME}/{target}", data
    yield MODEL, network.content
    yield ABOUT, (json.dumps(describe(name, network), ensure_ascii=False) + "\n").encode()


def describe(name: str, network: PageNetwork) -> dict[str, object]:
    """What the page needs to know of its network: labels by id, with a space before what begins a word and the blank
    being empty; times in seconds."""
    description = network.description
    tokenizer = Tokenizer(description.text)
    return {
        "kind": KIND,
        "name": name,
        "num_bytes": len(network.content),
        "sample_rate_hz": description.features.sample_rate_hz,
        "labels": [" " * tokenizer.starts_word(i) + text for i, text in enumerate(tokenizer.texts)],
        "seconds_per_output_frame": description.seconds_per_output_frame,
        "longest_seconds": description.longest_seconds,
        "weights": description.weights,
        "licence": description.licence,
        "scores": description.scores,
        "stream": network.stream,
    }


def make_index(server_page: str) -> str:
    """The server's index.html with a policy of its own, and without what only a server can do."""
    head, _, rest = server_page.partition("    <details>")
    server_page = head + rest.partition("</details>\n")[2]
    charset = '<meta charset="utf-8">'
    policy = f'{charset}\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    for old, new in ((charset, policy), (">Loading…<", f">{WAITING}<")):
        assert server_page.count(old) == 1, f"{old} stands once in the server's page"
        server_page = server_page.replace(old, new)
    before, _, behind = server_page.partition("<noscript>")
    return f"{before}<noscript>This page needs JavaScript.</noscript>{behind.partition('</noscript>')[2]}"
