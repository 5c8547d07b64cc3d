//! Detects that this machine has run out of descriptors, ports or memory: a local and often temporary cause, not an
//! error of the other end of a connection.

use std::io;

use rustix::io::Errno;

/// What the machine has run out of; `None` if the error has another cause.
pub(crate) fn of(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::MFILE => {
            Some("this process has reached its limit of open files and connections (raise LimitNOFILE or ulimit -n)")
        }
        Errno::NFILE => Some("this machine has reached its limit of open files and connections (raise fs.file-max)"),
        Errno::ADDRNOTAVAIL => Some("this machine has no free local port for another connection"),
        Errno::NOBUFS | Errno::NOMEM => Some("this machine is out of memory"),
        _ => None,
    }
}
