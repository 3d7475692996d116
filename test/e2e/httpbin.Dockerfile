# The image that images_test.go makes without a container engine, for clusters that have one: the httpbin
# that the documents name, from Debian's packages, with curl and a log that shows the host.
FROM debian:12-slim
RUN apt-get update && apt-get install -qy --no-install-recommends python3-httpbin gunicorn curl coreutils && rm -rf /var/lib/apt/lists/*
ENV PYTHONDONTWRITEBYTECODE="1"
ENV GUNICORN_CMD_ARGS="--access-logformat '\"%(r)s\" %(s)s \"%(a)s\" \"%({host}i)s\"'"
