"""``python -m gpu_worker --config headwater.toml``: one worker, until SIGTERM."""

from __future__ import annotations

import gc


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 2 for a configuration that cannot be used."""
    # Imports make 100,000 objects and no garbage: looking for some took a quarter of the start.
    # They live as long as the process, so no later collection need look at them either.
    gc.disable()
    from gpu_worker.program import run_worker

    gc.freeze()
    gc.enable()
    return run_worker(argv)


if __name__ == "__main__":
    raise SystemExit(main())
