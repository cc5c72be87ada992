# The server in a container: TorchServe, its Java, the model, and nothing else.
#
#   docker build -t humanseg .                                         CPU
#   docker build -t humanseg --build-arg DEVICE=cuda .                 CUDA, from PyPI
#   docker build -t humanseg --platform linux/arm64 .                  Graviton and other arm64
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v humanseg:/state -p 127.0.0.1:8080:8080 -e ARCHIVE_BUCKET=... humanseg
#
# DEVICE=cpu uses torch's CPU build instead of PyPI's, which includes gigabytes of CUDA: from TORCH_INDEX, or offline
# from a wheel in deploy/container/wheels/.
# deploy/container/README.md has the settings and the contents of the image.

# Checked, and renewed with the tag, by scripts/pin_images.py.
ARG BASE=debian:bookworm-20250520-slim@sha256:90522eeb7e5923ee2b871c639059537b30521272f10ca86fdbbbb2b75a8c40cd

FROM ${BASE} AS python
# Versions are those of the base's Debian release, which the base's tag fixes.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3 && \
    apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*


FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && \
    apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
COPY scripts/pins.sh scripts/
COPY pyproject.toml .
COPY locks/image.txt locks/cuda.txt locks/torch-cpu.txt locks/
ARG DEVICE=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Each file is verified by its hash (scripts/lock.sh); an outdated lock is an error. torch's CPU build first, by its full version:
# "+cpu" exists in no other index. If its file is not in the lock, the build prints a warning and continues.
# hadolint ignore=DL3013,SC1091
RUN --mount=type=bind,source=deploy/container/wheels,target=/wheels --mount=type=cache,target=/root/.cache/pip \
    . scripts/pins.sh && lock=locks/image.txt && \
    if [ "$DEVICE" != cpu ]; then lock=locks/cuda.txt; fi && \
    { lock_is_of_these_pins "$lock" || { echo "$lock was not made from these pins: run scripts/lock.sh" >&2; exit 1; }; } && \
    if [ "$DEVICE" = cpu ]; then \
      pip install --no-deps --find-links /wheels --index-url "$TORCH_INDEX" --require-hashes -r locks/torch-cpu.txt || \
      { echo "torch's file is not in locks/torch-cpu.txt: taken unverified" >&2 && \
        pip install --no-deps --find-links /wheels --extra-index-url "$TORCH_INDEX" "$(pin_of torch)+cpu"; }; \
    fi && \
    pip install --require-hashes -r "$lock"
COPY handler handler
COPY humanseg humanseg
COPY config config
COPY docs/openapi.yaml docs/
COPY model_store/human_segmentation.safetensors model_store/
RUN python -m humanseg.serve.build_mar
COPY humanseg/deploy/container/slim.py /opt/
RUN if [ "$DEVICE" = cpu ]; then python /opt/slim.py /opt/venv/lib/python3.11/site-packages; fi


FROM python
COPY --from=build /opt/venv /opt/venv
COPY handler /app/handler
COPY humanseg /app/humanseg
COPY config /app/config
COPY deploy/container/log4j2.xml /app/config/log4j2.xml
COPY locks/sbom.json /app/
COPY --from=build /app/model_store/human_segmentation.mar /app/model_store/
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin humanseg && install -d -o 10001 -g 10001 /state
USER 10001:10001
WORKDIR /app
# HOME and TMPDIR are the tmpfs of a read-only container.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp TMPDIR=/tmp \
    STATE_DIR=/state INFERENCE_ADDRESS=0.0.0.0 MANAGEMENT_ADDRESS=unix LOG_REQUESTS=1
VOLUME /state
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=15s --start-period=90s --retries=3 CMD ["/opt/venv/bin/python", "-m", "humanseg.deploy.container.health"]
ENTRYPOINT ["/opt/venv/bin/python", "-m", "humanseg.deploy.container.main"]
