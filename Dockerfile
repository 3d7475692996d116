# A static binary and nothing else: no shell, no libc, no package manager. It trusts
# the API server's CA from its service account, so it needs no CA certificates.
#
#   docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=v1.2.3 .
#
# A tag can be moved, so the builder is pinned by digest, and this file needs no frontend image. To pin
# another version, `docker buildx imagetools inspect golang:1.2.3` prints the digest of all platforms.
# The final image is built on nothing. `make release` makes the same one without Docker.
ARG GO_IMAGE=golang:1.26.8@sha256:3c3e25a4da13fd0478eed2df1eb35a0e667094a7124d3993a6a1d30f71c17e79
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
