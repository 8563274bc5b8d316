# Every daily task is a target; `make help` lists them. Tools are built once into .tools.
STACK ?= development

export PATH := $(CURDIR)/.tools/bin:$(PATH)
# By this name, Apple's make has a shell run each line: by itself it would look for programs on the PATH that it was
# started with.
SHELL := sh
# Modules come from go.sum's hashes and local tools from tools/*/go.sum: nothing to look up.
export GOTOOLCHAIN := local

REHEARSAL_TOOLS := kwok etcd kubernetes pulumi pulumi-language-go pulumi-kubernetes flux sealed-secrets
TEST_TOOLS := gotestsum kustomize kubeconform k3d govulncheck
LINT_TOOLS := gofumpt golangci-lint govulncheck actionlint

GOTEST := gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg --

GO_FILES = $(shell git ls-files -co --exclude-standard '*.go')

.DEFAULT_GOAL := help
.PHONY: test-packages help up render switch status down preview suspend resume reconcile clear-finalizers keys rotate-sealing-key rotate-deploy-key restore-state seal seal-check trust check-hosts test test-unit lint vuln fmt tidy generate golden tools mcs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: tools-rehearsal mcs ## rehearse a stack: a control plane, then the real pulumi up (STACK=development)
	@.tools/bin/mcs rehearse up --stack $(STACK)

preview: tools-rehearsal mcs ## show what up would change, field by field (STACK=development)
	@.tools/bin/mcs rehearse preview --stack $(STACK)

status: mcs ## show each workload of the rehearsal, and why one is not ready (STACK=development; REAL=1: Flux's view of the real cluster)
	@.tools/bin/mcs $(if $(REAL),,rehearse )status --stack $(STACK)

# Day two acts on the rehearsal, unless REAL=1 says that the real cluster is meant.
ON = $(if $(REAL),,--rehearsal)

suspend: mcs ## have Flux leave a workload alone, as it is (WORKLOAD=chat-hvac STACK=development REAL=1)
	@.tools/bin/mcs suspend '$(WORKLOAD)' --stack $(STACK) $(ON)

resume: mcs ## have Flux deliver it again, and wait (WORKLOAD=chat-hvac STACK=development REAL=1)
	@.tools/bin/mcs resume '$(WORKLOAD)' --stack $(STACK) $(ON)

reconcile: mcs ## have Flux pull and apply now, one workload or all, and wait (WORKLOAD= STACK=development REAL=1; RESET=1 for a release that gave up)
	@.tools/bin/mcs reconcile $(WORKLOAD) --stack $(STACK) $(ON) $(if $(RESET),--reset)

clear-finalizers: mcs ## teardown without Flux's controllers: let go of Flux's own objects (asks first; STACK=development REAL=1)
	@.tools/bin/mcs clear-finalizers --stack $(STACK) $(ON)

render: mcs ## write the manifests that Flux pulls, of every stack or of one (STACK=)
	@.tools/bin/mcs render $(if $(filter command line,$(origin STACK)),--stack $(STACK))

switch: mcs ## hand a running stack over to another delivery, without touching a pod (DELIVERY=flux STACK=development REAL=1)
	@.tools/bin/mcs switch '$(DELIVERY)' --stack $(STACK) $(ON)

down: mcs ## stop the rehearsal and remove what it left (STACK=development)
	@.tools/bin/mcs rehearse down --stack $(STACK)

keys: tools-pulumi mcs ## make the sealing key and the deploy key that a stack lacks (STACK=development)
	@.tools/bin/mcs keys --stack $(STACK)

rotate-sealing-key: tools-pulumi mcs ## add a sealing key, which seals from then on (asks first; STACK=development)
	@.tools/bin/mcs keys rotate sealing --stack $(STACK)

rotate-deploy-key: tools-pulumi mcs ## replace the deploy key (asks first; STACK=development)
	@.tools/bin/mcs keys rotate deploy --stack $(STACK)

restore-state: tools-pulumi mcs ## put back the newest whole copy of a state that a full disk has cut off (asks first; STACK=development)
	@.tools/bin/mcs restore-state --stack $(STACK)

seal: tools-pulumi mcs ## seal a stack's secrets into files for Git, those that changed (STACK=development)
	@.tools/bin/mcs seal --stack $(STACK)

seal-check: tools-pulumi mcs ## fail when a sealed file is missing or not what the stack's config says (STACK=development)
	@.tools/bin/mcs seal --stack $(STACK) --check

