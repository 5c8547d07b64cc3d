//! Decodes `defaults`: what projects leave out, so that several projects share one login.
//!
//! A project that leaves out a field decodes the one in `defaults` in its place, so there is one definition of each
//! field. A problem of a default has one position, at which it is reported once for all projects.

use std::sync::Arc;
use std::time::Duration;

use super::calendar::Zone;
use super::project::{
    AGENCY, CA_FILE, CLOUD, COVERAGE, GRACE, GRACE_PERIOD, LOGIN, MODE, PROOF, PROXY_OF_LOGIN, REGION_OF_CLOUD,
};
use crate::rotation::project::{Cloud, Coverage, Mode, Proof, ProofRule};
use crate::yaml::decode::{Decoder, Field, Fields};
use crate::yaml::schema::Schema;
use crate::yaml::source::Span;

pub(super) const DEFAULTS: Schema = Schema {
    elsewhere: &[
        ("name", OF_ONE_PROJECT),
        ("project_id", OF_ONE_PROJECT),
        ("kms_endpoint", OF_ONE_PROJECT),
        ("iam_endpoint", OF_ONE_PROJECT),
        ("keys", OF_ONE_PROJECT),
    ],
    ..Schema::of(
        "`defaults`",
        &[
            CLOUD.in_defaults(),
            REGION_OF_CLOUD.in_defaults(),
            CA_FILE.in_defaults(),
            MODE.in_defaults(),
            LOGIN.in_defaults(),
            AGENCY.in_defaults(),
            PROXY_OF_LOGIN.in_defaults(),
            COVERAGE.in_defaults(),
            PROOF.in_defaults(),
            GRACE_PERIOD.in_defaults(),
        ],
    )
};
const OF_ONE_PROJECT: &str = "set it in each project";

/// What the file sets for its projects.
#[derive(Clone, Copy)]
pub(super) struct Inherited<'d, 'n> {
    /// Days end in this zone.
    pub(super) zone: &'d Zone,
    /// The mode of the file, if it is set.
    pub(super) mode: Option<(Mode, Span)>,
    pub(super) defaults: Option<&'d Fields<'n>>,
}

/// The settings of a project that `defaults` can set, apart from files and login. Those that have a default of their own
/// are `None` only if they are invalid.
pub(super) struct Settings {
    pub(super) cloud: Option<Cloud>,
    pub(super) region: Option<Arc<str>>,
    pub(super) mode: Option<Mode>,
    pub(super) coverage: Option<Coverage>,
    pub(super) proof: Option<Proof>,
    pub(super) grace: Option<Duration>,
}

impl Decoder<'_> {
    /// Checks the defaults, used or not, and returns them for the projects.
    pub(super) fn defaults<'n>(&mut self, field: Field<'n>, file_mode: Option<(Mode, Span)>) -> Fields<'n> {
        let Some(fields) = self.fields(field, &DEFAULTS) else { return Fields::undecoded(&DEFAULTS, field.span()) };
        let files = self.files.len();
        self.settings(|name| fields.get(name), file_mode);
        fields.get(CA_FILE.name).map(|field| self.file_path(field));
        self.login(&fields, None, "`defaults`");
        if let Some(agency) = fields.get(AGENCY.name)
            && fields.get(LOGIN.name).is_none()
            && !fields.excuses(LOGIN.name)
        {
            self.error(agency.key, "`assume_agency` is set without `credentials` in `defaults`")
                .help("set both, or set it in each project");
        }
        // The projects that use them name them again.
        self.files.truncate(files);
        fields
    }

    /// Decodes the settings that `get` returns.
    pub(super) fn settings<'n>(
        &mut self,
        get: impl Fn(&str) -> Option<Field<'n>>,
        file_mode: Option<(Mode, Span)>,
    ) -> Settings {
        let cloud = get(CLOUD.name).and_then(|field| self.choice(field, &Cloud::ALL, Cloud::as_str));
        let region = get(REGION_OF_CLOUD.name).and_then(|field| self.region(field));
        let mode = match get(MODE.name) {
            Some(field) => self.project_mode(field, file_mode),
            None => Some(file_mode.map(|(mode, _)| mode).unwrap_or_default()),
        };
        let coverage = match get(COVERAGE.name) {
            Some(field) => self.choice(field, &Coverage::ALL, Coverage::as_str),
            None => Some(Coverage::default()),
        };
        let proof = match get(PROOF.name) {
            Some(field) => self.choice(field, &Proof::ALL, Proof::as_str),
            None => Some(Proof::default()),
        };
        let grace = match get(GRACE_PERIOD.name) {
            Some(field) => self.duration(field, &GRACE),
            None => Some(ProofRule::default().grace),
        };
        Settings { cloud, region, mode, coverage, proof, grace }
    }

    /// The mode of a project, set in it or in `defaults`. `monitor` at the top of a file cannot be overridden.
    fn project_mode(&mut self, field: Field<'_>, file_mode: Option<(Mode, Span)>) -> Option<Mode> {
        let mode = self.choice(field, &Mode::ALL, Mode::as_str)?;
        match file_mode {
            Some((Mode::Monitor, at)) if mode == Mode::Enforce => {
                let message = "`enforce` is not allowed in a file with `mode: monitor`";
                self.error(field.span(), message).related("set", at).help("remove one of them");
                None
            }
            _ => Some(mode),
        }
    }
}
