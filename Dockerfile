# A worker's image: `lkmongo agent run`, as a user without rights, with nothing to fetch when it starts.
#   docker build -t lkmongo .                     with every extra but those for a desk
#   docker build -t lkmongo --build-arg EXTRAS= . with none: MONGODB_URI and VOYAGE_API_KEY are then needed
# The image is pinned by digest: to update it, change tag and digest together. What builds the wheel is pinned by hash.
ARG PYTHON=python:3.13.14-slim-bookworm@sha256:67a1e1f215ccda113cfc024e8639049257e88f273898f595b61476d128d387e8

FROM ${PYTHON} AS build
ARG EXTRAS=[local,encryption,html,openai,pdf,phone,telemetry,voice]
WORKDIR /src
COPY requirements.lock requirements-voice.lock requirements-build.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-build.lock
# The locks pin what is installed and by which hash, whatever the extras; uv reads them as constraints.
RUN cat requirements.lock requirements-voice.lock | grep -v '^ *# via' > /constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY lkmongo lkmongo
COPY seeds seeds
RUN uv build --quiet --wheel --build-constraints requirements-build.lock --require-hashes --out-dir /dist \
    && uv venv --quiet /opt/lkmongo \
    && uv pip install --quiet --python /opt/lkmongo/bin/python --constraint /constraints.txt \
        "lkmongo${EXTRAS} @ file://$(ls /dist/lkmongo-*.whl)"

FROM ${PYTHON}
# libcurl is the embedded mongod's; certificates are for LiveKit, Atlas and the models.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libcurl4 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home lkmongo \
    && install --directory --owner lkmongo --group lkmongo --mode 0700 /data
COPY --from=build /opt/lkmongo /opt/lkmongo
ENV PATH=/opt/lkmongo/bin:$PATH PYTHONUNBUFFERED=1 LKMONGO_HOME=/data
USER lkmongo
WORKDIR /home/lkmongo
VOLUME /data
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/', timeout=2)"]
ENTRYPOINT ["lkmongo"]
# Inside a container the health endpoint is for who publishes its port, or for a probe.
CMD ["agent", "run", "--log-format", "json", "--host", "0.0.0.0"]
