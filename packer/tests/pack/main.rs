//! `bee-packer` as its users see it: run as a program, on real files. Needs root, the programs
//! that it runs (mksquashfs, dracut, tar), and attr, cpio, git, libcap2-bin, minisign,
//! openssh-client, openssl and util-linux for the tests.

#![cfg(test)]

mod bad_input;
mod changing;
mod contents;
mod initrd;
mod killed;
mod manage;
mod preserve;
mod reproducible;
mod secrets;
mod signed;
mod support;
