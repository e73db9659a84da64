//! Whether it is set up safely.

use std::sync::Arc;

use pilotman_core::Result;
use pilotman_core::backend::Finding;

use crate::link::Link;

/// Looks, and changes nothing.
pub(crate) async fn diagnose(link: &Arc<Link>) -> Result<Vec<Finding>> {
    link.session().await?;
    Ok(vec![Finding::fine("use", "it can be reached and used")])
}
