//! `nearmost backup`.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::peer::ordering;
use crate::progress::during;
use anyhow::Context as _;
use nearmost_client::api::BackupRequest;
use std::path::Path;

/// Has the broker write a copy of everything it holds.
pub async fn backup(context: &Context, file: &Path, overwrite: bool) -> anyhow::Result<()> {
    // The broker has another working directory.
    let path = std::path::absolute(file).with_context(|| format!("file {}", file.display()))?;
    let path = path.to_str().with_context(|| format!("file {}: its name is not UTF-8", path.display()))?;
    let request = BackupRequest { path: path.into(), overwrite };
    let client = ordering(context)?;
    let answer = during(context.json, "the broker copies its store", client.backup(&request)).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    emit(&format!("{} statements are in {path}, on the broker's machine\n", answer.statements))
}
