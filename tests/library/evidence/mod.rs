//! The evidence log's formats, judged by the code of others: ct-merkle, `tlog_tiles` and `signed_note`. What openssl
//! says of keys and signatures is in `tests/tools`.

mod log;
mod notes;
mod records;
mod restart;
mod trees;
mod verify;
