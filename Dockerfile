# syntax=docker/dockerfile:1
# A static binary and nothing else: no shell, no libc, no package manager. It trusts
# the API server's CA from its service account, so it needs no CA certificates.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v1.2.3 .
#
# A tag can be moved, so a release pins what it is built with:
#   --build-arg GO_IMAGE=golang:1.26.8@sha256:…
# The final image is built on nothing. `make release` makes the same one without Docker.
ARG GO_IMAGE=golang:1.26.8
FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
ARG TARGETOS TARGETARCH VERSION=devel
ENV GOCACHE=/cache
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /mirrorgate ./cmd/mirrorgate

FROM scratch
COPY --from=build /mirrorgate /mirrorgate
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/mirrorgate"]
CMD ["serve"]
