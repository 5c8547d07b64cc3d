//! What this machine has run out of: descriptors, ports, memory. Nobody at the other end of a connection is to blame
//! for that, and it may pass.

use std::io;

use rustix::io::Errno;

/// What the machine lacked when this error came about; nothing where it came about otherwise.
pub(crate) fn of(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => Some("this process has as many files and connections open as it may (ulimit -n, LimitNOFILE)"),
        Errno::NFILE => Some("this machine has as many files and connections open as it can (fs.file-max)"),
        Errno::ADDRNOTAVAIL => Some("this machine has no local address and port left for another connection"),
        Errno::NOBUFS | Errno::NOMEM => Some("this machine is out of memory"),
        _ => None,
    }
}
