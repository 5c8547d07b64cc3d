//! The KMS over HTTP: what each call of the trait sends, and how its answer is read.

use std::time::SystemTime;

use super::client::KmsClient;
use super::error::Error;
use super::route::Route;
use super::transport::Answer;
use super::wire::{self, Unusable};
use super::write::KmsWrite;
use super::{Kms, Listed, RunStart, SendMode, WriteOperation};
use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationInterval, Tag};
use crate::rotation::project::CloudAccess;

impl Kms for KmsClient {
    fn begin_run(&self, start: RunStart) {
        self.forget_last_run(start);
    }

    fn access(&self) -> CloudAccess {
        self.access()
    }

    fn cloud_time(&self) -> SystemTime {
        self.executor.cloud_time()
    }

    async fn read_status(&self, key_id: KeyId, mode: SendMode) -> Result<Rotation, Error> {
        // Another 2xx has no documented meaning, so it is not read as a cloud that does not offer the setting either.
        let parse = |answer: &Answer| {
            if answer.status == 200 { wire::rotation_status(&answer.body) } else { Err(Unusable::Garbled) }
        };
        self.key_call(Route::ReadStatus, key_id, None, parse, mode).await
    }

    async fn describe(&self, key_id: KeyId, mode: SendMode) -> Result<KeyDescription, Error> {
        let parse = |answer: &Answer| wire::description(&answer.body).ok_or(Unusable::Garbled);
        self.key_call(Route::Describe, key_id, None, parse, mode).await
    }

    async fn list_keys(&self) -> Result<Listed<ListedKey>, Error> {
        self.all_keys().await
    }

    async fn tagged(&self, key: &str, values: Option<&[&str]>) -> Result<Listed<(KeyId, Tag)>, Error> {
        self.keys_with_tag(key, values).await
    }

    fn enable_rotation(&self, key_id: KeyId) -> impl WriteOperation {
        KmsWrite::new(self, key_id, None, SendMode::Retried)
    }

    fn update_interval(&self, key_id: KeyId, interval: RotationInterval, mode: SendMode) -> impl WriteOperation {
        KmsWrite::new(self, key_id, Some(interval), mode)
    }
}
