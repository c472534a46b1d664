//! `bee-packer` as its users see it: run as a program, on real files. Needs root, the programs
//! that it runs (mksquashfs, dracut, mmdebstrap, gzip, zstd, xz), and attr, libcap2-bin, skopeo, tar, umoci and
//! util-linux for the tests, one of which fetches packages from the host's Debian mirror.

#![cfg(test)]

mod bad_input;
mod bad_oci;
mod bad_tar;
mod initrd;
mod killed;
mod layout;
mod manage;
mod oci;
mod preserve;
mod recipe;
mod reproducible;
mod signed;
mod support;
mod tarball;
