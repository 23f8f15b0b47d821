# One image for all services: docker-compose.yml tells each container which of them it is.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock ./
# The build back end, in its locked version.
RUN pip install --constraint requirements.lock hatchling
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./clients/python . \
 && python -m venv --without-pip /opt/easyq \
 && pip --python /opt/easyq/bin/python install --only-binary :all: --constraint requirements.lock /wheels/*.whl

# Nothing of the above but the environment: no compiler, no sources, no installer inside it.
FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="EasyQ" \
      org.opencontainers.image.description="A job queue in which every job is a container run" \
      org.opencontainers.image.licenses="MIT"
RUN pip uninstall --yes --quiet pip \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/easyq --create-home easyq
COPY --from=build /opt/easyq /opt/easyq
ENV PATH=/opt/easyq/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The runner alone is run as root, where the Docker socket demands it: docker-compose.yml says so.
USER easyq
WORKDIR /var/lib/easyq
VOLUME /var/lib/easyq
STOPSIGNAL SIGTERM
ENTRYPOINT ["easyq"]
CMD ["--help"]