trust: tools-pulumi mcs ## read the machines' SSH host keys, and keep them in the stack file (asks first; STACK=development REPLACE=host whose key has changed)
	@.tools/bin/mcs hosts trust --stack $(STACK) $(if $(REPLACE),--replace '$(REPLACE)')

check-hosts: tools-pulumi mcs ## ask every machine whether it is ready for k3s, and change nothing (STACK=development)
	@.tools/bin/mcs hosts check --stack $(STACK)

.PHONY: bootstrap pin tools-bootstrap
tools-bootstrap:
	@go run ./tools/build pulumi pulumi-language-go

bootstrap: tools-bootstrap mcs ## bring a stack up from nothing, or go on with it, step by step (asks; STACK=development DRY_RUN=1: say what it would do)
	@.tools/bin/mcs bootstrap --stack $(STACK) $(if $(DRY_RUN),--dry-run)

pin: tools-pulumi mcs ## write what k3s's files must be into the stack file (STACK=development K3S=v1.35.1+k3s1: of that release; DOWNLOAD=downloads/k3s: fetch them too)
	@.tools/bin/mcs pin --stack $(STACK) $(if $(K3S),--k3s '$(K3S)') $(if $(DOWNLOAD),--download '$(DOWNLOAD)') $(if $(FROM),--from '$(FROM)')

test: tools-rehearsal tools-test ## run every test: units, golden files, both programs, the end-to-end rehearsal
	@$(GOTEST) -count=1 -timeout 80m ./...
	@cd checks && $(GOTEST) ./...

# Debian's own: a Docker engine where there is none, an SSH server and what a stand-in of a Pi is made of.
TEST_PACKAGES = curl $(if $(shell command -v dockerd),,docker.io) iptables openssh-server openssh-sftp-server sudo iproute2 busybox-static shellcheck

test-packages: ## install the Debian packages without which the tests of Docker and SSH skip (root; Debian and Ubuntu)
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TEST_PACKAGES) >/dev/null

test-unit: tools-test ## run the tests that need no cluster
	@$(GOTEST) -short ./...
	@cd checks && $(GOTEST) ./...

lint: tools-lint ## check formatting, lint, known vulnerabilities
	@out=$$(gofumpt -l $(GO_FILES)); test -z "$$out" || { echo "not gofumpt'ed; run make fmt:"; echo "$$out"; exit 1; }
	@out=$$(GOSUMDB=off go mod tidy -diff) || test -n "$$out" || { echo "whether go.mod is tidy can't be told"; exit 1; }; \
	! echo "$$out" | grep -q '^diff current/go.mod' || { echo "go.mod is not tidy; run make tidy"; exit 1; }
	@GOSUMDB=off go list -m -mod=mod all >/dev/null && git diff --quiet go.sum || { echo "go.sum lacks what Pulumi's Go host lists, and has it now; commit it"; exit 1; }
	@GOSUMDB=off go -C checks mod tidy -diff >/dev/null || { echo "checks/go.mod is not tidy; run make tidy"; exit 1; }
	@go vet ./... && go -C checks vet ./...
	@golangci-lint run ./...
	@cd checks && golangci-lint run ./...
	@$(MAKE) --no-print-directory workflows vuln

vuln: ## look for known vulnerabilities in what this code calls, but for those that tools/vuln/excused.yaml excuses by name
	@go run ./tools/build govulncheck
	@go run ./tools/vuln

fmt: tools-lint ## format the code
	@gofumpt -l -w $(GO_FILES)

tidy: ## tidy go.mod; go.sum keeps the whole module graph, which Pulumi's Go host lists at each run
	@go mod tidy && go list -m -mod=mod all >/dev/null
	@go -C checks mod tidy

generate: ## regenerate manifests/flux-system from the pinned Flux modules, Pulumi.yaml, the README's picture and the documents' tables
	@go run ./manifests/generate
	@go test ./config . -update -run 'TestProjectFile|TestREADME|TestDocs'
	@go test ./workloads -update -run TestRBAC

golden: ## rewrite the golden files, for review with git diff
	@go test ./workloads -update -run GoldenFiles

.PHONY: graph readme
graph: mcs ## draw the graph of workloads, as Mermaid (STACK=: of one stack)
	@.tools/bin/mcs graph $(if $(filter command line,$(origin STACK)),--stack $(STACK))

readme: tools-rehearsal tools-test ## do what README and docs say, in a fresh clone of the last commit, and say how each command went
	@go run ./docs/try

