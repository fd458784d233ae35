# `frostline serve` on the CPU, with the packaged MiniLM: see docs/install.md, "In a container".
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY constraints.txt ./
# torch for the CPU, without gigabytes of CUDA; a layer of its own, which other changes leave alone.
RUN python -m venv /opt/frostline \
    && /opt/frostline/bin/pip install --no-cache-dir --constraint constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY features features
COPY pipeline pipeline
RUN /opt/frostline/bin/pip install --no-cache-dir --constraint constraints.txt '.[minilm,serve]'

FROM python:${PYTHON}-slim
# Heads and tweets come in /data, models of the hub in /models; /cache may be lost at any time.
RUN useradd --uid 10001 --create-home frostline \
    && install --directory --owner=frostline /data /models /cache
COPY --from=build /opt/frostline /opt/frostline
ENV PATH=/opt/frostline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    FROSTLINE_CACHE=/cache \
    HF_HOME=/models \
    HF_HUB_OFFLINE=1
USER 10001
WORKDIR /data
VOLUME ["/cache"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["frostline"]
CMD ["serve", "head.joblib", "--host", "0.0.0.0", "--token-file", "/run/secrets/token"]
