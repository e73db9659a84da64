//! An answer that the driver can't cope with is an error, not the end of the task.

use std::future::Future;

/// Runs what the driver does. After a panic the connection has to be given up, as after any error that is not the server's.
pub(crate) async fn calmly<T>(work: impl Future<Output = tiberius::Result<T>> + Send) -> tiberius::Result<T> {
    pilotman_session::calmly(work, |error| tiberius::error::Error::Protocol(error.into())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(calmly(async { Ok(1) }).await.unwrap(), 1);
        let error = calmly::<u8>(async { panic!("on purpose") }).await.unwrap_err();
        assert!(error.code().is_none() && error.to_string().contains("none that the driver knows"), "{error}");
    }
}
