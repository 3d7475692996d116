MAKEFLAGS += --warn-undefined-variables
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME ?= 20s

# Every Go module here that holds code of ours, the root first.
MODULES      := $(sort $(patsubst %/,%,$(dir $(shell find . -name go.mod -not -path './tools/*' -not -path '*/components/*' -not -path '*/testdata/*'))))
# The modules whose tests start a real control plane, or run real clients against the proxy.
TEST_MODULES := $(patsubst %/go.mod,%,$(wildcard test/cluster/go.mod test/integration/go.mod test/proxy/go.mod))

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## Build bin/mirrorgate
	go build -ldflags '-X main.version=$(VERSION)' -o bin/mirrorgate ./cmd/mirrorgate

.PHONY: test
test: ## Vet, unit tests, then the tests against a real control plane; ends in a summary
	@failed=0; summary=; \
	for step in vet unit $(TEST_MODULES); do \
		echo; echo "== $$step"; begin=$$SECONDS; result=pass; \
		$(MAKE) --no-print-directory $$step || { result=FAIL; failed=1; }; \
		summary+=$$(printf '\n  %-4s  %5ds  %s' $$result $$((SECONDS - begin)) $$step); \
	done; \
	printf '\n== summary%s\n' "$$summary"; \
	exit $$failed

.PHONY: vet
vet: ## go vet in every module
	@failed=0; \
	for module in $(MODULES); do echo "go vet $$module"; go -C $$module vet ./... || failed=1; done; \
	exit $$failed

.PHONY: unit
unit: ## Unit tests with the race detector, and without it what that would distort
	go test -race -p 2 ./...
	go test -count=1 -run TestAllocations ./internal/proxy
	go -C release test ./...

.PHONY: integration $(TEST_MODULES)
integration: $(TEST_MODULES) ## Tests against a real control plane
$(TEST_MODULES): # two clusters at once: most of a test's time is spent waiting
	go -C $@ test -count=1 -p 2 -timeout 20m ./...

.PHONY: e2e
e2e: ## The installation on a real node: pods, Services, traffic; needs root and Debian's packages
	go -C test/e2e test -count=1 -timeout 40m -v

.PHONY: e2e-kind
e2e-kind: ## The same on a kind cluster, with Docker; no root
	test/e2e/kind.sh

.PHONY: lint
lint: bin/tools/golangci-lint ## Linters and layer fences, in every module
	@failed=0; \
	for module in $(MODULES); do echo "golangci-lint $$module"; (cd $$module && $(CURDIR)/$< run ./...) || failed=1; done; \
	exit $$failed

.PHONY: fmt
fmt: bin/tools/golangci-lint ## Format every module
	@for module in $(MODULES); do (cd $$module && $(CURDIR)/$< fmt ./...); done

.PHONY: bench
bench: bin/tools/benchstat ## Benchmarks; benchstat is on their PATH
	PATH='$(CURDIR)/bin/tools':$$PATH go -C test/bench run .

.PHONY: bench-proxy
bench-proxy: ## The proxy against nginx; installs Debian's nginx and wrk if they are missing
	go -C test/bench run . proxy

.PHONY: soak
soak: ## 100,000 requests for every fault that a variant can have
	go test -count=1 -timeout 60m -run 'TestIsolation' ./internal/proxy -soak 100000 -v

.PHONY: rotation
rotation: ## Certificates that rotate for two minutes under writes, in each mode, with faults and without
	go -C test/integration test -count=1 -timeout 45m -run 'TestRotation' ./install -rotating 2m -released -v

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (20s)
	@grep -rHo --include='*_test.go' '^func Fuzz[[:alnum:]_]*' . | while IFS=: read -r file func; do \
		echo "== $$file $${func#func }"; \
		go -C "$$(dirname "$$file")" test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x -parallel 2 .; \
	done

.PHONY: demo
demo: build ## The demo, on a cluster of its own
	go -C test/cluster run ./cmd/cluster up -- $(CURDIR)/test/demo/run

.PHONY: release
release: ## dist/: binaries, SBOMs, an OCI image, the Helm chart, SHA256SUMS
	go -C release run . -version $(VERSION)

.PHONY: tidy
tidy: ## go mod tidy in every module
	@for module in $(MODULES) tools; do echo "go mod tidy $$module"; go -C $$module mod tidy; done

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

# Tools are built once, and again when tools/go.mod changes.
bin/tools/golangci-lint: TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
bin/tools/benchstat:     TOOL := golang.org/x/perf/cmd/benchstat
bin/tools/golangci-lint bin/tools/benchstat: tools/go.mod
	nice -n 10 go -C tools build -p 2 -o $(CURDIR)/$@ $(TOOL)
	@touch $@
