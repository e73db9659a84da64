//! Tokens of Entra ID, got anew in the background before they end: a credential that is slow or fails for a while costs
//! nothing as long as the last token is good. The SDK asks for a new one from five minutes before the end, and would have each
//! request wait for it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use azure_core::Error as SdkError;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind as SdkKind;
use azure_core::time::OffsetDateTime;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::failure;

/// So long before its end a token is got anew.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// So long before its end a token is no longer sent.
const LATE: Duration = Duration::from_secs(5);
/// A credential that gives no answer for so long is asked again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where nothing works without a new token. Command line tools of developers take some seconds.
const SHORT_PATIENCE: Duration = Duration::from_secs(20);
/// The pause before a credential is asked again, while the last token is good.
const PAUSE: Duration = Duration::from_secs(10);
/// The same where nothing works without a new one.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

type Answer = Result<AccessToken, Arc<SdkError>>;
/// A question to the credential that is under way, for all who wait for it.
type Flight = Shared<BoxFuture<'static, Answer>>;

/// See the [module](self).
pub(crate) struct Bearer {
    credential: Arc<dyn TokenCredential>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What the token is for.
    scopes: Vec<String>,
    token: Option<AccessToken>,
    /// The service has refused the token.
    is_doubtful: bool,
    flight: Option<Flight>,
    /// When the credential gave its last answer, and what was wrong with it.
    answered: Option<OffsetDateTime>,
    failed: Option<Arc<SdkError>>,
}

impl State {
    /// The token, if it may still be sent.
    fn good(&self, now: OffsetDateTime) -> Option<AccessToken> {
        self.token.clone().filter(|token| !self.is_doubtful && token.expires_on > now + LATE)
    }

    fn is_old(&self, now: OffsetDateTime) -> bool {
        self.is_doubtful || self.token.as_ref().is_none_or(|token| token.expires_on <= now + EARLY)
    }

    /// Whether the last answer is too fresh to ask again. A clock that was set back counts for nothing.
    fn pauses(&self, now: OffsetDateTime) -> bool {
        let pause = if self.good(now).is_some() { PAUSE } else { SHORT_PAUSE };
        self.answered.is_some_and(|at| at <= now && now < at + pause)
    }
}

/// What is to be done for who asks.
enum Next {
    Have(AccessToken),
    Wait(Flight),
    Failed(Arc<SdkError>),
}

impl Bearer {
    pub(crate) fn new(credential: Arc<dyn TokenCredential>) -> Arc<Self> {
        Arc::new(Self { credential, state: Arc::default() })
    }

    /// Whether requests can be sent without waiting for the credential.
    pub(crate) fn has_token(&self) -> bool {
        lock(&self.state).good(OffsetDateTime::now_utc()).is_some()
    }

    /// The service has refused the token: the next request gets another one.
    pub(crate) fn doubt(&self) {
        let mut state = lock(&self.state);
        // One that is just out of the credential is not made better by another.
        if !state.pauses(OffsetDateTime::now_utc()) {
            state.is_doubtful = true;
        }
    }

    fn next(&self, scopes: &[&str]) -> Next {
        let now = OffsetDateTime::now_utc();
        let mut question = None;
        let mut state = lock(&self.state);
        if state.scopes != scopes {
            *state = State { scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(), ..State::default() };
        }
        let good = state.good(now);
        if state.is_old(now)
            && state.flight.is_none()
            && !(state.pauses(now) && (good.is_some() || state.failed.is_some()))
        {
            let patience = if good.is_some() { PATIENCE } else { SHORT_PATIENCE };
            let (flight, task) = self.ask(state.scopes.clone(), patience);
            state.flight = Some(flight);
            question = Some(task);
        }
        let next = match (good, &state.flight, &state.failed) {
            (Some(token), _, _) => Next::Have(token),
            (None, Some(flight), _) => Next::Wait(flight.clone()),
            (None, None, Some(error)) => Next::Failed(error.clone()),
            (None, None, None) => Next::Failed(Arc::new(failed("the credential gives tokens that have ended"))),
        };
        drop(state);
        if let Some(question) = question {
            // A runtime that is ending drops it at once, and that takes the lock.
            drop(Handle::current().spawn(question));
        }
        next
    }

