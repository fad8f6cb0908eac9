// SPDX-License-Identifier: GPL-2.0

//! The bus: which devices there are, and who has them.

use kernel::str::CString;
use kpreserve::prelude::*;

use crate::abi::{
    DeviceSer,
    NR_DEVICES,
    NR_REGISTERS, //
};

/// The devices.
pub struct Bus {
    devices: KVec<Named<DeviceSer>>,
    /// Bit n: somebody has device n.
    attached: u64,
    /// Bit n: device n is the previous kernel's, until LUO hands it to somebody.
    waiting: u64,
}

kernel::sync::global_lock! {
    // SAFETY: the module initializes it before anything else.
    /// The one there is.
    pub unsafe(uninit) static BUS: Mutex<Bus> = Bus {
        devices: KVec::new(),
        attached: 0,
        waiting: 0,
    };
}

/// Returns the bit of a device.
///
/// # Errors
///
/// ENODEV if there is none of that number.
pub fn bit(device: u64) -> Result<u64> {
    if device < u64::from(NR_DEVICES) {
        Ok(1 << device)
    } else {
        Err(ENODEV)
    }
}

/// The devices that were found, until this is dropped: the module goes, so nobody has one.
pub struct Probed(());

/// Finds the devices; resets all but those in `kept`, which wait for LUO.
///
/// # Errors
///
/// Those of [`Named::open`].
pub fn probe(kept: u64) -> Result<Probed> {
    // Drops what was found if something fails; takes the lock then.
    let probed = Probed(());
    let mut bus = BUS.lock();
    for device in 0..NR_DEVICES {
        let name = CString::try_from_fmt(fmt!("dev/{device:02}"))?;
        let new = DeviceSer {
            registers: [const { SharedU64::new(0) }; NR_REGISTERS],
        };
        let found = Named::<DeviceSer>::open(&name, new, GFP_KERNEL)?;
        if kept & bit(device.into())? != 0 {
            pr_info!("device {}: goes on\n", device);
        } else {
            reset(&found);
        }
        bus.devices.push(found, GFP_KERNEL)?;
    }
    bus.waiting = kept;
    drop(bus);
    Ok(probed)
}

impl Drop for Probed {
    fn drop(&mut self) {
        let mut bus = BUS.lock();
        bus.devices = KVec::new();
        bus.waiting = 0;
    }
}

/// Resets those that still wait for LUO: it has no more.
pub fn stop_waiting() {
    let mut bus = BUS.lock();
    for (number, device) in bus.devices.iter().enumerate() {
        if bus.waiting >> number & 1 != 0 {
            reset(device);
        }
    }
    bus.waiting = 0;
}

fn reset(device: &DeviceSer) {
    for register in &device.registers {
        register.store(0);
    }
}

/// A device that somebody has, alone.
pub struct Attached {
    number: u64,
}

impl Attached {
    /// Attaches a device that was reset.
    ///
    /// # Errors
    ///
    /// ENODEV if there is none of that number; EBUSY if somebody has it, or LUO is going to hand it to
    /// somebody.
    pub fn new(number: u64) -> Result<Self> {
        let bit = bit(number)?;
        let mut bus = BUS.lock();
        if (bus.attached | bus.waiting) & bit != 0 {
            return Err(EBUSY);
        }
        bus.attached |= bit;
        Ok(Self { number })
    }

    /// Attaches one that was the previous kernel's, as it is.
    ///
    /// # Errors
    ///
    /// ENODEV if there is none of that number, EINVAL if it does not wait.
    pub fn take_over(number: u64) -> Result<Self> {
        let bit = bit(number)?;
        let mut bus = BUS.lock();
        if bus.waiting & bit == 0 {
            return Err(EINVAL);
        }
        bus.waiting &= !bit;
        bus.attached |= bit;
        Ok(Self { number })
    }

    /// Returns its number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads or writes a register.
    ///
    /// # Errors
    ///
    /// EINVAL if there is none of that number.
    pub fn register<R>(&self, register: u64, work: impl FnOnce(&SharedU64) -> R) -> Result<R> {
        let bus = BUS.lock();
        let device = bus.devices.get(self.number as usize).ok_or(ENODEV)?;
        let register = device.registers.get(register as usize).ok_or(EINVAL)?;
        Ok(work(register))
    }
}

/// Whoever gets it next gets it as new.
impl Drop for Attached {
    fn drop(&mut self) {
        let mut bus = BUS.lock();
        if let Some(device) = bus.devices.get(self.number as usize) {
            reset(device);
        }
        if let Ok(bit) = bit(self.number) {
            bus.attached &= !bit;
        }
        pr_info!("device {}: reset\n", self.number);
    }
}
