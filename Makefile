# Builds DGFS and puts it where a machine expects it.
#   make                                  the binary
#   make install [PREFIX=/usr] [DESTDIR=] binary, mount helper, units, users, directories, completion, rules, dashboards, pages
#   make uninstall [PREFIX=] [DESTDIR=]   takes exactly that away again; configuration, keys and data stay
# A package sets DESTDIR. After an install on a running machine: `systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload`.

PREFIX ?= /usr
SYSCONFDIR ?= /etc
# Where mount(8) looks for helpers, and systemd for units: not below another PREFIX.
SBINDIR ?= /sbin
UNITDIR ?= /usr/lib/systemd/system
SYSUSERSDIR ?= /usr/lib/sysusers.d
TMPFILESDIR ?= /usr/lib/tmpfiles.d
CARGO ?= cargo
# A binary that is there already; otherwise Cargo builds one.
BINARY ?=
INSTALL ?= install

TARGET_DIR := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BUILT := $(if $(BINARY),$(BINARY),$(TARGET_DIR)/release/dgfs)

BINDIR = $(PREFIX)/bin
DOCDIR = $(PREFIX)/share/doc/dgfs
DATADIR = $(PREFIX)/share/dgfs
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d

UNITS = dgfs.target dgfs-storage.target dgfs-meta.service dgfs-stored@.service dgfs-index.service dgfs-mount@.service
EXAMPLES = meta.toml stored-a.toml index.toml client.toml
PAGES = $(wildcard docs/*.md)
MONITORING = $(shell find prometheus grafana -type f -not -name '*.pyc' 2>/dev/null)

.PHONY: all install uninstall

all:
ifeq ($(BINARY),)
	$(CARGO) build --release --locked --package dgfs-fuse --bin dgfs
endif

install: all
	$(INSTALL) -D -m 0755 $(BUILT) $(DESTDIR)$(BINDIR)/dgfs
	$(INSTALL) -d $(DESTDIR)$(SBINDIR)
	ln -sf $(BINDIR)/dgfs $(DESTDIR)$(SBINDIR)/mount.dgfs
	$(INSTALL) -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
	  sed 's|/usr/bin/dgfs|$(BINDIR)/dgfs|; s|/usr/share/doc/dgfs|$(DOCDIR)|' "systemd/$$unit" > "$(DESTDIR)$(UNITDIR)/$$unit" && \
	  chmod 0644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done
	$(INSTALL) -D -m 0644 systemd/dgfs.sysusers $(DESTDIR)$(SYSUSERSDIR)/dgfs.conf
	$(INSTALL) -D -m 0644 systemd/dgfs.tmpfiles $(DESTDIR)$(TMPFILESDIR)/dgfs.conf
	$(INSTALL) -d -m 0700 $(DESTDIR)$(SYSCONFDIR)/dgfs
	for example in $(EXAMPLES); do \
	  $(INSTALL) -m 0644 "systemd/examples/$$example" "$(DESTDIR)$(SYSCONFDIR)/dgfs/$$example.example" || exit 1; \
	done
	$(INSTALL) -D -m 0644 systemd/examples/mnt-graph.mount $(DESTDIR)$(DOCDIR)/examples/mnt-graph.mount
	$(INSTALL) -D -m 0644 systemd/examples/fstab $(DESTDIR)$(DOCDIR)/examples/fstab
	$(INSTALL) -d $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	$(BUILT) completion bash > $(DESTDIR)$(BASHDIR)/dgfs
	$(BUILT) completion zsh > $(DESTDIR)$(ZSHDIR)/_dgfs
	$(BUILT) completion fish > $(DESTDIR)$(FISHDIR)/dgfs.fish
	$(INSTALL) -m 0644 README.md $(PAGES) $(DESTDIR)$(DOCDIR)/
	for file in $(MONITORING); do $(INSTALL) -D -m 0644 "$$file" "$(DESTDIR)$(DATADIR)/$$file" || exit 1; done

uninstall:
	rm -f $(DESTDIR)$(SBINDIR)/mount.dgfs $(DESTDIR)$(BINDIR)/dgfs
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	rm -f $(DESTDIR)$(SYSUSERSDIR)/dgfs.conf $(DESTDIR)$(TMPFILESDIR)/dgfs.conf
	rm -f $(addsuffix .example,$(addprefix $(DESTDIR)$(SYSCONFDIR)/dgfs/,$(EXAMPLES)))
	rm -f $(DESTDIR)$(BASHDIR)/dgfs $(DESTDIR)$(ZSHDIR)/_dgfs $(DESTDIR)$(FISHDIR)/dgfs.fish
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(DATADIR)
