# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# What the targets take from the command line: make fuzz PKG=./packet FUZZ=FuzzDecode TIME=5m
LAB ?= supervisor
PKG ?=
FUZZ ?= Fuzz
TIME ?= 1m
PACKETS ?= 1000000
SEED ?= $(shell date +%s)
V ?=

# The compiler that the committed BPF objects are built with; bpf2go reads both.
export BPF2GO_CC := clang-19
export BPF2GO_STRIP := llvm-strip-19

# The race detector needs cgo, which needs a C compiler.
RACE = $(shell [ "$$(go env CGO_ENABLED)" = 1 ] && command -v "$$(go env CC)" >/dev/null && echo -race)
# The kernel's state is not part of the test cache's key: what runs as root runs anew.
ANEW = $(shell [ "$$(id -u)" = 0 ] && echo -count=1)
# Git refuses a clone that belongs to someone else; then the binary carries no commit.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)
GOTEST = go test -v -timeout 15m $(RACE) $(ANEW)
STATICCHECK := go tool -modfile=tools/go.mod staticcheck

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: lab
lab: ## a Kubernetes whose namespaces are tenants, on this machine, with a web shop that a rule isolates; LAB=seeds: without Kubernetes (root)
	@[ "$$(id -u)" = 0 ] || { echo "make lab: needs root, for network namespaces and eBPF (run: sudo env PATH=\"\$$PATH\" make lab)" >&2; exit 1; }
	@scripts/setup.sh
	@$(MAKE) --no-print-directory build
	@scripts/demo-$(LAB).sh

.PHONY: kube
kube: ## build the Kubernetes that labs and tests run, once, into a cache
	@scripts/kube.sh

.PHONY: lab-down
lab-down: build ## take the lab down again (root)
	@bin/weft lab down

.PHONY: test
test: ## run every test; without root some are skipped, with the reason (V=1: everything go test says)
	@$(GOTEST) ./... $(if $(V),,| awk -f scripts/summary.awk)

.PHONY: test-root
test-root: ## run every test as root; what would be skipped fails
	@[ "$$(id -u)" = 0 ] || { echo "make test-root: needs root" >&2; exit 1; }
	@REQUIRE=root,bpf,tools,kube $(MAKE) --no-print-directory test

.PHONY: bench
bench: ## measure the data plane beside the kernel's own ways, into bench.json (root)
	go run ./cmd/weft-bench -o bench.json

.PHONY: fuzz
fuzz: ## random packets through kernel, pipeline and oracle: PACKETS=1000000 SEED=7; or one decoder: PKG=./packet FUZZ=FuzzDecode TIME=5m
ifeq ($(PKG),)
	TEST_SEED=$(SEED) WEFT_PACKETS=$(PACKETS) WEFT_TREES=100 go test -count=1 -timeout 3h -v -run 'TestKernelIsPipeline|TestJudge' ./internal/bpftest ./internal/oracle
else
	go test -run '^$$' -fuzz '^$(FUZZ)$$' -fuzztime $(TIME) $(PKG)
endif

.PHONY: gen
gen: ## write again what is generated: lists in docs and C, BPF objects and their loader
	@$(BPF2GO_CC) --version | head -n 1
	go generate ./...

.PHONY: gen-check
gen-check: ## fail if `make gen` changes anything
	@scripts/gen-check.sh

.PHONY: update
update: ## rewrite the golden files; read the difference before you commit it
	go test -count=1 $$(grep -rl --include='*_test.go' 'flag.Bool("update"' . | xargs -n 1 dirname | sort -u) -update

.PHONY: lint
lint: ## gofmt, go vet, go mod tidy, staticcheck, shellcheck
	@bad=$$(gofmt -l .); [ -z "$$bad" ] || { echo "not gofmt'ed:" $$bad >&2; exit 1; }
	go vet ./...
	go mod tidy -diff
	$(STATICCHECK) ./...
	shellcheck .ci/run scripts/*.sh

.PHONY: build
build: ## build all commands into bin/
	@mkdir -p bin
	@CGO_ENABLED=0 go build -trimpath -buildvcs=$(VCS) -o bin/ ./cmd/...
	@bin/kubectl-weft completion >bin/kubectl_complete-weft && chmod +x bin/kubectl_complete-weft

.PHONY: clean
clean: ## remove what was built
	rm -rf bin bench.json
