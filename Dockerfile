# syntax=docker/dockerfile:1
# Two stages: dependencies and AOT-compiled functions are made in the first, the second only runs them.
FROM python:3.13-slim AS build
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && python -m venv /venv
COPY pyproject.toml README.md LICENSE requirements-dev.lock ./
COPY starlette_wasm starlette_wasm
COPY policies policies
COPY sdk sdk
COPY scripts/build_native.py scripts/
RUN /venv/bin/pip install --no-cache-dir --constraint requirements-dev.lock \
    ".[cli,fetch,otel,prometheus,redis,registry,server]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home --home-dir /home/edge edge
WORKDIR /app
COPY --from=build /venv /venv
COPY sample_app sample_app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STARLETTE_WASM_CACHE_DIR=/home/edge/aot
# The user that runs the functions compiles them: the cache trusts only its own files. Code compiled here runs on
# the processor features of the build machine; a node that lacks one compiles again, into memory.
USER edge
RUN starlette-wasm compile sample_app/wasm.yaml
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/ready', timeout=2)"
ENTRYPOINT ["uvicorn", "sample_app.app:app", "--host", "0.0.0.0", "--port", "8080"]
