//! The usual `process_*` metrics, read from `/proc/self` at each scrape.
//!
//! Without `/proc`, or if a file in it cannot be read, the metrics are absent. By hand, since the collector of the
//! `prometheus` crate depends on an old procfs and a second rustix.

use std::fs;

use super::exposition::{Value, sample};

/// Clock ticks in a second: a constant of Linux's ABI for user space.
const TICKS_PER_SECOND: u64 = 100;

/// A number of hundredths of a second.
struct Ticks(u64);

impl Value for Ticks {
    fn write(self, out: &mut Vec<u8>) {
        (self.0 / TICKS_PER_SECOND).write(out);
        out.push(b'.');
        (self.0 % TICKS_PER_SECOND / 10).write(out);
        (self.0 % 10).write(out);
    }
}

/// Writes the metrics that can be read.
pub(crate) fn write(out: &mut Vec<u8>) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    write_stat(&read("/proc/self/stat"), &read("/proc/stat"), out);
    write_status(&read("/proc/self/status"), out);
    write_limits(&read("/proc/self/limits"), out);
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // Without the directory itself, which is open while it is read.
        let open = entries.count().saturating_sub(1);
        sample(out, "process_open_fds", "gauge", "Open file descriptors.", open as u64);
    }
}

/// CPU time and start (`proc(5)`: fields 14, 15 and 22; the name in field 2 can contain blanks and brackets).
fn write_stat(own: &str, system: &str, out: &mut Vec<u8>) {
    let Some((_, after_name)) = own.rsplit_once(')') else { return };
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let help = "User and system processor time spent.";
        sample(out, "process_cpu_seconds_total", "counter", help, Ticks(user + system));
    }
    let booted = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    if let (Some(booted), Some(start)) = (booted, field(22)) {
        let help = "When the process started.";
        sample(out, "process_start_time_seconds", "gauge", help, Ticks(booted * TICKS_PER_SECOND + start));
    }
}

fn write_status(status: &str, out: &mut Vec<u8>) {
    let number = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // Sizes are in kB, which here means 1024 bytes.
    if let Some(kibibytes) = number("VmRSS") {
        sample(out, "process_resident_memory_bytes", "gauge", "Resident memory.", kibibytes * 1024);
    }
    if let Some(kibibytes) = number("VmSize") {
        sample(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.", kibibytes * 1024);
    }
    if let Some(threads) = number("Threads") {
        sample(out, "process_threads", "gauge", "Threads.", threads);
    }
}

fn write_limits(limits: &str, out: &mut Vec<u8>) {
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_ascii_whitespace().next()?.parse::<u64>().ok());
    if let Some(soft) = soft {
        sample(out, "process_max_fds", "gauge", "Limit of open file descriptors.", soft);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
        let mut out = Vec::new();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_process_name_with_blanks_and_brackets_moves_no_field() {
        let own = "7 (a) b (c) S 1 7 7 0 -1 4194304 90 0 0 0 1234 5 0 0 20 0 1 0 4242 3000 400 1";
        let found = values(|out| write_stat(own, "cpu 1 2\nbtime 1763770000\nprocesses 1\n", out));
        assert_eq!(found, ["process_cpu_seconds_total 12.39", "process_start_time_seconds 1763770042.42"]);
    }

    #[test]
    fn sizes_are_in_bytes() {
        let found = values(|out| write_status("Name:\tx\nVmSize:\t  5000 kB\nVmRSS:\t 100 kB\nThreads:\t1\n", out));
        let wanted =
            ["process_resident_memory_bytes 102400", "process_virtual_memory_bytes 5120000", "process_threads 1"];
        assert_eq!(found, wanted);
        let limits =
            "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096   files\n";
        assert_eq!(values(|out| write_limits(limits, out)), ["process_max_fds 1024"]);
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let unlimited = "Max open files            unlimited            unlimited            files     \n";
        let found = values(|out| {
            write_stat("", "", out);
            write_stat("7 (x) S 1", "", out);
            write_status("", out);
            write_limits(unlimited, out);
        });
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_them_all() {
        let found = values(write);
        let names: Vec<&str> = found.iter().filter_map(|line| line.split(' ').next()).collect();
        let wanted = [
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_max_fds",
            "process_open_fds",
        ];
        assert_eq!(names, wanted);
    }
}
