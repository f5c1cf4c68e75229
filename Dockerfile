# One image for every role: `docker run … turnout serve …`, or any other command of turnout.
FROM python:3.11-slim AS build

WORKDIR /source
COPY requirements/base.txt requirements/build.txt requirements/
RUN python -m venv /opt/turnout \
    && /opt/turnout/bin/pip install --no-cache-dir --require-hashes -r requirements/base.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY registry registry
COPY gateway gateway
RUN /opt/build/bin/hatchling build --target wheel \
    && /opt/turnout/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.11-slim

RUN useradd --create-home --uid 10001 turnout && install --directory --owner turnout /data
COPY --from=build /opt/turnout /opt/turnout
ENV PATH=/opt/turnout/bin:$PATH \
    TURNOUT_REGISTRY_URI=sqlite:////data/turnout.db \
    TURNOUT_CACHE=/data/cache
USER turnout
WORKDIR /data
VOLUME /data
EXPOSE 8080
# Alive means that the process answers; readiness is /ping, which needs a model.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/version', timeout=2)"]
ENTRYPOINT ["turnout"]
CMD ["--help"]
