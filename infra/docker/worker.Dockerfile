# The image of a worker. Build it from the root of the repository:
#   docker build -f infra/docker/worker.Dockerfile -t headwater-worker .
# To pin the base by its digest, as a production build does:
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
# For a GPU, give the engine's wheel from its publisher's index and an image of Debian or Ubuntu that
# has the libraries of CUDA and Python 3.11 in the same place; the driver is the host's:
#   --build-arg RUNTIME_IMAGE=...  --build-arg ENGINE_INDEX=https://xorbitsai.github.io/xllamacpp/whl/cu128
#   --build-arg ENGINE_HASH=sha256:...   of the wheel there, of the version in worker.lock
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG RUNTIME_IMAGE=${PYTHON_IMAGE}

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Nothing is installed but what the lock file names, by its hash; the image gets no pip.
RUN python -m venv --without-pip /opt/headwater
COPY infra/docker/worker.lock ./
RUN python -m pip --python /opt/headwater/bin/python install --no-deps --only-binary :all: --require-hashes -r worker.lock
ARG ENGINE_INDEX=""
ARG ENGINE_HASH=""
RUN if [ -n "$ENGINE_INDEX" ]; then \
      grep -o '^xllamacpp==[^ ]*' worker.lock | sed "s/$/ --hash=$ENGINE_HASH/" > engine.lock && \
      python -m pip --python /opt/headwater/bin/python install --no-deps --only-binary :all: --require-hashes --force-reinstall --index-url "$ENGINE_INDEX" -r engine.lock; \
    fi
COPY wire /opt/headwater/app/wire
COPY gpu_worker /opt/headwater/app/gpu_worker
# Compiled now: nothing can be written later.
RUN /opt/headwater/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/headwater/app
RUN install -d -m 0700 -o 10001 -g 10001 /data

FROM ${RUNTIME_IMAGE}
LABEL org.opencontainers.image.title="headwater-worker" \
      org.opencontainers.image.description="Pulls model weights to a GPU and serves them" \
      org.opencontainers.image.licenses="Apache-2.0"
# The one library that the engine's wheel needs and neither brings nor finds in a slim image.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/headwater/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/headwater/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HEADWATER_WORKER__HOST=0.0.0.0 \
    HEADWATER_WORKER__PORT=7402 \
    HEADWATER_WORKER__TRUST_ROOT=/run/secrets/root.json \
    HEADWATER_WORKER__TRUST_DIR=/var/lib/headwater/trust \
    HEADWATER_WORKER__MODELS_DIR=/var/lib/headwater/models \
    HEADWATER_WORKER__TOKEN_FILE=/run/secrets/worker-token \
    HEADWATER_WORKER__DRAIN_DELAY_S=5 \
    HEADWATER_WORKER__DRAIN_S=120
COPY --from=build /opt/headwater /opt/headwater
COPY --from=build --chown=10001:10001 /data /var/lib/headwater
# All that is ever written; the root may be read-only. Secrets are files below /run/secrets.
VOLUME ["/var/lib/headwater"]
WORKDIR /var/lib/headwater
USER 10001:10001
EXPOSE 7402
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 CMD ["python", "-m", "wire.health", "http://127.0.0.1:7402/readyz"]
CMD ["python", "-m", "gpu_worker"]
