MAKEFLAGS += --warn-undefined-variables
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME ?= 20s

# The module that builds Istio's control plane: nine minutes and 3 GB where nothing is built yet. So `make vet` and
# `make lint` leave it out, and `make judges` vets and lints it.
JUDGES := ./test/judges
# Every other Go module of the repository with code, the root first.
MODULES := $(filter-out $(JUDGES),$(sort $(patsubst %/,%,$(dir $(shell find . -name go.mod -not -path './tools/*' -not -path '*/components/*' -not -path '*/testdata/*')))))
# go test with one line per package, the output of failed tests, and the durations of all tests for the summary.
# $(call gotest,FOLDER,NAME,ARGUMENTS). Each test bounds its own waits: the timeout of a package is only for one
# that hangs.
gotest = mkdir -p "$(CURDIR)/bin/results" && cd "$(1)" && "$(CURDIR)/bin/tools/gotestsum" --format pkgname-and-test-fails \
	--hide-summary skipped --jsonfile-timing-events "$(CURDIR)/bin/results/$(2).json" -- -timeout 80m $(3)

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

.PHONY: build
build: ## Build bin/mirrorgate
	go build -ldflags '-X main.version=$(VERSION)' -o bin/mirrorgate ./cmd/mirrorgate

# steps runs targets one after the other, even after a failure, and then prints the duration of each and the ten
# slowest tests.
define steps
@failed=0; summary=; rm -rf bin/results; \
for step in $(1); do \
	echo; echo "== $$step"; begin=$$SECONDS; result=pass; \
	$(MAKE) --no-print-directory $$step || { result=FAIL; failed=1; }; \
	summary+=$$(printf '\n  %-4s  %5ds  %s' $$result $$((SECONDS - begin)) $$step); \
