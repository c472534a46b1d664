//! The engine over real TCP on the loopback interface.

mod basic;
mod support;
