//! The 12c password verifier, from the server's side: both ends prove that they know the password, and neither sends it.

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use sha2::{Digest, Sha512};

/// What marks a 12c verifier in the answer to the first message.
pub(crate) const VERIFIER_12C: u64 = 0x4815;
/// The server chooses. A real one takes 4096; tests log in often.
pub(crate) const ITERATIONS: u32 = 128;
pub(crate) const SESSION_ITERATIONS: u32 = 3;
const BLOCK: usize = 16;

/// What a server keeps of a password.
pub(crate) struct Verifier {
    pub(crate) salt: [u8; 16],
    hash: [u8; 32],
}

impl Verifier {
    pub(crate) fn new(password: &str) -> Self {
        let salt = random();
        let mut salted = salt.to_vec();
        salted.extend_from_slice(b"AUTH_PBKDF2_SPEEDY_KEY");
        let mut key = [0; 64];
        pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), &salted, ITERATIONS, &mut key);
        let digest = Sha512::new().chain_update(key).chain_update(salt).finalize();
        let mut hash = [0; 32];
        hash.copy_from_slice(&digest[..32]);
        Self { salt, hash }
    }

    /// That of no password.
    pub(crate) fn decoy() -> Self {
        Self { salt: random(), hash: random() }
    }

    /// What the server adds to a login.
    pub(crate) fn challenge(&self) -> Challenge {
        let half = random::<32>();
        Challenge { half, sent: encrypt(&self.hash, &half), salt: random() }
    }

    /// The key that both sides share, if the client used this verifier's password: from its half of it.
    pub(crate) fn shared_key(&self, challenge: &Challenge, half: &[u8]) -> Option<[u8; 32]> {
        let half = decrypt(&self.hash, half).filter(|half| half.len() == 32)?;
        let material = hex(&[half.as_slice(), challenge.half.as_slice()].concat());
        let mut key = [0; 32];
        pbkdf2::pbkdf2_hmac::<Sha512>(material.as_bytes(), &challenge.salt, SESSION_ITERATIONS, &mut key);
        Some(key)
    }
}

pub(crate) struct Challenge {
    half: [u8; 32],
    /// The server's half of the shared key, encrypted.
    pub(crate) sent: Vec<u8>,
    pub(crate) salt: [u8; 16],
}

/// The password inside what the client sent: after one random block, padded.
pub(crate) fn open(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = decrypt(key, sealed)?;
    let padding = usize::from(*plain.last()?);
    if !(1..=BLOCK).contains(&padding) || plain.len() < BLOCK + padding {
        return None;
    }
    plain.truncate(plain.len() - padding);
    plain.drain(..BLOCK);
    Some(plain)
}

/// How the server shows that it knows the password.
pub(crate) fn proof(key: &[u8; 32]) -> Vec<u8> {
    let mut plain = random::<BLOCK>().to_vec();
    plain.extend_from_slice(b"SERVER_TO_CLIENT");
    plain.extend_from_slice(&[BLOCK as u8; BLOCK]);
    encrypt(key, &plain)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn random<const COUNT: usize>() -> [u8; COUNT] {
    let mut bytes = [0; COUNT];
    getrandom::fill(&mut bytes).expect("the system's random numbers");
    bytes
}

fn encrypt(key: &[u8; 32], plain: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; plain.len()];
    cbc::Encryptor::<aes::Aes256>::new(key.into(), &[0; BLOCK].into())
        .encrypt_padded_b2b::<NoPadding>(plain, &mut sealed)
        .expect("whole blocks, as long as each other");
    sealed
}

fn decrypt(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = vec![0; sealed.len()];
    cbc::Decryptor::<aes::Aes256>::new(key.into(), &[0; BLOCK].into())
        .decrypt_padded_b2b::<NoPadding>(sealed, &mut plain)
        .ok()?;
    Some(plain)
}
