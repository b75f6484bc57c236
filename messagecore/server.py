"""The web process: `python -m messagecore.server` listens on HOST:PORT with WEB_PROCESSES processes."""

import gc
import os
import shutil

import uvicorn

from messagecore.settings.env import env


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messagecore.settings")
    if env.web_processes > 1:
        # Every process counts into files that whichever of them is asked sums up.
        folder = env.home / "metrics"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    # Cycles are rare on the hot paths; the default thresholds made the collector the tail of every latency.
    gc.set_threshold(50_000, 20, 50)
    uvicorn.run(
        "messagecore.asgi:application",
        host=env.host,
        port=env.port,
        workers=env.web_processes,
        loop="messagecore.accepting:Loop",
        http="messagecore.transport:HttpTransport",
        ws="realtime.transport:SocketTransport",
        ws_max_size=2 * 1024 * 1024,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=env.socket_deflate,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        # Longer than balancers keep an idle connection (60 s is common): a request must not meet our closing of it.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=8,
    )


if __name__ == "__main__":
    main()
