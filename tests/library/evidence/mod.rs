//! The evidence log's formats, judged by the code of others: ct-merkle and `tlog_tiles`.

mod trees;
