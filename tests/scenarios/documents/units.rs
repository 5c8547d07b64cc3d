//! The units for systemd agree with each other. `tests/systemd/run` tests them with a real systemd.

use super::text;

/// The lines of a section of a unit.
fn section(unit: &str, name: &str) -> Vec<String> {
    let unit = text(&format!("systemd/{unit}"));
    let lines = unit.lines().skip_while(|line| *line != format!("[{name}]")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(ToOwned::to_owned).collect()
}

/// Settings for how a service runs, without effect on its permissions.
const OF_ITS_OWN: &[&str] = &[
    "Type",
    "ExecStart",
    "ExecReload",
    "Restart",
    "RestartSec",
    "RestartPreventExitStatus",
    "WatchdogSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "StateDirectory",
    "StateDirectoryMode",
];

#[test]
fn daemon_and_single_run_have_the_same_hardening() {
    let hardening = |unit| {
        let mut lines = section(unit, "Service");
        lines.retain(|line| line.split_once('=').is_none_or(|(name, _)| !OF_ITS_OWN.contains(&name)));
        lines
    };
    let daemon = hardening("kms-rotationd.service");
    assert!(daemon.len() > 30 && daemon.contains(&"DynamicUser=yes".to_owned()), "{daemon:#?}");
    assert_eq!(hardening("kms-rotationd-apply.service"), daemon);
}

#[test]
fn the_timer_starts_the_single_run_and_nothing_else_starts_automatically() {
    assert_eq!(section("kms-rotationd.service", "Install"), ["WantedBy=multi-user.target"]);
    assert_eq!(section("kms-rotationd-apply.timer", "Install"), ["WantedBy=timers.target"]);
    // If enabled, it would run at each boot; and the timer starts the service of the same name.
    assert!(section("kms-rotationd-apply.service", "Install").is_empty());
    assert!(!section("kms-rotationd-apply.timer", "Timer").iter().any(|line| line.starts_with("Unit=")));
}
