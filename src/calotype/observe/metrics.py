"""Every metric once: name, unit, help, labels. `GET /metrics` shows them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry()
SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

REQUESTS = Counter(
    "calotype_requests_total", "Answers sent.", ["model", "status"], registry=REGISTRY
)
DURATION = Histogram(
    "calotype_request_duration_seconds",
    "From the last byte of the request to the first of the answer.",
    ["model"],
    buckets=SECONDS,
    registry=REGISTRY,
)
CACHE = Counter(
    "calotype_cache_answers_total",
    "Answers by how the cache served them: hit, miss, bypass, coalesced.",
    ["status"],
    registry=REGISTRY,
)
QUEUE = Gauge(
    "calotype_queue_jobs", "Jobs waiting or running, all models together.", registry=REGISTRY
)
WAIT = Histogram(
    "calotype_queue_wait_seconds",
    "Time a job waited for the device.",
    ["model"],
    buckets=SECONDS,
    registry=REGISTRY,
)
INFERENCE = Histogram(
    "calotype_inference_duration_seconds",
    "Time a job ran on the device.",
    ["model"],
    buckets=SECONDS,
    registry=REGISTRY,
)
LOAD = Histogram(
    "calotype_model_load_duration_seconds",
    "Time a model took to load.",
    ["model"],
    buckets=SECONDS,
    registry=REGISTRY,
)
LOAD_FAILURES = Counter(
    "calotype_model_load_failures_total", "Loads that failed.", ["model"], registry=REGISTRY
)
LOADED = Gauge("calotype_models_loaded", "Models that are loaded.", registry=REGISTRY)
RESIDENT = Gauge(
    "calotype_model_resident_bytes",
    "Memory of a model's processes, as measured last.",
    ["model"],
    registry=REGISTRY,
)
UNLOADS = Counter(
    "calotype_model_unloads_total",
    "Models unloaded, by reason: idle, memory, operator, crash.",
    ["model", "reason"],
    registry=REGISTRY,
)
LOST = Counter(
    "calotype_worker_losses_total",
    "Processes of models that ended without being asked to.",
    ["model"],
    registry=REGISTRY,
)
KILLS = Counter(
    "calotype_worker_kills_total",
    "Processes of models that were killed because they hung.",
    ["model"],
    registry=REGISTRY,
)
RETRIES = Counter(
    "calotype_job_retries_total", "Jobs run again on a fresh process.", ["model"], registry=REGISTRY
)
SMALLER = Counter(
    "calotype_smaller_tile_total",
    "Jobs run with a smaller tile, for want of memory.",
    ["model"],
    registry=REGISTRY,
)
BATCH = Histogram(
    "calotype_batch_jobs",
    "Jobs that ran together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16),
    registry=REGISTRY,
)
SAVED = Counter(
    "calotype_cancelled_compute_seconds_total",
    "Computing that was saved because nobody waited for it any more, going by its pace.",
    ["model"],
    registry=REGISTRY,
)
UPLOAD = Counter("calotype_upload_bytes_total", "Bytes of request bodies.", registry=REGISTRY)
ANSWER = Counter("calotype_answer_bytes_total", "Bytes of pictures sent.", registry=REGISTRY)
STORE_UP = Gauge(
    "calotype_store_up",
    "Whether the shared store answers: 1 or 0; 0 too where there is none.",
    registry=REGISTRY,
)
STORE_FAILURES = Counter(
    "calotype_store_failures_total",
    "Questions that the shared store did not answer, or refused.",
    registry=REGISTRY,
)


def exposition() -> bytes:
    """Return all metrics in the Prometheus text format."""
    return generate_latest(REGISTRY)
