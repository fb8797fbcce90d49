# berth: make without a target lists what there is.

SHELL := /bin/bash
.DEFAULT_GOAL := help

DESTDIR ?=
PREFIX ?= /usr
OCF_ROOT ?= $(PREFIX)/lib/ocf
SBINDIR ?= $(PREFIX)/sbin
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
# Debian keeps the completions of packages apart from the shell's own; Fedora does not.
ZSHDIR ?= $(PREFIX)/share/zsh/$(if $(wildcard /etc/debian_version),vendor-completions,site-functions)
DOCDIR ?= $(PREFIX)/share/doc/berth
EXAMPLEDIR ?= $(DOCDIR)
# Debian's and Ubuntu's way to restart what runs an old program
NEEDRESTARTDIR ?= $(if $(wildcard /etc/debian_version),/etc/needrestart/conf.d)
LIBDIR ?= $(PREFIX)/lib/berth
UNITDIR ?= $(PREFIX)/lib/systemd/system
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
# Packages have places of their own for some of these.
DOCS ?= README.md CHANGELOG.md SECURITY.md LICENSE
EXAMPLES ?= $(wildcard examples/*)

AGENTS := fscheck vserver vip portwatch
CARGO ?= cargo
# Where the programs are that are installed.
BUILT ?= target/release
KEEP ?=
SUITE ?=
LAB := target/release/lab
IMAGE = target/lab-image/$(SUITE)
# A prerequisite of what runs on another system, where one is named.
ON_SUITE = $(if $(SUITE),lab-image)
ROOT = $(if $(SUITE),--root $(IMAGE))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what building, testing and the lab need (Debian, Ubuntu; root)
	@packaging/setup

.PHONY: build
build: ## build everything, optimised
	@packaging/setup build
	$(CARGO) build --release --locked --workspace

.PHONY: lab-image
lab-image: setup ## the root file system of another release, for --root (SUITE=trixie)
	@packaging/lab-image $(or $(SUITE),trixie) target/lab-image/$(or $(SUITE),trixie)

.PHONY: demo
demo: setup $(ON_SUITE) ## two file servers, three nodes, one power failure (KEEP=1 leaves the cluster up)
	@$(CARGO) build --release --locked --workspace --quiet
	@$(LAB) demo $(ROOT) $(if $(KEEP),--keep)

.PHONY: check
check: setup ## all tests: here, and on another system what depends on it (root; SUITE=trixie)
	@packaging/setup packages
	@CARGO="$(CARGO)" tests/check $(SUITE)

.PHONY: check-guests
check-guests: setup ## what needs a whole machine with systemd, in virtual ones, emulated if there is no KVM (root)
	@packaging/setup guest
	$(CARGO) build --locked --workspace --quiet
	@tests/vm/check

.PHONY: test
test: ## the tests that need neither root nor a cluster
	@packaging/setup build
	$(CARGO) test --locked --workspace

.PHONY: bench
bench: setup $(ON_SUITE) ## figures, side by side with the stock agents in the same run (root)
	@$(CARGO) build --release --locked --workspace --quiet
	@$(LAB) bench $(ROOT)

.PHONY: gen
gen: ## write meta-data, man pages and completions anew from their declarations
	@packaging/setup build
	BERTH_REGENERATE=1 $(CARGO) test --locked --test agents --test command --quiet generated::

.PHONY: packages
packages: ## packages for Debian, Fedora and RHEL, and their sources, in target/packages
	@packaging/setup packages
	@CARGO="$(CARGO)" packaging/packages

.PHONY: install
install: build ## install into DESTDIR, agents under OCF_ROOT
	@$(MAKE) --no-print-directory install-files

.PHONY: install-files
install-files: ## the same with what is built already, in BUILT
	install -d $(DESTDIR)$(OCF_ROOT)/resource.d/berth $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man{5,7,8} \
	    $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR) $(DESTDIR)$(LIBDIR) \
	    $(DESTDIR)$(UNITDIR)/pacemaker.service.d $(DESTDIR)$(TMPFILESDIR)
	@# Pacemaker may call an agent at any moment: there is one under its name, whole, all the time.
	set -e; for agent in $(AGENTS); do \
	    install -m 755 $(BUILT)/$$agent $(DESTDIR)$(OCF_ROOT)/resource.d/berth/.$$agent.new; \
	    mv -f $(DESTDIR)$(OCF_ROOT)/resource.d/berth/.$$agent.new $(DESTDIR)$(OCF_ROOT)/resource.d/berth/$$agent; \
	done
	install -m 755 $(BUILT)/berth $(DESTDIR)$(SBINDIR)/berth
	install -m 755 packaging/in-use packaging/package-step $(DESTDIR)$(LIBDIR)/
	install -m 644 packaging/pacemaker.conf $(DESTDIR)$(UNITDIR)/pacemaker.service.d/berth.conf
	install -m 644 packaging/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/berth.conf
	$(if $(NEEDRESTARTDIR),install -D -m 644 packaging/needrestart.conf $(DESTDIR)$(NEEDRESTARTDIR)/berth.conf)
	install -m 644 man/*.7 $(DESTDIR)$(MANDIR)/man7/
	install -m 644 man/*.8 $(DESTDIR)$(MANDIR)/man8/
	install -m 644 man/*.5 $(DESTDIR)$(MANDIR)/man5/
	install -m 644 completions/berth.bash $(DESTDIR)$(BASHDIR)/berth
	install -m 644 completions/_berth $(DESTDIR)$(ZSHDIR)/_berth
	install -m 644 completions/berth.fish $(DESTDIR)$(FISHDIR)/berth.fish
	$(if $(strip $(DOCS)),install -D -m 644 -t $(DESTDIR)$(DOCDIR) $(DOCS))
	$(if $(strip $(EXAMPLES)),install -D -m 644 -t $(DESTDIR)$(EXAMPLEDIR) $(EXAMPLES))
