# One image for every process: web, worker, scheduler and `manage.py` (docs/operations.md).

FROM python:3.11-slim-bookworm AS build

# The environment gets no pip of its own; the base image's installs into it. The hashes of the lock file decide.
COPY requirements-production.lock /build/
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python --disable-pip-version-check install --no-cache-dir --root-user-action ignore \
        --require-hashes --only-binary :all: -r /build/requirements-production.lock

ENV PATH=/opt/venv/bin:$PATH
WORKDIR /app
# .dockerignore lists what there is to copy: the code, the templates and the protocol's catalogue.
COPY . .
# The key only lets the settings load: it signs nothing, and is gone when the command ends. Loading the applications
# compiles the translations; bytecode is compiled here since nobody may write beside the code later.
RUN rm requirements-production.lock \
    && MESSAGECORE_SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(48))')" \
        python manage.py collectstatic --no-input --verbosity 0 \
    && python -m compileall -q --invalidation-mode unchecked-hash .


FROM python:3.11-slim-bookworm

# The home holds what processes write: the metrics of several web processes, and files where no object store is set.
RUN groupadd --gid 10001 messagecore \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/messagecore --shell /usr/sbin/nologin messagecore \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/messagecore

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MESSAGECORE_MODE=production \
    MESSAGECORE_HOME=/var/lib/messagecore \
    HOST=0.0.0.0 \
    PORT=8000

WORKDIR /app
USER 10001:10001
EXPOSE 8000

# For the web process. Start workers and the scheduler with --no-healthcheck: they serve no HTTP.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=4)"]

CMD ["python", "-m", "messagecore.server"]
