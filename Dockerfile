# A worker for the deployments of prefect.yaml:
#   docker build -t docjobs-worker .
#   docker run -e PREFECT_API_URL=https://prefect.example.com/api -v /data/documents:/data -w /data docjobs-worker
# Deploy from such a container too: runs start in the directory that was deployed from (docs/how-to/deploy.md).
# Keys are in Prefect's blocks: the image has none. What needs no database is smaller: --build-arg EXTRAS=s3

FROM python:3.12-slim AS build
ARG EXTRAS=etl,s3,delta
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
RUN python -m venv /opt/docjobs
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY prefect_docjobs ./prefect_docjobs
RUN /opt/docjobs/bin/pip install --constraint constraints.txt ".[${EXTRAS}]"

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 docjobs
COPY --from=build /opt/docjobs /opt/docjobs
ENV PATH="/opt/docjobs/bin:${PATH}" \
    PYTHONUNBUFFERED=1 \
    PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1 \
    PREFECT_WORKER_WEBSERVER_PORT=8080
USER docjobs
WORKDIR /home/docjobs
# A worker that has stopped to poll for runs answers 503.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
CMD ["prefect", "worker", "start", "--pool", "docjobs", "--type", "process", "--with-healthcheck"]
