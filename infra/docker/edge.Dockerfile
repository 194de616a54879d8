# The image of an edge. Build it from the root of the repository:
#   docker build -f infra/docker/edge.Dockerfile -t headwater-edge .
# To pin the base by its digest, as a production build does:
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Nothing is installed but what the lock file names, by its hash; the image gets no pip.
RUN python -m venv --without-pip /opt/headwater
COPY infra/docker/edge.lock ./
RUN python -m pip --python /opt/headwater/bin/python install --no-deps --only-binary :all: --require-hashes -r edge.lock
COPY wire /opt/headwater/app/wire
COPY edge_tier /opt/headwater/app/edge_tier
# Compiled now: nothing can be written later.
RUN /opt/headwater/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/headwater/app
RUN install -d -m 0700 -o 10001 -g 10001 /data

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="headwater-edge" \
      org.opencontainers.image.description="Caches model weights in a region and takes its prompts" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/headwater/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/headwater/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HEADWATER_EDGE__HOST=0.0.0.0 \
    HEADWATER_EDGE__PORT=7401 \
    HEADWATER_EDGE__TRUST_ROOT=/run/secrets/root.json \
    HEADWATER_EDGE__TRUST_DIR=/var/lib/headwater/trust \
    HEADWATER_EDGE__CACHE__FOLDER=/var/lib/headwater/cache \
    HEADWATER_EDGE__PULL_TOKENS_FILE=/var/lib/headwater/pull-tokens.json \
    HEADWATER_EDGE__GATEWAY__KEYS_FILE=/var/lib/headwater/keys.json \
    HEADWATER_EDGE__GATEWAY__PEPPER_FILE=/var/lib/headwater/pepper \
    HEADWATER_EDGE__GATEWAY__IDENTITY__AUDIT__FILE=/var/lib/headwater/audit.jsonl \
    HEADWATER_EDGE__ADMIN_TOKEN_FILE=/run/secrets/admin-token \
    HEADWATER_EDGE__WORKER_TOKEN_FILE=/run/secrets/worker-token \
    HEADWATER_EDGE__ORIGIN_TOKEN_FILE=/run/secrets/origin-token \
    HEADWATER_EDGE__FLEET__TOKEN_FILE=/run/secrets/edge-report-token \
    HEADWATER_EDGE__DRAIN_DELAY_S=5 \
    HEADWATER_EDGE__DRAIN_S=60
COPY --from=build /opt/headwater /opt/headwater
COPY --from=build --chown=10001:10001 /data /var/lib/headwater
# All that is ever written; the root may be read-only. Secrets are files below /run/secrets.
VOLUME ["/var/lib/headwater"]
WORKDIR /var/lib/headwater
USER 10001:10001
EXPOSE 7401
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-m", "wire.health", "http://127.0.0.1:7401/readyz"]
CMD ["python", "-m", "edge_tier"]
