"""What the server counts, in Prometheus's text format. Durations are seconds."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATIONS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)


class Metrics:
    """The counters of one server; a registry of their own, so that a process may have several."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        name = "mindaudio_ds2_"
        self._requests = Counter(
            f"{name}requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            f"{name}request_seconds",
            "From a request to its answer.",
            ["route"],
            buckets=DURATIONS,
            registry=self._registry,
        )
        self._audio = Counter(f"{name}audio_seconds", "Audio recognised, by kind.", ["kind"], registry=self._registry)
        self._compute = Counter(f"{name}compute_seconds", "Time of workers on files.", registry=self._registry)
        self._batch = Histogram(
            f"{name}batch_segments", "Segments recognised together.", buckets=(1, 2, 4, 8, 16), registry=self._registry
        )
        self._latency = Histogram(
            f"{name}stream_latency_seconds",
            "From the arrival of a live chunk until its words are known.",
            buckets=LATENCIES,
            registry=self._registry,
        )
        self._cancelled = Counter(f"{name}cancelled", "Files whose client went away.", registry=self._registry)
        self._compute_speed = 0.0

    def watch(self, name: str, text: str, measure: Callable[[], float]) -> None:
        """Show a value that is measured when it is asked for."""
        Gauge(f"mindaudio_ds2_{name}", text, registry=self._registry).set_function(measure)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_batch(self, num_segments: int, audio_seconds: float, seconds: float) -> None:
        """Segments of files were recognised together."""
        self._batch.observe(num_segments)
        self._audio.labels("file").inc(audio_seconds)
        self._compute.inc(seconds)
        speed = audio_seconds / max(seconds, 1e-6)
        self._compute_speed = 0.8 * self._compute_speed + 0.2 * speed if self._compute_speed else speed

    def count_chunk(self, audio_seconds: float, latency_seconds: float) -> None:
        """A chunk of a live stream was recognised."""
        self._audio.labels("stream").inc(audio_seconds)
        self._latency.observe(latency_seconds)

    def count_cancelled(self) -> None:
        """A client went away before its file was done."""
        self._cancelled.inc()

    def estimate_seconds(self, audio_seconds: float) -> float:
        """How long so much audio may take, by the speed of the latest batches (s)."""
        return audio_seconds / self._compute_speed if self._compute_speed else 1.0

    def write(self) -> bytes:
        """All of it, as `text/plain; version=0.0.4`."""
        return generate_latest(self._registry)
