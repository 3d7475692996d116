#!/bin/bash
# Runs the suite on a kind cluster of its own, on machines with Docker, kind, kubectl and Go; it needs no root. The
# images are built from their Dockerfiles. Arguments are passed to go test: test/e2e/kind.sh -run TestMirrorFollowsItsVariant
#
# KIND_IMAGE names a node image other than kind's own, of Kubernetes 1.34 or later.
set -euo pipefail
cd "$(dirname "$0")/../.."

name=mirrorgate-e2e
for program in docker kind kubectl go; do
	command -v "$program" >/dev/null || { echo "kind.sh: no $program here" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

docker build --build-arg VERSION=e2e --tag mirrorgate/mirrorgate:e2e .
CGO_ENABLED=0 go -C test/e2e build -o "$work/calls" ./calls
docker build --tag mirrorgate/calls:e2e -f - "$work" <<<$'FROM scratch\nCOPY calls /calls\nENTRYPOINT ["/calls"]'
docker build --tag kennethreitz/httpbin:latest --tag curlimages/curl:latest - <test/e2e/httpbin.Dockerfile
kind create cluster --name "$name" --kubeconfig "$work/kubeconfig" --wait 3m ${KIND_IMAGE:+--image "$KIND_IMAGE"}
trap 'kind delete cluster --name "$name" --kubeconfig "$work/kubeconfig"; rm -rf "$work"' EXIT
kind load docker-image --name "$name" mirrorgate/mirrorgate:e2e mirrorgate/calls:e2e kennethreitz/httpbin:latest curlimages/curl:latest

go -C test/e2e test -count=1 -timeout 40m -v "$@" . \
	-kubeconfig "$work/kubeconfig" -on-node "docker exec $name-control-plane"
