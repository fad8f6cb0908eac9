// SPDX-License-Identifier: GPL-2.0

//! What crosses a kexec.

use kpreserve::prelude::*;

/// How many devices the bus has; at most 64.
pub const NR_DEVICES: u32 = 16;

/// Registers of a device.
pub const NR_REGISTERS: usize = 64;

kpreserve::preservable! {
    /// A device. It has a name in the dictionary, `dev/NUMBER`: it is there, whoever has it open.
    pub struct DeviceSer {
        /// What the driver has told it.
        pub registers: [SharedU64; NR_REGISTERS],
    }
    compatible = "kpreserve-dev", version = 1

    /// An attachment: what stands behind an open file that LUO preserves.
    pub struct AttachmentSer {
        /// Number of the device.
        pub device: u64,
    }
    compatible = "kpreserve-dev-attachment", version = 1

    /// What the next kernel has to know before it touches a device, and before user space runs: an FLB,
    /// shared by all preserved attachments.
    pub struct AttachedSer {
        /// Bit n: device n goes on working, and must not be reset.
        pub devices: u64,
    }
    compatible = "kpreserve-dev-attached", version = 1
}
