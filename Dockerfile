# The chargehand image: server, agent and every command. It holds exactly the wheels of requirements.lock, as ./run does;
# a lock of other hashes fails here instead of installing something else.
FROM python:3.13.9-slim-trixie@sha256:326df678c20c78d465db501563f3492d17c42a4afe33a1f2bf5406a1d56b0e86 AS packages
COPY requirements.lock /tmp/requirements.lock
RUN python -m venv /app/env \
    && /app/env/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-cache-dir \
        --require-hashes --no-deps --only-binary :all: -r /tmp/requirements.lock

FROM python:3.13.9-slim-trixie@sha256:326df678c20c78d465db501563f3492d17c42a4afe33a1f2bf5406a1d56b0e86
# ssh is how Ansible reaches other machines. PostgreSQL's programs for `chargehand backup` come with the wheels.
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --home-dir /var/lib/chargehand --create-home --shell /usr/sbin/nologin chargehand \
    && chmod 0700 /var/lib/chargehand
COPY --from=packages /app/env /app/env
COPY src /app/src
COPY --chmod=0755 deploy/container/chargehand /usr/local/bin/chargehand
RUN echo /app/src > "$(/app/env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/chargehand.pth" \
    && /app/env/bin/python -m compileall -q /app/src \
    && chargehand version
# A new volume mounted here gets this directory's owner and mode. Ansible is found in PATH.
ENV PATH=/app/env/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/var/lib/chargehand \
    CHARGEHAND_HOME=/var/lib/chargehand \
    PYTHONDONTWRITEBYTECODE=1
USER chargehand
WORKDIR /var/lib/chargehand
ENTRYPOINT ["/usr/local/bin/chargehand"]
CMD ["--help"]
