//! Argon2id on a blocking thread, one hash at a time: 19 MiB however many people log in together, and on two cores one
//! is left for everything else.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Output, ParamsString, PasswordHash, Salt},
};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hashes that run at once.
const AT_ONCE: usize = 1;
/// Hashes that run or wait; more are told to come back.
const WAITING: usize = 512;
/// glibc gives memory of a freed block back at once only if the block is larger than this; a
/// smaller one would stay in the arena of whichever thread hashed.
const ALWAYS_UNMAPPED_BYTES: usize = 33 << 20;
pub(crate) const SALT_BYTES: usize = 16;

/// The work of one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    /// KiB of memory filled.
    pub memory_kib: u32,
    /// Times that it is filled.
    pub passes: u32,
}

impl Default for HashCost {
    /// What OWASP's password storage page asks for at one lane: 19 MiB, twice.
    fn default() -> HashCost {
        HashCost { memory_kib: 19 * 1024, passes: 2 }
    }
}

/// Why there is no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HashError {
    /// Too many wait already.
    #[error("too many passwords are being checked")]
    Busy,
    /// Parameters, randomness or thread failed, or a stored hash cannot be read.
    #[error("password hashing failed")]
    Failed,
}

/// Gives out the places at which passwords are hashed. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Hasher {
    cost: HashCost,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Compared against when there is no such account, so that the answer takes as long.
    nobody: Arc<str>,
}

/// The right to one hash.
#[derive(Debug)]
pub(crate) struct Place {
    cost: HashCost,
    nobody: Arc<str>,
    _permit: OwnedSemaphorePermit,
}

impl Hasher {
    pub(crate) fn new(cost: HashCost) -> Result<Hasher, HashError> {
        let salt = Salt::new(&[0; SALT_BYTES]).map_err(failed)?;
        let output = Output::new(&[0; Params::DEFAULT_OUTPUT_LEN]).map_err(failed)?;
        let nobody = phc(&params(cost)?, salt, output)?;
        Ok(Hasher {
            cost,
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            nobody: nobody.into(),
        })
    }

    /// Waits for a place. Whoever has one should ask again whether the work is still wanted.
    pub(crate) async fn place(&self) -> Result<Place, HashError> {
        let _waiting = self.waiting.try_acquire().map_err(|_full| HashError::Busy)?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(failed)?;
        Ok(Place { cost: self.cost, nobody: Arc::clone(&self.nobody), _permit: permit })
    }
}

impl Place {
    /// The hash of a new password as a PHC string; without `salt`, with a random one.
    pub(crate) async fn hash(
        self,
        password: String,
        salt: Option<[u8; SALT_BYTES]>,
    ) -> Result<String, HashError> {
        let cost = self.cost;
        on_thread(self, move || hash(cost, &password, salt)).await?.1
    }

    /// Whether `password` belongs to `stored`; with `None` the same work ends in `false`. The
    /// place is given back, to be kept until the outcome is taken note of.
    pub(crate) async fn verify(
        self,
        password: String,
        stored: Option<String>,
    ) -> Result<(Place, bool), HashError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.nobody.as_ref().to_owned());
        let (place, equal) = on_thread(self, move || verify(&password, &stored)).await?;
        Ok((place, equal? && known))
    }
}

/// The place moves along: a caller that goes away does not make room for another hash.
async fn on_thread<T: Send + 'static>(
    place: Place,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<(Place, T), HashError> {
    tokio::task::spawn_blocking(move || {
        let done = work();
        (place, done)
    })
    .await
    .map_err(failed)
}

fn hash(
    cost: HashCost,
    password: &str,
    salt: Option<[u8; SALT_BYTES]>,
) -> Result<String, HashError> {
    let salt = salt.map_or_else(random_salt, Ok)?;
    let params = params(cost)?;
    let output = derive(&params, password, &salt)?;
    phc(&params, Salt::new(&salt).map_err(failed)?, output)
}

fn random_salt() -> Result<[u8; SALT_BYTES], HashError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(failed)?;
    Ok(salt)
}

fn verify(password: &str, stored: &str) -> Result<bool, HashError> {
    let stored = PasswordHash::new(stored).map_err(failed)?;
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
        return Err(HashError::Failed);
    };
    let params = Params::try_from(&stored).map_err(failed)?;
    let output = derive(&params, password, salt.as_ref())?;
    Ok(output.as_bytes().ct_eq(expected.as_bytes()).into())
}

fn derive(params: &Params, password: &str, salt: &[u8]) -> Result<Output, HashError> {
    let blocks = params.block_count();
    let mut memory = Vec::with_capacity(blocks.max(ALWAYS_UNMAPPED_BYTES / Block::SIZE));
    memory.resize(blocks, Block::new());
    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into_with_memory(password.as_bytes(), salt, &mut output, &mut memory)
        .map_err(failed)?;
    Output::new(&output).map_err(failed)
}

fn params(cost: HashCost) -> Result<Params, HashError> {
    let length = Some(Params::DEFAULT_OUTPUT_LEN);
    Params::new(cost.memory_kib, cost.passes, 1, length).map_err(failed)
}

fn phc(params: &Params, salt: Salt, output: Output) -> Result<String, HashError> {
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).map_err(failed)?,
        salt: Some(salt),
        hash: Some(output),
    };
    Ok(hash.to_string())
}

fn failed<E: std::fmt::Display>(error: E) -> HashError {
    tracing::error!(%error, "password hashing failed");
    HashError::Failed
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1 };

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let hasher = Hasher::new(CHEAP).unwrap();
        let stored = hasher.place().await.unwrap().hash("pass".into(), None).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
        let check = async |password: &str, stored: Option<String>| {
            let checked = hasher.place().await.unwrap().verify(password.into(), stored).await;
            checked.map(|(_, equal)| equal)
        };
        assert_eq!(check("pass", Some(stored.clone())).await, Ok(true));
        assert_eq!(check("Pass", Some(stored.clone())).await, Ok(false));
        assert_eq!(check("pass", None).await, Ok(false));
        assert_eq!(check("pass", Some("garbage".into())).await, Err(HashError::Failed));
        let again = hasher.place().await.unwrap().hash("pass".into(), None).await.unwrap();
        assert_ne!(stored, again);
    }

    #[tokio::test]
    async fn a_hash_made_at_another_cost_still_counts() {
        let old = Hasher::new(HashCost { memory_kib: 32, passes: 3 }).unwrap();
        let stored = old.place().await.unwrap().hash("pass".into(), None).await.unwrap();
        let new = Hasher::new(CHEAP).unwrap();
        let (_, equal) =
            new.place().await.unwrap().verify("pass".into(), Some(stored)).await.unwrap();
        assert!(equal);
    }

    #[tokio::test]
    async fn one_has_a_place_and_a_crowd_is_bounded() {
        let hasher = Hasher::new(CHEAP).unwrap();
        let first = hasher.place().await.unwrap();
        let mut crowd: Vec<_> = (0..WAITING).map(|_| Box::pin(hasher.place())).collect();
        for waiting in &mut crowd {
            assert!(is_pending(waiting.as_mut()).await);
        }
        assert_eq!(hasher.place().await.unwrap_err(), HashError::Busy);
        drop(first);
        assert!(crowd.remove(0).await.is_ok());
    }

    async fn is_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }
}