    /// A question to the credential, and the task that asks it: it goes on when the request that needs it is given up.
    fn ask(&self, scopes: Vec<String>, patience: Duration) -> (Flight, impl Future<Output = ()> + Send + use<>) {
        let (credential, state) = (self.credential.clone(), self.state.clone());
        let under_way = UnderWay { state, scopes: scopes.clone() };
        let (sender, receiver) = oneshot::channel();
        let task = async move {
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            let answer = match tokio::time::timeout(patience, credential.get_token(&scopes, None)).await {
                Ok(answer) => answer.map_err(Arc::new),
                Err(_) => Err(Arc::new(silent(patience))),
            };
            under_way.end(&answer);
            // Nobody may wait for it any more; what it says is kept all the same.
            let _ = sender.send(answer);
        };
        let ended = receiver
            .map(|answer| answer.unwrap_or_else(|_| Err(Arc::new(failed("the task that asks for it has ended")))));
        (ended.boxed().shared(), task)
    }
}

/// A question to the credential. However it ends, the next one can be asked.
struct UnderWay {
    state: Arc<Mutex<State>>,
    scopes: Vec<String>,
}

impl UnderWay {
    fn end(&self, answer: &Answer) {
        let mut state = lock(&self.state);
        if state.scopes != self.scopes {
            return;
        }
        state.answered = Some(OffsetDateTime::now_utc());
        match answer {
            Ok(token) => {
                state.token = Some(token.clone());
                (state.is_doubtful, state.failed) = (false, None);
            }
            Err(error) => {
                tracing::warn!(error = %failure::shown(&error.to_string()), lock.backend = "azure", "there is no new token of Entra ID yet");
                state.failed = Some(error.clone());
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.scopes == self.scopes {
            state.flight = None;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing that is done under it can fail.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: &'static str) -> SdkError {
    SdkError::with_message(SdkKind::Credential, why)
}

fn silent(patience: Duration) -> SdkError {
    let inner = SdkError::with_message(SdkKind::Io, format!("the credential gave no answer within {patience:?}"));
    let text = inner.to_string();
    SdkError::with_error(SdkKind::Credential, inner, text)
}

/// The same error again, for one more who waited. Whatever its kind was: it is not the service that said it.
fn again(error: &SdkError) -> SdkError {
    let kind = if failure::is_passing(error) { SdkKind::Io } else { SdkKind::Credential };
    let text = error.to_string();
    SdkError::with_error(SdkKind::Credential, SdkError::with_message(kind, text.clone()), text)
}

#[async_trait::async_trait]
impl TokenCredential for Bearer {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        let answer = match self.next(scopes) {
            Next::Have(token) => return Ok(token),
            Next::Wait(flight) => flight.await,
            Next::Failed(error) => Err(error),
        };
        answer.map_err(|error| again(&error))
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::pending;

    use super::*;

    const SCOPES: [&str; 1] = ["https://storage.azure.com/.default"];
    const LONG: Duration = Duration::from_secs(30);

    /// What a credential does when it is asked.
    #[derive(Debug, Clone, Copy)]
    enum Say {
        /// A token for so many seconds.
        For(i64),
        Nothing,
        No,
        /// As a token endpoint that can't be reached.
        Broken,
    }

    #[derive(Debug)]
    struct Script(Mutex<(usize, VecDeque<Say>)>);

    impl Script {
        fn of(says: &[Say]) -> (Arc<Self>, Arc<Bearer>) {
            let script = Arc::new(Self(Mutex::new((0, says.iter().copied().collect()))));
            (script.clone(), Bearer::new(script))
        }

        fn asked(&self) -> usize {
            self.0.lock().unwrap().0
        }
    }

    #[async_trait::async_trait]
    impl TokenCredential for Script {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, SCOPES);
            let (count, say) = {
                let mut script = self.0.lock().unwrap();
                script.0 += 1;
                (script.0, script.1.pop_front().expect("it is not asked more often"))
            };
            match say {
                Say::For(seconds) => {
                    let end = OffsetDateTime::now_utc() + azure_core::time::Duration::seconds(seconds);
                    Ok(AccessToken::new(format!("token-{count}"), end))
                }
                Say::Nothing => pending().await,
                Say::No => Err(SdkError::with_message(
                    SdkKind::HttpResponse {
                        status: azure_core::http::StatusCode::NotFound,
                        error_code: None,
                        raw_response: None,
                    },
                    "no such identity",
                )),
                Say::Broken => Err(SdkError::with_message(SdkKind::Connection, "unreachable")),
            }
        }
    }

    async fn token(bearer: &Bearer) -> azure_core::Result<String> {
        let answer = tokio::time::timeout(LONG, bearer.get_token(&SCOPES, None)).await.expect("nobody waits for long");
        answer.map(|token| token.token.secret().to_owned())
    }

    async fn asked(script: &Script, times: usize) {
        tokio::time::timeout(LONG, async {
            while script.asked() < times {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it is asked");
    }

    /// As if the last answer were so long ago.
    fn ago(bearer: &Bearer, long: Duration) {
        let mut state = lock(&bearer.state);
        state.answered = state.answered.map(|at| at - long);
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_and_kept() {
        let (script, bearer) = Script::of(&[Say::For(3600)]);
        assert!(!bearer.has_token());
        let (one, other) = tokio::join!(token(&bearer), token(&bearer));
        assert_eq!((one.unwrap(), other.unwrap()), ("token-1".to_owned(), "token-1".to_owned()));
        assert!(bearer.has_token() && token(&bearer).await.unwrap() == "token-1");
        assert_eq!(script.asked(), 1);
    }

    #[tokio::test]
    async fn an_old_token_is_used_while_a_new_one_is_on_its_way() {
        let (script, bearer) = Script::of(&[Say::For(60), Say::Nothing]);
        assert_eq!(token(&bearer).await.unwrap(), "token-1");
        ago(&bearer, PAUSE);
        for _ in 0..3 {
            assert_eq!(token(&bearer).await.unwrap(), "token-1");
        }
        asked(&script, 2).await;
        assert_eq!(token(&bearer).await.unwrap(), "token-1", "however long it takes");
        assert_eq!(script.asked(), 2, "one at a time");
    }

    #[tokio::test]
    async fn an_old_token_gives_way_to_the_new_one() {
        let (script, bearer) = Script::of(&[Say::For(60), Say::No, Say::For(3600)]);
        assert_eq!(token(&bearer).await.unwrap(), "token-1");
        for times in [2, 3] {
            ago(&bearer, PAUSE);
            assert_eq!(token(&bearer).await.unwrap(), "token-1", "a refusal costs nothing yet");
            asked(&script, times).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(token(&bearer).await.unwrap(), "token-3");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_longer_is_there_for_the_next() {
        let (script, bearer) = Script::of(&[Say::For(3600)]);
        let mut first = Box::pin(bearer.get_token(&SCOPES, None));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        drop(first);
        assert_eq!(token(&bearer).await.unwrap(), "token-1");
        assert_eq!(script.asked(), 1);
    }

    #[tokio::test]
    async fn without_a_token_an_error_says_whether_to_try_again() {
        let (script, bearer) = Script::of(&[Say::No, Say::Broken]);
        for (times, is_passing) in [(1, false), (1, false), (2, true)] {
            if times == 2 {
                ago(&bearer, SHORT_PAUSE);
            }
            let error = token(&bearer).await.unwrap_err();
            assert!(matches!(error.kind(), SdkKind::Credential), "{error}");
            assert!(failure::said(&error).is_none(), "it is not the service that said it");
            assert_eq!(failure::is_passing(&error), is_passing, "{error}");
            assert_eq!(script.asked(), times, "not in quick succession");
        }
    }

    #[tokio::test]
    async fn a_token_that_the_service_refuses_is_not_sent_again() {
        let (script, bearer) = Script::of(&[Say::For(3600), Say::For(3600)]);
        assert_eq!(token(&bearer).await.unwrap(), "token-1");
        bearer.doubt();
        assert_eq!(token(&bearer).await.unwrap(), "token-1", "it is as new as can be");
        ago(&bearer, PAUSE);
        bearer.doubt();
        assert_eq!(token(&bearer).await.unwrap(), "token-2");
        assert_eq!(script.asked(), 2);
    }
}
