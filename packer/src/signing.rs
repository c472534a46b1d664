//! Keys and signatures, in minisign's own file formats.
//!
//! The secret key is encrypted with a password by scrypt, as `minisign -G` does it; a key that
//! minisign wrote without a password (`-W`) is taken, too. Signatures are checked by
//! [`proto::signature`], the same code that runs on the nodes.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ct_codecs::{Base64, Decoder as _};
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use proto::signature::{self, KeyId, PublicKey, SignatureError, Signed, TrustedComment};
use proto::unix_time::UnixTime;
use store::{RevisionDir, StoreError};

/// Nobody but the owner may read a secret key.
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

/// Bytes of the checksum at the end of a secret key.
const CHECKSUM: usize = 32;

/// Most bytes of a key file.
const MAX_KEY_LEN: u64 = 16 * 1024;

/// A key or signature that cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A key file is there already.
    #[error(
        "{path} is there already: a key that is lost cannot be made again, and nodes that trust it \
         accept no other. Choose another name, or give --force to replace it"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A key file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file cannot be read.
    #[error("cannot read {path}; `bee-packer keygen` makes a key")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a secret key.
    #[error("{path} is no secret key of minisign: {reason}")]
    NotASecretKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The password does not open the key.
    #[error("cannot open the key {path}: {reason}")]
    Password {
        /// The file.
        path: PathBuf,
        /// What the check says.
        reason: String,
    },
    /// A public key that is neither a file nor a key.
    #[error(
        "{given} is neither a public key of minisign (56 digits, RW…) nor a file that holds one"
    )]
    PublicKey {
        /// What was given.
        given: String,
    },
    /// The making of a key or signature failed.
    #[error("cannot {what}: {reason}")]
    Failed {
        /// What was being done.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The store refused.
    #[error(transparent)]
    Store(StoreError),
}

/// A secret key that is open, with its public one.
pub struct SigningKey {
    secret: SecretKey,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // not a letter of the secret one
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a key pair: `secret` encrypted with `password` (which may be empty), `public` beside it.
///
/// # Errors
/// [`SignError::Exists`] when one of the files is there, unless `force`; [`SignError::Write`].
pub fn generate(
    secret: &Path,
    public: &Path,
    password: &str,
    force: bool,
) -> Result<PublicKey, SignError> {
    if !force
        && let Some(path) = [secret, public].into_iter().find(|p| p.symlink_metadata().is_ok())
    {
        return Err(SignError::Exists { path: path.to_owned() });
    }
    let failed = |e: minisign::PError| failed("make a key", &e);
    let pair = KeyPair::generate_encrypted_keypair(Some(password.to_owned())).map_err(failed)?;
    let text = pair.pk.to_base64();
    let key: PublicKey = text.parse().map_err(|e: signature::PublicKeyError| failed_text(&e))?;
    let comment = format!("beeswarm secret key {}", key.id());
    let secret_text = pair.sk.to_box(Some(&comment)).map_err(failed)?.into_string();
    let public_text = format!("untrusted comment: minisign public key {}\n{text}\n", key.id());
    write(secret, secret_text.as_bytes(), SECRET_MODE, force)?;
    write(public, public_text.as_bytes(), PUBLIC_MODE, force)?;
    Ok(key)
}

fn failed(what: &'static str, error: &minisign::PError) -> SignError {
    SignError::Failed { what, reason: error.to_string() }
}

fn failed_text(error: &dyn std::error::Error) -> SignError {
    SignError::Failed { what: "make a key", reason: error.to_string() }
}

/// A whole file or none: never the half of a key in place of a whole one.
fn write(path: &Path, bytes: &[u8], mode: u32, force: bool) -> Result<(), SignError> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(format!(".{}", std::process::id()));
    let scratch = PathBuf::from(scratch);
    let make = || {
        // a file that a killed run left; its mode would stay
        let _ = fs::remove_file(&scratch);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&scratch)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if force {
            fs::rename(&scratch, path)?;
        } else {
            // link(2) fails when the name is taken, rename(2) does not
            fs::hard_link(&scratch, path)?;
            fs::remove_file(&scratch)?;
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    };
    make().map_err(|source| {
        // the first error is the one to tell
        let _ = fs::remove_file(&scratch);
        match source.kind() {
            io::ErrorKind::AlreadyExists => SignError::Exists { path: path.to_owned() },
            _ => SignError::Write { path: path.to_owned(), source },
        }
    })
}

