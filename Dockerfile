# Calotype with all that a cluster needs; docs/scale-out.md tells how it is used.
FROM python:3.11-slim

# Of every node of a cluster, and of whoever prints its manifest.
ARG RAY_VERSION=2.60.0

# KubeRay asks with wget whether a node answers.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 calotype

COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN pip install --no-cache-dir "/build[hub,otel,ray]" "ray[serve]==${RAY_VERSION}" \
    && rm -rf /build

USER calotype
WORKDIR /home/calotype
EXPOSE 8000
CMD ["calotype", "serve", "--host", "0.0.0.0"]
