//! What keeps an interface from being served.

use rustix::io::Errno;

/// Why AF_XDP cannot be had at an interface.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// There is no such interface here, or it is gone.
    #[error("no interface {interface}")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The kernel refused something.
    #[error("{interface}: {what}: {source}{}", hint(*source))]
    Refused {
        /// The interface's name.
        interface: String,
        /// What was asked of the kernel.
        what: &'static str,
        /// What it said.
        source: Errno,
    },
}

impl XdpError {
    /// Whether it may be otherwise in a moment without anybody's doing anything about it: the interface is not
    /// there, or is down, or another has it: the kernel keeps queues for a moment after their sockets are closed.
    pub fn passes(&self) -> bool {
        match self {
            XdpError::NoInterface { .. } => true,
            XdpError::Refused { source, .. } => {
                let (gone, taken) =
                    ([Errno::NODEV, Errno::NETDOWN, Errno::NXIO], [Errno::BUSY, Errno::EXIST]);
                gone.contains(source) || taken.contains(source)
            }
        }
    }
}

/// What people may do about it.
fn hint(error: Errno) -> &'static str {
    match error {
        Errno::PERM | Errno::ACCESS => {
            " (it takes the capabilities CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF, in the machine's first user \
             namespace)"
        }
        Errno::NOBUFS | Errno::NOMEM => {
            " (memory is to be locked: raise LimitMEMLOCK, or `ring` is too large)"
        }
        Errno::BUSY | Errno::EXIST => " (another XDP program or AF_XDP socket is there)",
        Errno::NOSYS | Errno::AFNOSUPPORT => " (this kernel has no BPF or no AF_XDP; Linux 5.9 is needed)",
        Errno::INVAL | Errno::OPNOTSUPP => {
            " (the driver cannot do it, or this kernel is older than Linux 5.9)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_interface_the_act_and_what_is_missing() {
        let error =
            XdpError::Refused { interface: "eth7".into(), what: "loading the program", source: Errno::PERM };
        let said = error.to_string();
        for part in ["eth7", "loading the program", "CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!error.passes());
        assert!(XdpError::NoInterface { interface: "eth7".into() }.passes());
        let busy = XdpError::Refused { interface: "eth7".into(), what: "binding", source: Errno::BUSY };
        assert!(busy.passes(), "who has it may go");
    }
}
