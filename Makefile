# For packagers: all, check, install. Everything else is `cargo xtask`.
# DESTDIR is put in front of every path; PREFIX is where programs and units go.

PREFIX ?= /usr
SYSCONFDIR ?= /etc
# dracut looks here whatever the prefix
DRACUTDIR ?= /usr/lib/dracut/modules.d
CARGO ?= cargo
CARGO_TARGET_DIR ?= target
# where `all` puts the programs; `cargo xtask dist` points these at static builds
BUILT ?= $(CARGO_TARGET_DIR)/release
BUILT_INITRD ?= $(CARGO_TARGET_DIR)/initrd

UNITDIR = $(DESTDIR)$(PREFIX)/lib/systemd/system
DOCDIR = $(DESTDIR)$(PREFIX)/share/doc/beeswarm
MODULE = $(DESTDIR)$(DRACUTDIR)/55beeswarm
TRIM = $(DESTDIR)$(DRACUTDIR)/99beeswarm-trim
HOOK = $(DESTDIR)$(PREFIX)/share/beeswarm/initramfs-tools

.PHONY: all check install

all:
	$(CARGO) build --locked --release --bin bee-packer --bin bee-tracker --bin bee-seeder
	$(CARGO) build --locked --profile initrd -p beeswarm-initrd-client

check:
	$(CARGO) xtask check

install:
	install -d $(DESTDIR)$(PREFIX)/bin $(UNITDIR) $(MODULE) $(TRIM) $(DOCDIR) \
	  $(HOOK)/hooks $(HOOK)/scripts/init-top \
	  $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d \
	  $(DESTDIR)$(SYSCONFDIR)/beeswarm
	install -m 755 $(BUILT)/bee-packer $(BUILT)/bee-tracker $(BUILT)/bee-seeder \
	  $(BUILT_INITRD)/bee-initrd-client $(DESTDIR)$(PREFIX)/bin
	ln -sf bee-seeder $(DESTDIR)$(PREFIX)/bin/bee-record-order
	install -m 644 systemd/*.service $(UNITDIR)
	sed -i 's|/usr/bin/bee-|$(PREFIX)/bin/bee-|' $(UNITDIR)/*.service
	install -m 644 systemd/sysusers.d/*.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d
	install -m 644 systemd/tmpfiles.d/*.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	for file in systemd/etc/beeswarm/*; do to=$(DESTDIR)$(SYSCONFDIR)/beeswarm/$${file##*/}; \
	  test -e $$to || install -m 644 $$file $$to; done
	install -m 644 dracut-module/55beeswarm/*.service dracut-module/55beeswarm/*.mount \
	  dracut-module/55beeswarm/*.list $(MODULE)
	install -m 755 dracut-module/55beeswarm/*.sh $(MODULE)
	install -m 755 dracut-module/99beeswarm-trim/*.sh $(TRIM)
	install -m 755 initramfs-tools/hooks/beeswarm $(HOOK)/hooks
	install -m 755 initramfs-tools/scripts/init-top/beeswarm $(HOOK)/scripts/init-top
	install -m 644 initramfs-tools/scripts/beeswarm $(HOOK)/scripts
	install -m 644 README.md ARCHITECTURE.md CHANGELOG.md LICENSE LICENSE-APACHE LICENSE-MIT \
	  docs/operations.md $(DOCDIR)
