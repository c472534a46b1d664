//! `bee-packer` as its users see it: run as a program, on real files. Needs root, the programs
//! that it runs (mksquashfs, dracut, mmdebstrap, dnf, fusermount3, gzip, zstd, xz), and acl, attr, busybox-static, cpio,
//! createrepo-c, cryptsetup-bin, docker.io, git, gpg, libcap2-bin, minisign, openssh-client, openssl, podman, rpm, skopeo, strace, tar,
//! umoci and util-linux for the tests, one of which fetches packages from the host's Debian mirror.

#![cfg(test)]

mod bad_input;
mod bad_oci;
mod bad_tar;
mod changing;
mod contents;
mod diff;
mod dnf;
mod docker;
mod drivers;
mod facts;
mod full_disk;
mod hybrid;
mod initrd;
mod killed;
mod killed_steps;
mod layout;
mod live_build;
mod manage;
mod microcode;
mod nodes;
mod oci;
mod onepass;
mod order;
mod podman;
mod preserve;
mod progress;
mod recipe;
mod reproducible;
mod secrets;
mod signed;
mod squashfs;
mod support;
mod synced;
mod tarball;
mod trace;
mod verity;