done; \
printf '\n== the ten slowest tests\n'; cat bin/results/*.json | bin/tools/gotestsum tool slowest --threshold 1s --num 10; \
printf '\n== summary%s\n' "$$summary"; \
exit $$failed
endef

.PHONY: test
test: bin/tools/gotestsum ## The tests for every change: ten minutes on two cores, once the control plane is built
	$(call steps,unit test/proxy integration)

.PHONY: test-long
test-long: bin/tools/gotestsum ## The long tests: installation, rotation for minutes, soaks, the control plane's own
	$(call steps,integration-long test/cluster test-release intent install rotation soak silence)

.PHONY: vet
vet: ## go vet in every module
	@failed=0; \
	for module in $(MODULES); do echo "go vet $$module"; go -C $$module vet ./... || failed=1; done; \
	exit $$failed

.PHONY: unit
unit: bin/tools/gotestsum ## Unit tests with the race detector, and without it those that it would distort
	$(call gotest,.,unit,-race -p 2 ./...)
	$(call gotest,.,allocations,-count=1 -run 'TestAllocations|FuzzReview' ./internal/proxy ./webhook)

# Packages that leave a cluster as they found it share one cluster and run in it one after the other. Packages that
# stop parts of their cluster, or need a special one, have one each. Two clusters run at a time, since tests spend
# most of their time waiting.
SHARING := ./intercept ./iter8 ./verbs
ALONE   := ./crds ./dataplane ./gate ./schema
# LONG are the tests of these packages that take longest: outages that must end, processes that are killed and come back,
# a megabyte of route, a thousand writes, many authors and modes. `make test`, which one waits for, leaves them to `make test-long`.
LONG    := TestAURLThatIsNotReachedRefusesNoWrite \
	TestAuthorsAndModes \
	TestControllerWorksAloneWhileTheWebhookIsDown \
	TestUninstallAtAnyMoment \
	TestTwoReplicas \
	TestHostileDocuments \
	TestFlipsResumeAfter \
	TestFrozenProcess \
	TestLeaderThat \
	TestVirtualServiceOfAMegabyteIsAdmittedInTime \
	TestRoutesWrittenWhileTheWebhookWasDownAreRepaired \
	TestRoutesInNamespacesThatOptOutAreLeftAlone \
	TestWaysToTakeMirrorsOutWithTheWebhookDown

space   := $(subst ,, )
regexp   = ^($(subst $(space),|,$(strip $(1))))

.PHONY: integration integration-long sharing alone
integration: bin/tools/gotestsum cluster ## Tests against a real control plane
	@$(MAKE) --no-print-directory -j 2 sharing alone RESULTS=$@ ONLY='-skip "$(call regexp,$(LONG))"'
integration-long: bin/tools/gotestsum cluster ## Those of them that take longest
	@$(MAKE) --no-print-directory -j 2 sharing alone RESULTS=$@ ONLY='-run "$(call regexp,$(LONG))"' SHARING='./intercept ./iter8' ALONE=./gate
sharing alone: RESULTS ?= integration
sharing alone: ONLY ?=
sharing:
	go -C test/cluster run ./cmd/cluster up -- $(SHELL) -euo pipefail -c '$(call gotest,$(CURDIR)/test/integration,$(RESULTS)-$@,-count=1 -p 1 $(ONLY) $(SHARING))'
alone:
	$(call gotest,test/integration,$(RESULTS)-$@,-count=1 -p 1 $(ONLY) $(ALONE))

.PHONY: cluster
cluster: ## Build the control plane that tests run against, unless it exists
	@go -C test/cluster run ./cmd/cluster build

.PHONY: test-release
test-release: bin/tools/gotestsum ## make release makes the same bytes twice; compiles for three platforms
	$(call gotest,release,release,./...)

.PHONY: test/cluster test/proxy
test/cluster: bin/tools/gotestsum cluster
	$(call gotest,$@,cluster,-count=1 ./...)
test/proxy: bin/tools/gotestsum
	$(call gotest,$@,proxy,-count=1 ./...)

.PHONY: silence
silence: bin/tools/gotestsum ## A stream of gRPC on which nobody speaks for three minutes
	$(call gotest,test/proxy,$@,-count=1 -run TestGRPCSilentStream . -silence 190s)

.PHONY: intent
intent: bin/tools/gotestsum cluster ## Every client with every form of a route: no author loses a mirror, and nothing drifts
	$(call gotest,test/integration,intent,-count=1 ./intent)

.PHONY: install
install: bin/tools/gotestsum cluster ## The installation on a real control plane: manifests, chart, documents, certificates, upgrades
	$(call gotest,test/integration,install,-count=1 -skip TestRotationSurvives ./install)

# How many random clusters each of the judges' questions has.
CASES ?= 5000

.PHONY: judges judges-lint judges-gatewayapi judges-istio judges-mutations judges-mesh judges-mesh-core judges-mesh-control judges-engine judges-sample
judges: bin/tools/gotestsum ## Istio's control plane and the Gateway API's CRDs judge CASES (5000) random clusters
	$(call steps,judges-lint judges-gatewayapi judges-istio judges-mutations)
judges-lint: bin/tools/golangci-lint
	go -C $(JUDGES) vet ./...
	cd $(JUDGES) && $(CURDIR)/$< run ./...
judges-gatewayapi: bin/tools/gotestsum
	$(call gotest,$(JUDGES),$@,-count=1 ./gatewayapi -cases $(CASES))
judges-istio: bin/tools/gotestsum
	$(call gotest,$(JUDGES),$@,-count=1 -skip TestMutations ./istio -cases $(CASES))
judges-mutations: bin/tools/gotestsum
	$(call gotest,$(JUDGES),$@,-count=1 -run TestMutations ./istio -cases $$(( $(CASES) / 10 )))
judges-mesh: bin/tools/gotestsum cluster ## The Gateway API's conformance tests for meshes, on a real node: two minutes, once Istio's echo is built; needs root
	$(call gotest,$(JUDGES)/mesh,$@,-count=1 -run TestConformance . -version $(VERSION) -report-output $(CURDIR)/bin/results/mesh-conformance.yaml)
judges-mesh-core: bin/tools/gotestsum cluster ## Those of them that are core, which every mesh must pass
	$(call gotest,$(JUDGES)/mesh,$@,-count=1 -run TestConformance . -version $(VERSION) -core)
judges-mesh-control: bin/tools/gotestsum cluster ## The same without proxies: every test with a route must fail; eight minutes
	$(call gotest,$(JUDGES)/mesh,$@,-count=1 -run TestWithoutProxiesEveryRouteFails .)
judges-engine: bin/tools/gotestsum cluster ## The suite's tests of traffic through Gateways, against mirrorgate proxy: three minutes; needs root
	$(call gotest,$(JUDGES)/engine,$@,-count=1 .)
judges-sample: bin/tools/gotestsum ## The judges with 100 random clusters: a minute, once Istio is built
	$(call gotest,$(JUDGES),$@,-count=1 -skip TestMutations ./gatewayapi ./istio -cases 100)

.PHONY: e2e
e2e: ## The installation on a real node: pods, Services, traffic; needs root and Debian packages
	go -C test/e2e test -count=1 -timeout 40m -v

.PHONY: e2e-kind
e2e-kind: ## The same on a kind cluster, with Docker; no root
	test/e2e/kind.sh

# What controller-gen makes of api/v1alpha1: deep copies into the folder $(1), CustomResourceDefinitions into $(2).
controller-gen = bin/tools/controller-gen object paths=./api/... output:object:dir=$(1) \
	crd:allowDangerousTypes=true,maxDescLen=2000 output:crd:dir=$(2)
CRDS := manifests/components/policy

.PHONY: generate generated
generate: bin/tools/controller-gen ## Deep copies, CRDs and docs/reference/api.md from the types in api/
	$(call controller-gen,api/v1alpha1,$(CRDS))
	go test ./api/... -run TestReference -update
generated: bin/tools/controller-gen
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; $(call controller-gen,$$work,$$work); \
	for file in "$$work"/*; do \
		cmp -s api/v1alpha1/"$$(basename "$$file")" "$$file" || cmp -s $(CRDS)/"$$(basename "$$file")" "$$file" || \
		{ echo "$$(basename "$$file") is not what make generate makes of api/v1alpha1"; exit 1; }; \
	done

.PHONY: lint
lint: bin/tools/golangci-lint generated ## Linters and layer fences, in every module; files that are generated
	@failed=0; \
	for module in $(MODULES); do echo "golangci-lint $$module"; (cd $$module && $(CURDIR)/$< run ./...) || failed=1; done; \
	exit $$failed

# Modules share packages, so that a function may be reached from another module than its own: a workspace holds them all.
.PHONY: deadcode
deadcode: bin/tools/deadcode ## Functions that nothing reaches, in every module
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; export GOWORK="$$work/go.work"; \
	go -C "$$work" work init $(addprefix $(CURDIR)/,$(MODULES)); \
	found=$$(bin/tools/deadcode -test -filter '^github.com/mirrorgate/mirrorgate' $(addsuffix /...,$(MODULES))); \
	if [ -n "$$found" ]; then echo "$$found"; exit 1; fi

.PHONY: fmt
fmt: bin/tools/golangci-lint ## Format every module
	@for module in $(MODULES) $(JUDGES); do (cd $$module && $(CURDIR)/$< fmt ./...); done

.PHONY: bench
bench: bin/tools/benchstat ## Benchmarks, with benchstat on their PATH
	PATH='$(CURDIR)/bin/tools':$$PATH go -C test/bench run .

.PHONY: bench-proxy
bench-proxy: ## The proxy compared with nginx; installs Debian's nginx and wrk if they are missing
	go -C test/bench run . proxy

.PHONY: soak
soak: bin/tools/gotestsum ## 100,000 requests for every fault of a variant
	$(call gotest,.,soak,-count=1 -run TestIsolation ./internal/proxy -soak 100000 -v)

# How many runs each pair of the catalogue has.
SEEDS ?= 200

.PHONY: compare-truth
compare-truth: bin/tools/gotestsum ## SEEDS (200) runs of every pair of the catalogue of comparisons: half an hour on two cores
	$(call gotest,.,compare-truth,-count=1 -run TestTruth ./internal/compare -seeds $(SEEDS) -v)

.PHONY: rotation
rotation: bin/tools/gotestsum cluster ## Certificate rotation for two minutes under writes, in each mode; also with faults, which make install leaves out
	$(call gotest,test/integration,rotation,-count=1 -run TestRotation ./install -rotating 2m -released -v)

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME (20s)
	@grep -rHo --include='*_test.go' '^func Fuzz[[:alnum:]_]*' . | while IFS=: read -r file func; do \
		echo "== $$file $${func#func }"; \
		go -C "$$(dirname "$$file")" test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x -parallel 2 .; \
	done

.PHONY: demo
demo: build ## The demo, on a cluster of its own
	go -C test/cluster run ./cmd/cluster up -- $(CURDIR)/test/demo/run

.PHONY: site site-test
site: ## bin/site/html: the documents as a static site with search; installs Debian's mkdocs-material if it is missing
	@dpkg -s mkdocs-material >/dev/null 2>&1 || apt-get install -qy --no-install-recommends mkdocs-material
	rm -rf bin/site
	go run ./docs/site . bin/site
	cd bin/site && mkdocs build --quiet --strict
site-test: site ## The site in a browser, on a telephone and on a desk; installs Debian's chromium if it is missing
	@command -v chromium >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends chromium
	go -C test/site test -count=1 -timeout 40m .

.PHONY: picture
picture: build ## docs/demo.svg, the picture of the README, from a recording of the demo
	bin/mirrorgate demo > bin/demo.txt
	go run ./docs/picture < bin/demo.txt > docs/demo.svg

.PHONY: release
release: ## dist/: binaries, SBOMs, an OCI image, the Helm chart, the plugin of kubectl for krew, SHA256SUMS
	go -C release run . -version $(VERSION)

.PHONY: tidy
tidy: ## go mod tidy in every module
	@for module in $(MODULES) $(JUDGES) tools; do echo "go mod tidy $$module"; go -C $$module mod tidy; done

.PHONY: clean
clean: ## Remove everything that was built
	rm -rf bin dist

# Tools are built once, and again when tools/go.mod changes.
bin/tools/golangci-lint: TOOL := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
bin/tools/benchstat:     TOOL := golang.org/x/perf/cmd/benchstat
bin/tools/gotestsum:     TOOL := gotest.tools/gotestsum
bin/tools/deadcode:      TOOL := golang.org/x/tools/cmd/deadcode
bin/tools/controller-gen: TOOL := sigs.k8s.io/controller-tools/cmd/controller-gen
bin/tools/golangci-lint bin/tools/benchstat bin/tools/gotestsum bin/tools/deadcode bin/tools/controller-gen: tools/go.mod
	nice -n 10 go -C tools build -p 2 -o $(CURDIR)/$@ $(TOOL)
	@touch $@
