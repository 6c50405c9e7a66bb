# Everything a newcomer needs is here: make help.
SHELL := /bin/bash
GO    ?= go
BENCH ?= .
COUNT ?= 1
FUZZTIME ?= 20s
FUZZWIRE ?= $(FUZZTIME)
SOAK  ?= 30m
BINS  := vrouterd fastpathd vrouterctl

.PHONY: help build demo test bench lint generate fuzz race clean deps peers bench-peers soak

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13
	@echo
	@echo 'demo: KEEP=1 leaves the two sites up.   bench: BENCH=regex COUNT=n.   fuzz: FUZZTIME=20s for each target.   soak: SOAK=30m.'

build: ## the commands into bin/
	@mkdir -p bin
	$(GO) build -trimpath -o bin/ $(BINS:%=./cmd/%)

deps: ## install the Debian packages that the demo uses, where they are missing
	@.ci/deps

peers: ## the same for the tests: strongSwan, QEMU and a kernel to run in it (30 MB, not installed)
	@.ci/deps peers

demo: deps build ## two sites, an IPsec tunnel, real packets (needs root for network namespaces)
	@$(GO) run ./cmd/vrouter-demo -bin bin $(if $(KEEP),-keep)

test: peers build ## all tests; those that need root or a program say so when they are skipped
	$(GO) test $$($(GO) list ./... | grep -v /cmd/e2e)
	$(GO) test -timeout 20m ./cmd/e2e # alone: it counts every packet of a paced stream

soak: peers build ## the demo's network under traffic and commits for SOAK (30m); memory must be flat
	SOAK=$(SOAK) $(GO) test ./cmd/e2e -run '^TestSoak$$' -v -count 1 -timeout 24h

race: ## all tests but the end-to-end ones, under the race detector
	$(GO) test -race -short ./...

bench-peers: ## install what make bench sets beside ours: libipsec-mb and DPDK (36 MB to fetch; also reserves huge pages)
	@.ci/deps bench

bench: ## the fast path on one core, in Go's benchmark format, and the peers that are installed
	GOMAXPROCS=1 taskset -c $$(( $$(nproc) - 1 )) $(GO) test -run '^$$' -bench '$(BENCH)' -count $(COUNT) -timeout 60m ./fastpath/bench
# Engines' threads want other cores.
	$(if $(filter .,$(BENCH)),$(GO) test -run '^$$' -bench LookAside -count $(COUNT) -timeout 60m ./fastpath/bench)

lint: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not formatted:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

generate: ## write generated code anew: the typed view of YANG, the burst assembly
	$(GO) generate ./...

fuzz: ## every fuzz target for FUZZTIME, those of what comes from the wire for FUZZWIRE
	@.ci/fuzz $(FUZZTIME) $(FUZZWIRE)

clean: ## remove what was built
	rm -rf bin
