# syntax=docker/dockerfile:1
# The sample app: docker build -t starlette-wasm . The first stage installs, the second only runs. scripts/image builds it
# without Docker, and with any other base.
ARG BASE=python:3.13-slim
FROM ${BASE} AS build
# The same files give the same bytes: no caches, and compiled Python that holds no times. It is compiled here, since the
# root of pods is read-only.
ARG SOURCE_DATE_EPOCH=0
ARG PIP_NO_INDEX
ENV PIP_NO_CACHE_DIR=1 PIP_FIND_LINKS=/wheels SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
WORKDIR /src
# Wheels that are there are taken, and what is missing comes from the index; the package itself is built from its sources.
COPY requirements-dev.lock wheel[s] /wheels/
COPY pyproject.toml README.md LICENSE ./
COPY starlette_wasm starlette_wasm
COPY policies policies
COPY sdk sdk
COPY scripts/build_native.py scripts/
RUN ls /wheels/starlette_wasm-*.whl 2>/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && python -m pip wheel --no-deps --wheel-dir /wheels .; }
RUN python -m venv /tools && /tools/bin/python -m pip install cyclonedx-bom && python -m venv --without-pip /venv
RUN /tools/bin/python -m pip --python /venv/bin/python install --no-compile \
    --constraint /wheels/requirements-dev.lock \
    "starlette-wasm[cli,dashboard,fetch,otel,prometheus,redis,registry,server]"
# What is in it, as CycloneDX: cosign attest, or docker scout, take it from /venv/sbom.cdx.json.
RUN /tools/bin/cyclonedx-py environment --no-validate --of JSON --output-reproducible \
    -o /venv/sbom.cdx.json /venv/bin/python \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv

FROM ${BASE}
RUN echo 'edge:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && mkdir -m 0700 /var/cache/starlette-wasm && chown 10001:10001 /var/cache/starlette-wasm
WORKDIR /app
COPY --from=build /venv /venv
COPY sample_app sample_app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    STARLETTE_WASM_CACHE_DIR=/var/cache/starlette-wasm \
    STARLETTE_WASM_PROCESSOR=baseline
# The user that runs the functions compiles them: the cache trusts only its own files. Whoever has the image has the key of
# their checksums too, so it need not be random, and each build would else have other bytes.
USER 10001
RUN umask 077 && sha256sum sample_app/wasm.yaml | head -c 32 > "$STARLETTE_WASM_CACHE_DIR/key" \
    && starlette-wasm compile sample_app/wasm.yaml
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=2)"
CMD ["uvicorn", "sample_app.app:app", "--host", "0.0.0.0", "--port", "8080"]
