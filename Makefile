# Targets for people. Everything that they need is a Go module with a pinned version: go.mod for the
# product, build/tools/go.mod for tools, test/servers/go.mod for the servers that tests run against.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
TOOL    := $(GO) tool -modfile=build/tools/go.mod

# grpcnotrace and no cgo keep the VM's binary small and static.
GOFLAGS_RELEASE := -trimpath -tags grpcnotrace
LDFLAGS         := -s -w

.PHONY: build
build: bin/coredns bin/meshvm-syncer bin/meshvmctl ## Build the three binaries into bin/

.PHONY: bin/coredns bin/meshvm-syncer bin/meshvmctl
bin/coredns bin/meshvm-syncer bin/meshvmctl:
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_RELEASE) -ldflags "$(LDFLAGS) -X main.version=$(VERSION)" -o $@ ./build/$(@F)

.PHONY: packages
packages: ## Build the VM's deb and rpm, for amd64 and arm64, into bin/packages/
	GO="$(GO)" sh build/package/build.sh bin/packages "$(VERSION)"

.PHONY: image
image: ## Build images of syncer and CoreDNS, for amd64 and arm64, into bin/images/
	GO="$(GO)" sh build/image/build.sh bin/images "$(VERSION)"

.PHONY: man
man: bin/meshvmctl ## Write the manual pages of the VM's programs into bin/man/
	$(GO) run ./build/man -meshvmctl bin/meshvmctl -out bin/man

.PHONY: completions
completions: bin/meshvmctl ## Write what makes shells complete meshvmctl into bin/completions/
	mkdir -p bin/completions
	bin/meshvmctl completion bash >bin/completions/meshvmctl
	bin/meshvmctl completion zsh >bin/completions/_meshvmctl
	bin/meshvmctl completion fish >bin/completions/meshvmctl.fish

.PHONY: run
run: build ## Run syncer and CoreDNS on this machine, with example manifests, until Ctrl-C
	sh build/quickstart.sh

.PHONY: test
test: test-servers ## Run every test, with the race detector
	$(GO) test -race -timeout 30m ./...

.PHONY: test-machines
test-machines: bin/meshvm-syncer ## Test the packages on booted machines, as root, in about 15 minutes
	sh test/machines/install.sh
	sh test/machines/packages.sh
	$(GO) test -tags machines -count=1 -timeout 30m ./test/machines/...

.PHONY: test-servers
test-servers: ## Build the real kube-apiserver, etcd and parts of istiod for tests into bin/test/
	sh test/servers/build.sh bin/test
	sh test/servers/istio/build.sh bin/test

.PHONY: test-clients
test-clients: bin/test/helm bin/test/helm3 bin/test/kubectl ## Build Helm 4, Helm 3 and kubectl for tests into bin/test/

bin/test/kubectl: test/servers/go.mod test/servers/go.sum
	CGO_ENABLED=0 $(GO) -C test/servers build -trimpath -ldflags "$(LDFLAGS)" -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/kubectl

bin/test/helm bin/test/helm3: bin/test/%: build/tools/%/go.mod build/tools/%/go.sum
	CGO_ENABLED=0 $(GO) build -modfile=build/tools/$*/go.mod -trimpath -ldflags "$(LDFLAGS)" -o $@ $$(sed -n 's/^tool //p' build/tools/$*/go.mod)

.PHONY: test-chart
test-chart: test-servers test-clients image ## Install the chart on the real API server, run what it says, have a VM answer, as root
	sh test/install.sh prometheus openssl dnsmasq-base bind9-dnsutils
	$(GO) test -tags chart -count=1 -timeout 20m ./test/chart/...

.PHONY: test-browser
test-browser: test-servers ## Look at the status page with a real browser; needs root where Chromium is not installed
	sh test/install.sh chromium fonts-dejavu-core
	$(GO) test -tags browser -count=1 -timeout 5m ./test/page

# How long each fuzz target runs.
FUZZTIME ?= 10s

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (10s), and stop at the first finding
	GO="$(GO)" FUZZTIME="$(FUZZTIME)" sh build/fuzz.sh

.PHONY: lint
lint: ## Lint, and fail when generated code is stale or a license is not allowed
	$(TOOL) golangci-lint run
	sh build/stale.sh
	$(GO) run ./build/licenses

.PHONY: licenses
licenses: ## Write the licenses of all that the programs are linked with into bin/licenses/
	$(GO) run ./build/licenses -out bin/licenses

# Where known vulnerabilities come from. A copy of it does too: VULNDB=file:///srv/vulndb
VULNDB ?= https://vuln.go.dev

.PHONY: vulncheck
vulncheck: ## Fail when a program calls code with a known vulnerability; needs the network
	$(TOOL) govulncheck -db "$(VULNDB)" -tags grpcnotrace ./build/coredns ./build/meshvm-syncer ./build/meshvmctl

.PHONY: sbom
sbom: build ## Write what each program is made of beside it, as CycloneDX JSON
	$(GO) run ./build/sbom -version "$(VERSION)" bin/coredns bin/meshvm-syncer bin/meshvmctl

.PHONY: generate
generate: ## Generate Go from registry.proto
	$(GO) generate ./syncer/api/...

.PHONY: manifests
manifests: test-clients ## Render the chart into the plain manifests of deploy/kubernetes
	sh build/manifests.sh bin/test/helm deploy/kubernetes

.PHONY: chart-readme
chart-readme: ## Write the chart's table of values from values.yaml
	$(GO) run ./build/chart

.PHONY: bench
bench: ## Run the benchmarks: ns, bytes and allocations
	$(GO) test -run '^$$' -bench . -benchmem ./plugin/... ./syncer/...

.PHONY: bench-process
bench-process: ## Measure the whole process with dnsperf (Debian package dnsperf)
	$(GO) run ./test/bench/process

# Flags of the scale bench, such as: make bench-scale SCALE="-vms 5000 -scenario memory,resume"
SCALE ?=

.PHONY: bench-scale
bench-scale: ## Measure a syncer under many simulated VMs, in about four minutes
	$(GO) run ./test/bench/scale $(SCALE)

.PHONY: bench-strangers
bench-strangers: ## Measure 100 VMs while 1,000 strangers a second connect, in about 20 minutes
	$(GO) run ./test/bench/scale -vms 100 -scenario strangers $(SCALE)

.PHONY: bench-start
bench-start: ## Measure the start and the memory of a VM with 100,000 services
	$(GO) run ./test/bench/process -start 100000

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
