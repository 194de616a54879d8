# The image of an origin. It has the whole `headwater` command too: to publish, to roll, to operate. Build it from the root of the repository:
#   docker build -f infra/docker/origin.Dockerfile -t headwater-origin .
# To pin the base by its digest, as a production build does:
#   --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src
# Nothing is installed but what the lock file names, by its hash; the image gets no pip.
RUN python -m venv --without-pip /opt/headwater
COPY infra/docker/origin.lock ./
RUN python -m pip --python /opt/headwater/bin/python install --no-deps --only-binary :all: --require-hashes -r origin.lock
COPY wire /opt/headwater/app/wire
COPY origin /opt/headwater/app/origin
COPY edge_tier /opt/headwater/app/edge_tier
COPY gpu_worker /opt/headwater/app/gpu_worker
COPY infra /opt/headwater/app/infra
COPY --chmod=755 infra/docker/headwater /opt/headwater/bin/headwater
# Compiled now: nothing can be written later.
RUN /opt/headwater/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/headwater/app
RUN install -d -m 0700 -o 10001 -g 10001 /data

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="headwater-origin" \
      org.opencontainers.image.description="Signs, stores and announces model weights" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/headwater/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/headwater/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HEADWATER_ORIGIN__HOST=0.0.0.0 \
    HEADWATER_ORIGIN__PORT=7400 \
    HEADWATER_ORIGIN__STORE=/var/lib/headwater/store \
    HEADWATER_ORIGIN__KEYS_DIR=/var/lib/headwater/keys \
    HEADWATER_ORIGIN__PULL_TOKENS_FILE=/var/lib/headwater/pull-tokens.json \
    HEADWATER_ORIGIN__ADMIN_TOKEN_FILE=/run/secrets/admin-token \
    HEADWATER_ORIGIN__EDGE_TOKEN_FILE=/run/secrets/edge-report-token \
    HEADWATER_ORIGIN__DRAIN_DELAY_S=5 \
    HEADWATER_ORIGIN__DRAIN_S=15
COPY --from=build /opt/headwater /opt/headwater
COPY --from=build --chown=10001:10001 /data /var/lib/headwater
# All that is ever written; the root may be read-only. Secrets are files below /run/secrets.
VOLUME ["/var/lib/headwater"]
WORKDIR /var/lib/headwater
USER 10001:10001
EXPOSE 7400
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "wire.health", "http://127.0.0.1:7400/readyz"]
CMD ["python", "-m", "origin"]
