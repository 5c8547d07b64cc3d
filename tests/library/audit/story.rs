//! Half a year of evidence in which something of everything happens: 2026-01-01 to 2026-06-30.

use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::audit_log::{DAY, EvidenceLog, HOUR, id};

const PROJECTS: [&str; 2] = ["payments", "orders"];
const NAMES: [&str; 8] = ["ledger", "cards", "payouts", "invoices", "archive", "reports", "partners", "sessions"];
const RUNS: u64 = 362;

/// A key of the story.
struct Actor {
    project: &'static str,
    id: String,
    rotated: SystemTime,
    is_there: bool,
}

/// Writes the log. Of each eight keys: three are met, one was off policy for days, one was repaired at once, one was not
/// rotated in time, one is exempt, and one appeared. In the project `orders` no key could be read for two days.
pub(crate) fn story(keys: usize, simulated: bool) -> TempDir {
    let mut log = EvidenceLog::begin("2026-01-01T00:00:00Z", simulated, &PROJECTS);
    log.signs_runs = false;
    let mut actors: Vec<_> = (0..keys)
        .map(|number| Actor {
            project: PROJECTS[usize::from(number % 8 >= 5)],
            id: id(number),
            rotated: log.now - Duration::from_secs((number as u64 * 13 % 80) * DAY),
            is_there: number % 8 != 7,
        })
        .collect();
    for (number, actor) in actors.iter().enumerate().filter(|(_, actor)| actor.is_there) {
        let age = log.now.duration_since(actor.rotated).unwrap().as_secs() / DAY;
        let mut state = log.on_policy(&name(number), age);
        if number % 8 == 5 {
            (state.status, state.reasons) = ("exempt".to_owned(), vec!["imported_material".to_owned()]);
        }
        log.appear(actor.project, &actor.id, state);
    }
    log.run();
    for run in 1..RUNS {
        log.wait(12);
        // The daemon is updated, and for a day it is down.
        if run == 60 {
            log.start(simulated);
        }
        if (150..152).contains(&run) {
            continue;
        }
        if run == 200 {
            log.policy(
                "projects:\n  - name: payments\n    keys:\n      - {all: true, rotation_interval: 90, reason: PCI}\n",
            );
        }
        match run {
            240 => log.unreadable("orders"),
            245 => log.readable("orders"),
            _ => {}
        }
        if (240..245).contains(&run) {
            log.run();
            continue;
        }
        for (number, actor) in actors.iter_mut().enumerate() {
            play(&mut log, run, number, actor);
        }
        log.run();
    }
    log.close()
}

fn name(number: usize) -> String {
    if number < 8 { NAMES[number].to_owned() } else { format!("{}-{}", NAMES[number % 8], number / 8) }
}

fn play(log: &mut EvidenceLog, run: u64, number: usize, actor: &mut Actor) {
    let (project, id) = (actor.project, &*actor.id);
    let shift = number as u64 / 8 % 60;
    match (number % 8, run) {
        (1, 101) => log.drift_and_repair(project, id),
        (2, at) if at == 120 + shift => log.off_policy(project, id),
        (2, at) if at == 127 + shift => log.back_on_policy(project, id),
        (4, 170) => log.exempt(project, id, "2026-12-31"),
        (7, 130) => {
            let mut state = log.on_policy(&name(number), 0);
            state.created_at.clone_from(&state.material_since);
            (actor.is_there, actor.rotated) = (true, log.now);
            log.appear(project, id, state);
        }
        _ => {}
    }
    // The cloud rotates a key ninety days after the last time, and forgets one key of eight for a week.
    let late = if number % 8 == 3 { 8 * DAY } else { 0 };
    let due = actor.rotated + Duration::from_secs(90 * DAY + late);
    if actor.is_there && number % 8 != 5 && due <= log.now {
        let hours = log.now.duration_since(due).unwrap().as_secs() / HOUR;
        log.rotate(project, id, hours);
        actor.rotated = log.now - Duration::from_secs(hours * HOUR);
    }
}
