//! `bee-packer` as its users see it: run as a program, on real files. Needs root, the programs
//! that it runs (mksquashfs, dracut, tar), and attr, libcap2-bin and util-linux for the tests.

#![cfg(test)]

mod bad_input;
mod hybrid;
mod initrd;
mod killed;
mod manage;
mod preserve;
mod reproducible;
mod signed;
mod support;