/// Whether the key at `path` needs a password.
///
/// # Errors
/// [`SignError::Read`], [`SignError::NotASecretKey`].
pub fn is_encrypted(path: &Path) -> Result<bool, SignError> {
    let text = read(path)?;
    // letters of the algorithm, then those of the key derivation: none is two zero bytes
    let digits = text.lines().nth(1).map(str::trim).unwrap_or_default();
    match digits.get(..6) {
        Some("RWQAAE") => Ok(false),
        Some(start) if start.starts_with("RWRTY") => Ok(true),
        _ => Err(SignError::NotASecretKey {
            path: path.to_owned(),
            reason: "it does not begin as one; is it the public key?".to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<String, SignError> {
    let error = |source| SignError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(error)?.len();
    if length > MAX_KEY_LEN {
        let reason = format!("it has {length} bytes");
        return Err(SignError::NotASecretKey { path: path.to_owned(), reason });
    }
    fs::read_to_string(path).map_err(error)
}

impl SigningKey {
    /// Opens the key at `path`; `password` is not looked at when the key has none.
    ///
    /// # Errors
    /// [`SignError::Read`], [`SignError::NotASecretKey`], [`SignError::Password`].
    pub fn open(path: &Path, password: &str) -> Result<Self, SignError> {
        let encrypted = is_encrypted(path)?;
        let owned = path.to_owned();
        let secret = if encrypted {
            // it would be asked for on the terminal when it were absent
            SecretKeyBox::from(read(path)?)
                .into_secret_key(Some(password.to_owned()))
                .map_err(|e| SignError::Password { path: owned.clone(), reason: e.to_string() })?
        } else {
            open_plain(&read(path)?)
                .map_err(|reason| SignError::NotASecretKey { path: owned.clone(), reason })?
        };
        let not_a_key = |reason: String| SignError::NotASecretKey { path: owned.clone(), reason };
        let public =
            minisign::PublicKey::from_secret_key(&secret).map_err(|e| not_a_key(e.to_string()))?;
        let public: PublicKey = public
            .to_base64()
            .parse()
            .map_err(|_| not_a_key("it has no public half".to_owned()))?;
        Ok(Self { secret, public })
    }

    /// What nodes must trust.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the bytes of a manifest.
    ///
    /// # Errors
    /// [`SignError::Failed`].
    pub fn sign(
        &self,
        manifest: &[u8],
        name: &str,
        revision: &str,
        time: UnixTime,
    ) -> Result<Vec<u8>, SignError> {
        let trusted = TrustedComment::text(time, name, revision);
        let untrusted = format!("signature from beeswarm secret key {}", self.public.id());
        let signed = minisign::sign(None, &self.secret, manifest, Some(&trusted), Some(&untrusted))
            .map_err(|e| failed("sign", &e))?
            .to_bytes();
        // a signature that does not verify must not go out: memory errs, too
        signature::verify(std::slice::from_ref(&self.public), manifest, &signed).map_err(|e| {
            SignError::Failed { what: "sign", reason: format!("own signature is wrong: {e}") }
        })?;
        Ok(signed)
    }

    /// Signs a revision of the store.
    ///
    /// # Errors
    /// [`SignError::Store`], [`SignError::Failed`].
    pub fn sign_revision(
        &self,
        store: &store::Store,
        revision: &RevisionDir,
        time: UnixTime,
    ) -> Result<(), SignError> {
        let manifest = revision.manifest_bytes().map_err(SignError::Store)?;
        let reference = revision.reference();
        let bytes = self.sign(&manifest, reference.name.as_str(), reference.id.as_str(), time)?;
        store.put_signature(reference, &bytes).map_err(SignError::Store)
    }
}

/// A key without a password. `minisign -G -W` writes zeros for its checksum, which the crate takes for
/// damage.
fn open_plain(text: &str) -> Result<SecretKey, String> {
    let error = match SecretKeyBox::from(text.to_owned()).into_unencrypted_secret_key() {
        Ok(key) => return Ok(key),
        Err(error) => error.to_string(),
    };
    let digits = text.lines().nth(1).map(str::trim).unwrap_or_default();
    let bytes = Base64::decode_to_vec(digits, None).map_err(|e| e.to_string())?;
    match bytes.split_last_chunk::<CHECKSUM>() {
        Some((_, checksum)) if *checksum == [0; CHECKSUM] => {
            SecretKey::from_bytes(&bytes).map_err(|e| e.to_string())
        }
        _ => Err(error),
    }
}

/// A public key as it is given on the command line: 56 digits, or the path of a `.pub` file.
///
/// # Errors
/// [`SignError::PublicKey`], [`SignError::Read`].
pub fn public_key(given: &str) -> Result<PublicKey, SignError> {
    if let Ok(key) = given.parse() {
        return Ok(key);
    }
    let wrong = || SignError::PublicKey { given: given.to_owned() };
    let path = Path::new(given);
    if !path.exists() {
        return Err(wrong());
    }
    read(path)?.parse().map_err(|_| wrong())
}

/// Why a revision does not count as signed.
#[derive(Debug, thiserror::Error)]
pub enum Unsigned {
    /// No signature at all.
    #[error("it is not signed: `bee-packer sign {0}`")]
    Missing(store::RevisionRef),
    /// One that does not count.
    #[error(transparent)]
    Signature(SignatureError),
    /// The comment is of another revision: signed by mistake.
    #[error("its signature says {said}, but it is {found}: sign it again")]
    Comment {
        /// In the trusted comment.
        said: String,
        /// What it is.
        found: String,
    },
}

/// Checks that one of `keys` signed the manifest of `revision`.
///
/// # Errors
/// The outer ones are those of reading.
pub fn check(
    revision: &RevisionDir,
    keys: &[PublicKey],
) -> Result<Result<Signed, Unsigned>, StoreError> {
    let manifest = revision.manifest_bytes()?;
    let reference = revision.reference();
    let Some(bytes) = revision.signature()? else {
        return Ok(Err(Unsigned::Missing(reference.clone())));
    };
    let signed = match signature::verify(keys, &manifest, &bytes) {
        Ok(signed) => signed,
        Err(error) => return Ok(Err(Unsigned::Signature(error))),
    };
    for (said, found) in [
        (&signed.comment.name, reference.name.as_str()),
        (&signed.comment.revision, reference.id.as_str()),
    ] {
        if let Some(said) = said.as_deref().filter(|said| *said != found) {
            let (said, found) = (said.to_owned(), found.to_owned());
            return Ok(Err(Unsigned::Comment { said, found }));
        }
    }
    Ok(Ok(signed))
}

/// Whose signature a revision claims to have, unchecked; `None` without a signature that can be read.
///
/// # Errors
/// [`StoreError::Read`].
pub fn claimed(revision: &RevisionDir) -> Result<Option<(KeyId, TrustedComment)>, StoreError> {
    let bytes = revision.signature()?;
    let signed = bytes.and_then(|bytes| signature::claimed(&bytes).ok());
    Ok(signed.map(|signed| (signed.key, signed.comment)))
}

#[cfg(test)]
mod tests;
