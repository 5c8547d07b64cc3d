//! Identifiers that follow from the content of a report, so that the same report has the same ones: UUIDs of version 5.

use uuid::Uuid;

use super::model::Report;

/// Made once at random, so that no other program makes the same identifiers.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_9a3e_5d1b_4c7e_9b2a_1f84_d0a7_c35e);

/// The identifiers of one report.
pub(super) struct Ids {
    report: Uuid,
}

impl Ids {
    pub(super) fn new(report: &Report) -> Self {
        let mut name = format!("{}\n{:?}\n{:?}", report.version, report.period, report.parameters);
        for log in report.observers.iter().flat_map(|observer| &observer.logs) {
            name = format!("{name}\n{} {} {}", log.origin, log.size, log.root);
        }
        Self { report: Uuid::new_v5(&NAMESPACE, name.as_bytes()) }
    }

    /// Of the report itself.
    pub(super) fn report(&self) -> String {
        self.report.to_string()
    }

    /// Of a part of the report, by its kind and names.
    pub(super) fn of(&self, kind: &str, names: &[&str]) -> String {
        Uuid::new_v5(&self.report, format!("{kind}\n{}", names.join("\n")).as_bytes()).to_string()
    }
}
