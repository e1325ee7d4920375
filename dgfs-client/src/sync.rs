//! fsync: what was written is sent, storage servers sync, meta syncs.
//!
//! Never skips a sync it cannot prove needless. Order: data, then the metadata that refers to it.

use std::sync::Arc;

use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::flush::Which;
use crate::handles::OpenFile;
use crate::operation::Op;
use crate::vfs::Handle;

impl Core {
    /// fsync of a file.
    pub(crate) async fn fsync(self: &Arc<Self>, handle: Handle) -> Result<(), Status> {
        let open = self.handles.file(handle)?;
        let op = self.op();
        self.sync_file(&op, &open).await
    }

    /// Sends and syncs one file; a write error of the handle is reported once.
    pub(crate) async fn sync_file(self: &Arc<Self>, op: &Op, open: &OpenFile) -> Result<(), Status> {
        let sent = self.flush_file(op, &open.file, Which::All).await;
        let answered = self.link.kept.drained(op).await;
        self.take_errors(open)?;
        sent.and(answered)?;
        self.sync_all(op).await
    }

    /// Makes everything committed so far durable.
    pub(crate) async fn sync_all(&self, op: &Op) -> Result<(), Status> {
        self.sync_stores(op).await?;
        self.link.sync(op).await
    }

    /// fsync of a directory.
    pub(crate) async fn fsync_directory(self: &Arc<Self>, handle: Handle) -> Result<(), Status> {
        let directory = self.handles.directory(handle)?;
        let op = self.op();
        self.link.kept.drained(&op).await?;
        self.take_lost(&directory.lost_seen)?;
        // A name may be durable only with the bytes it leads to, as far as they were committed.
        self.sync_all(&op).await
    }

    /// Sends everything unsent and ends the session.
    pub(crate) async fn close(self: &Arc<Self>) -> Result<(), Status> {
        if self.is_closing() {
            return Ok(());
        }
        let op = self.background_op();
        let mut failed = self.flush_everything(&op).await.err();
        self.send_releases(&op).await;
        if let Err(status) = self.sync_all(&op).await {
            failed.get_or_insert(status);
        }
        self.shut();
        self.end_session(&op).await;
        self.link.bury();
        failed.map_or(Ok(()), Err)
    }
}
