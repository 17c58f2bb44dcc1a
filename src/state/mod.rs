//! The state of a topology on the operator's machine: secrets, known hosts, journal, lock (design, section 6).
//!
//! Making a [`StateDir`] and loading from it writes nothing. Every file is 0600 in a directory that is 0700, whatever
//! the umask says, and is replaced as a whole or not at all. Losing the directory is survivable: the servers are the
//! truth. This module makes no secret and decides nothing about one; `pki/` does.

mod error;
mod files;
mod identity;
pub mod journal;
mod lock;
pub mod past;

use std::path::{Path, PathBuf};

use crate::model::secret::Secret;
use crate::pki::{CertificatePair, OperatorSecrets, RolePassword, StoredSecrets, Succession};
use crate::quote::uri;

pub use crate::state::error::StateError;
pub use crate::state::lock::{Holder, RunLock};

const CA: Names = Names { certificate: "ca.crt", key: "ca.key" };
/// The CA that takes the place of the one in `ca.crt`, while that goes on. Where it is complete, it is the CA.
const NEW_CA: Names = Names { certificate: "ca.new.crt", key: "ca.new.key" };
/// What leads from the CA to former ones.
const CHAIN: &str = "ca.chain.crt";
const OPERATOR: Names = Names { certificate: "operator.crt", key: "operator.key" };
const REPLICATION_PASSWORD: &str = "replication.password";
const REPLICATION_VERIFIER: &str = "replication.verifier";
const FORMER_PASSWORD: &str = "replication.former.password";
const FORMER_VERIFIER: &str = "replication.former.verifier";
const KNOWN_HOSTS: &str = "known_hosts";
const JOURNAL: &str = "journal.jsonl";
const LOCK: &str = "lock";

struct Names {
    certificate: &'static str,
    key: &'static str,
}