.PHONY: fuzz
FUZZTIME ?= 60s
FUZZ := FuzzLoad FuzzReadStackFile

# Without a bound, most of the time goes into making what was found shorter.
fuzz: ## throw bad input at the config loader, each of its fuzz targets for a while (FUZZTIME=60s)
	@for target in $(FUZZ); do go test ./config -run '^$$' -fuzz "^$$target$$" -parallel 2 -fuzztime $(FUZZTIME) -fuzzminimizetime 20x || exit 1; done

tools: ## build every pinned tool that is missing or stale
	@go run ./tools/build

# What the workflows in .github run, for a laptop too.
.PHONY: workflows test-root rehearsal manifests-diff path deploy regenerate
workflows: ## lint .github/workflows (with shellcheck and zizmor where they are installed)
	@go run ./tools/build actionlint
	@actionlint
	@if command -v zizmor >/dev/null; then zizmor --offline --quiet .github; \
	else echo "zizmor skipped: it is not installed, and is no Go program that tools/ could build; internal/upkeep holds the workflows to rules of its own"; fi

test-root: ## run every test as root, as those of the Pis need, with the packages that they need (sudo; Debian and Ubuntu)
	@sudo env "PATH=$$PATH" $(MAKE) --no-print-directory test-packages test

rehearsal: tools-rehearsal mcs ## rehearse a stack's life: up, up again with nothing to change, down (STACK=development)
	@.tools/bin/mcs rehearse up --stack $(STACK)
	@.tools/bin/mcs rehearse up --stack $(STACK) --expect-no-changes
	@.tools/bin/mcs rehearse down --stack $(STACK)

manifests-diff: mcs ## show what a branch changes in what Flux delivers, as Markdown (BASE=origin/main MAX=60000: bytes to cut it to)
	@.tools/bin/mcs manifests-diff --base '$(or $(BASE),origin/main)' $(if $(MAX),--max '$(MAX)')

path: ## print the folder of the built tools, for the PATH
	@echo '$(CURDIR)/.tools/bin'

deploy: tools-bootstrap ## the real pulumi up of a stack, which asks first (STACK=development YES=1: doesn't ask)
	@pulumi up --stack $(STACK) $(if $(YES),--yes --non-interactive)

# A tool's module is completed and not tidied: what is not built from is nobody's, and would make it stale.
regenerate: ## after an update: complete every module, and write anew all that depends on them, for review with git diff
	@$(MAKE) --no-print-directory tidy
	@for pins in tools/*/go.mod; do dir=$${pins%/go.mod}; test -e "$$dir/main.go" && built=. || built=tool; \
	GOFLAGS=-mod=mod go -C "$$dir" list -deps "$$built" >/dev/null || exit 1; done
	@$(MAKE) --no-print-directory generate golden
	@$(MAKE) --no-print-directory render

.PHONY: tools-rehearsal tools-pulumi tools-test tools-lint
tools-rehearsal:
	@go run ./tools/build $(REHEARSAL_TOOLS)
tools-pulumi:
	@go run ./tools/build pulumi
tools-test:
	@go run ./tools/build $(TEST_TOOLS)
tools-lint:
	@go run ./tools/build $(LINT_TOOLS)

.PHONY: bench tools-bench
tools-bench: tools-rehearsal
	@go run ./tools/build flux-cli

bench: tools-bench ## measure bring-up, no-op, preview, push and growth, and write docs/benchmarks.md (ONLY=preview: that part, printed; WRITE=1: and written; RUNS=5)
	@mkdir -p .tools/bin && go build -trimpath -o .tools/bin/bench ./cmd/bench
	@.tools/bin/bench $(if $(ONLY),--only '$(ONLY)') $(if $(RUNS),--runs '$(RUNS)') $(if $(WRITE),--write)

mcs:
	@mkdir -p .tools/bin && go build -trimpath -o .tools/bin/mcs ./cmd/mcs

.PHONY: chaos
chaos: tools-rehearsal ## break what a bring-up stands on, 50 times and more, and write docs/chaos.md (hours; CHAOS='--faults kill --points 4': some of it, to look at)
	@go build -trimpath -o .tools/bin/chaos ./cmd/chaos
	@.tools/bin/chaos $(if $(CHAOS),$(CHAOS),--write)

clean: ## remove the built tools (asks first)
	@printf 'Remove .tools? Building them again takes most of an hour. [y/N] ' && read answer && [ "$$answer" = y ] && rm -rf .tools
