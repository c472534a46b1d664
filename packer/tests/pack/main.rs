//! `bee-packer` as its users see it: run as a program, on real files. Needs root, the programs
//! that it runs (mksquashfs, dracut, mmdebstrap, gzip, zstd, xz), and attr, cpio, cryptsetup-bin, git, libcap2-bin, minisign,
//! openssh-client, openssl, skopeo, tar, umoci and util-linux for the tests, one of which fetches packages from
//! the host's Debian mirror.

#![cfg(test)]

mod bad_input;
mod bad_oci;
mod bad_tar;
mod changing;
mod contents;
mod drivers;
mod hybrid;
mod initrd;
mod killed;
mod layout;
mod manage;
mod nodes;
mod oci;
mod order;
mod preserve;
mod recipe;
mod reproducible;
mod secrets;
mod signed;
mod support;
mod tarball;
mod verity;
