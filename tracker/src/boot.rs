//! Network boot: what iPXE is told.
//!
//! `boot.ipxe` is the same for every node: it asks again under the MAC address of the interface it came
//! from. The script behind that address names kernel, initrd and arguments of the revision that is
//! current in the channel. Both end in a loop with the reason on the screen: a node that waits is
//! repaired from the admin host, one that fell into a shell or to the next boot device is walked to.

pub mod script;
pub mod values;

/// TCP port where the seeder serves the store unless told otherwise.
pub const IMAGE_PORT: u16 = 8080;