/// The state directory of one topology. It need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Names a directory; reads and writes nothing.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the known hosts file, which need not exist.
    pub fn known_hosts(&self) -> PathBuf {
        self.path.join(KNOWN_HOSTS)
    }

    /// Returns the path of the CA's certificate, which need not exist.
    pub fn authority(&self) -> PathBuf {
        self.path.join(CA.certificate)
    }

    /// Returns the paths of the files that a CA is read from, which need not exist.
    pub fn authority_files(&self, ca: Option<&CertificatePair>) -> [PathBuf; 2] {
        let holds = |names: &Names| {
            let text = files::read(&self.path.join(names.certificate)).ok().flatten();
            text.is_some() && text.as_ref() == ca.map(|ca| &ca.certificate)
        };
        let names = if !holds(&CA) && holds(&NEW_CA) { &NEW_CA } else { &CA };
        [names.certificate, names.key].map(|name| self.path.join(name))
    }

    /// Loads the secrets that are there.
    ///
    /// A key without its certificate, or a certificate without its key, counts as not there.
    ///
    /// # Errors
    /// A file cannot be read, or others may read a secret or change the directory.
    pub fn load_secrets(&self) -> Result<StoredSecrets, StateError> {
        files::check_directory(&self.path)?;
        // A run may have been killed between two files; a password whose verifier is lost keeps working for standbys that have it.
        let role = |password: &str, verifier: &str| -> Result<Option<RolePassword>, StateError> {
            Ok(match (self.secret(password)?, self.secret(verifier)?) {
                (Some(password), Some(verifier)) => Some(RolePassword::pair(password, verifier)),
                (Some(password), None) => Some(RolePassword::of(password)),
                (None, _) => None,
            })
        };
        let replication = role(REPLICATION_PASSWORD, REPLICATION_VERIFIER)?;
        let former_password = role(FORMER_PASSWORD, FORMER_VERIFIER)?;
        let (new, kept) = (self.pair(&NEW_CA)?, self.pair(&CA)?);
        let is_ended = match &kept {
            Some(kept) => {
                let takes_place = new.as_ref().is_some_and(|new| new.certificate == kept.certificate);
                takes_place || self.secret(NEW_CA.key)?.is_some_and(|key| key == kept.key)
            }
            None => false,
        };
        let (ca, former, succession) = match (new, kept) {
            // Servers have shown that they need the former one no more: only the end of that is missing.
            (Some(new), Some(kept)) if is_ended && new.key == kept.key => (Some(new), None, Succession::Ended),
            (_, Some(kept)) if is_ended => (Some(kept), None, Succession::Ended),
            (Some(new), None) => (Some(new), None, Succession::WithoutFormer),
            (Some(new), kept) => (Some(new), kept, Succession::None),
            (None, kept) => (kept, None, Succession::None),
        };
        Ok(StoredSecrets {
            ca,
            former,
            succession,
            chain: files::read(&self.path.join(CHAIN))?,
            operator: self.pair(&OPERATOR)?,
            replication,
            former_password,
        })
    }

    /// Saves secrets; files that already say the same are left alone.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn save_secrets(&self, secrets: &OperatorSecrets) -> Result<(), StateError> {
        self.create()?;
        if secrets.former.is_some() {
            self.make_room(&secrets.ca)?;
        }
        if !secrets.chain.is_empty() || self.path.join(CHAIN).exists() {
            files::replace(&self.path.join(CHAIN), secrets.chain.as_bytes())?;
        }
        // The former CA stays where it is until no server needs it.
        let ca = if secrets.former.is_some() { &NEW_CA } else { &CA };
        // A key goes before its certificate: a certificate is what says that the pair is complete.
        for (names, pair) in [(ca, &secrets.ca), (&OPERATOR, &secrets.operator)] {
            files::replace(&self.path.join(names.key), pair.key.expose().as_bytes())?;
            files::replace(&self.path.join(names.certificate), pair.certificate.as_bytes())?;
        }
        if secrets.former.is_none() {
            // The certificate first: until it is gone, it says which CA counts.
            files::remove(&self.path.join(NEW_CA.certificate))?;
            files::remove(&self.path.join(NEW_CA.key))?;
        }
        let save = |role: &RolePassword, password: &str, verifier: &str| {
            files::replace(&self.path.join(verifier), role.verifier.expose().as_bytes())?;
            files::replace(&self.path.join(password), role.password.expose().as_bytes())
        };
        // The former password goes only when no server needs it, and is there before its successor is.
        if let Some(former) = &secrets.former_password {
            save(former, FORMER_PASSWORD, FORMER_VERIFIER)?;
        }
        save(&secrets.replication, REPLICATION_PASSWORD, REPLICATION_VERIFIER)?;
        if secrets.former_password.is_none() {
            files::remove(&self.path.join(FORMER_PASSWORD))?;
            files::remove(&self.path.join(FORMER_VERIFIER))?;
        }
        Ok(())
    }

    /// Returns the path of the password that was made for an application's role, which need not exist. A role may be called anything, and a file not.
    pub fn role_password_file(&self, role: &str) -> PathBuf {
        self.path.join(["role.", &uri::token(role), ".password"].concat())
    }

    /// Returns the password that was made for an application's role, where one was.
    ///
    /// # Errors
    /// It cannot be read, or others may read it or change the directory.
    pub fn role_password(&self, role: &str) -> Result<Option<Secret>, StateError> {
        files::check_directory(&self.path)?;
        Ok(files::read_private(&self.role_password_file(role))?.map(Secret::new))
    }

    /// Keeps the password that was made for an application's role; and the one whose place it takes beside it, which may be the one
    /// that the role still has, until [`StateDir::forget_former_role_password`].
    ///
    /// # Errors
    /// The directory or the file cannot be written.
    pub fn save_role_password(&self, role: &str, password: &Secret) -> Result<(), StateError> {
        self.create()?;
        let beside = self.former_role_password_file(role);
        // Of several runs that did not get through the first one knew the password that the role has.
        if let (Some(former), false) = (self.role_password(role)?, beside.exists()) {
            files::replace(&beside, former.expose().as_bytes())?;
        }
        files::replace(&self.role_password_file(role), password.expose().as_bytes())
    }

    /// Forgets the password that an application's role had before: it has another one now.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn forget_former_role_password(&self, role: &str) -> Result<(), StateError> {
        files::remove(&self.former_role_password_file(role))
    }

    fn former_role_password_file(&self, role: &str) -> PathBuf {
        let mut beside = self.role_password_file(role).into_os_string();
        beside.push(".former");
        PathBuf::from(beside)
    }

    /// Takes the lock of a run, or says who holds it. The lock ends with the value, or with the process.
    ///
    /// # Errors
    /// Another run holds the lock, or the lock file cannot be written.
    pub fn lock(&self, holder: &Holder) -> Result<RunLock, StateError> {
        self.create()?;
        let lock = RunLock::take(&self.path.join(LOCK), holder)?;
        identity::make(&self.path)?;
        Ok(lock)
    }

    /// Returns the mark by which runs of this very directory, under this very kernel, know each other's locks on servers; none
    /// where no run was ever begun in it.
    ///
    /// # Errors
    /// The identifier cannot be read, or others may read it.
    pub fn mark(&self) -> Result<Option<String>, StateError> {
        identity::mark(&self.path, &self.path.join(LOCK))
    }

    /// Returns who holds the lock, where somebody does.
    ///
    /// # Errors
    /// The lock file cannot be read.
    pub fn lock_holder(&self) -> Result<Option<Holder>, StateError> {
        lock::holder(&self.path.join(LOCK))
    }

    /// Adds entries to the journal and waits, once, until they are on disk.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn append_journal(&self, entries: &[journal::Entry]) -> Result<(), StateError> {
        self.create()?;
        journal::append(&self.path.join(JOURNAL), entries)
    }

    /// Opens the journal for the lines of a run.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn open_journal(&self) -> Result<journal::JournalFile, StateError> {
        self.create()?;
        journal::JournalFile::open(&self.path.join(JOURNAL))
    }

    /// Reads the journal; none there is an empty one.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn read_journal(&self) -> Result<journal::Journal, StateError> {
        journal::read(&self.path.join(JOURNAL))
    }

    /// Creates the directory where it is missing.
    ///
    /// # Errors
    /// It cannot be created, or others may change it.
    pub fn create(&self) -> Result<(), StateError> {
        files::create_directory(&self.path)
    }

    /// Sees that what is about to become the new CA overwrites no other: servers may have certificates of it already.
    fn make_room(&self, ca: &CertificatePair) -> Result<(), StateError> {
        let [new, kept] = [&NEW_CA, &CA].map(|names| files::read(&self.path.join(names.certificate)));
        match new? {
            Some(new) if new == ca.certificate => Ok(()),
            // It has taken its place. It goes before another key is written: a certificate says that the pair is complete.
            Some(new) if kept?.as_ref() == Some(&new) => files::remove(&self.path.join(NEW_CA.certificate)),
            Some(_) => Err(StateError::AnotherAuthority { path: self.path.join(NEW_CA.certificate) }),
            None => Ok(()),
        }
    }

    fn pair(&self, names: &Names) -> Result<Option<CertificatePair>, StateError> {
        let certificate = files::read(&self.path.join(names.certificate))?;
        let key = self.secret(names.key)?;
        Ok(certificate.zip(key).map(|(certificate, key)| CertificatePair { certificate, key }))
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, StateError> {
        Ok(files::read_private(&self.path.join(name))?.map(Secret::new))
    }
}
