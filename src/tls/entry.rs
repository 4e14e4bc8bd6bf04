//! The life of one host's certificate: the first load, changes of its files, renewal, expiry.
//!
//! An entry always holds a certificate to serve. Looking at it again may bring a better one; a
//! failure is remembered, told once and tried again at the next look, and the old one stays, even
//! past its expiry: a warning in the browser is better than no door.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::certificate::{Certificate, CertificateError, Validity};
use super::news::{CertificateFacts, CertificateOrigin, CertificateWarning, RefreshOutcome};
use super::self_signed::{self, PemPair, text};
use super::stamp::PairStamp;
use crate::config::{CertificateFiles, HostPattern, OnFailure};

/// What one host of the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateEntry {
    /// The host and its aliases; an entry without any name is left out.
    pub names: Vec<HostPattern>,
    pub source: EntrySource,
}

/// Where a host's certificate is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntrySource {
    /// Made and kept by this room.
    SelfSigned,
    /// They must be there, and in force.
    Files(CertificateFiles),
    /// Written by the gate once an authority has issued it, chain and key in one file; served whatever its age.
    Issued { file: PathBuf, until_then: OnFailure },
}

/// One host with the certificate that serves it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    names: Arc<[HostPattern]>,
    certificate: Certificate,
    source: Source,
    /// What takes the place of `source` once it is there.
    awaited: Option<Awaited>,
    failure: Option<Failure>,
    warned: Option<SystemTime>,
}

#[derive(Debug, Clone)]
enum Source {
    Files {
        files: CertificateFiles,
        /// How the files looked when they were last read.
        seen: PairStamp,
        /// Read a second time since `seen` was new.
        settled: bool,
        origin: CertificateOrigin,
    },
    SelfSigned {
        files: CertificateFiles,
        /// Served already, but not on disk yet.
        unsaved: Option<Arc<PemPair>>,
    },
}

/// A file that an issued certificate will be in.
#[derive(Debug, Clone)]
struct Awaited {
    files: CertificateFiles,
    until_then: OnFailure,
}

#[derive(Debug, Clone)]
struct Failure {
    error: CertificateError,
    told: bool,
}

impl Entry {
    /// Loads what `wanted` asks for, falling back on the entry of `serving` with the same files.
    /// Writes nothing; [`Entry::save`] does.
    pub(super) fn prepare(
        wanted: &CertificateEntry,
        serving: &[Entry],
        state_directory: &Path,
        now: SystemTime,
        warnings: &mut Vec<CertificateWarning>,
    ) -> Result<Option<Self>, CertificateError> {
        let Some(host) = wanted.names.first() else { return Ok(None) };
        let self_signed = self_signed::files(state_directory, host);
        let entry = match &wanted.source {
            EntrySource::Files(files) => {
                Self::from_files(&wanted.names, files, CertificateOrigin::Files, serving, now, warnings)?
            }
            EntrySource::SelfSigned => Self::from_self_signed(&wanted.names, self_signed, serving, now, warnings)?,
            EntrySource::Issued { file, until_then } => {
                let files = CertificateFiles { chain_file: file.clone(), key_file: file.clone() };
                match Self::from_files(&wanted.names, &files, CertificateOrigin::Acme, serving, now, warnings) {
                    Ok(entry) => entry,
                    Err(error) => {
                        if file.exists() {
                            warnings.push(CertificateWarning::IssuedUnusable { host: text(host), error });
                        }
                        let entry = match Self::standing_in(&wanted.names, serving, now) {
                            Some(entry) => entry,
                            // Made also if it is not to be shown, so that a reload may change that at once.
                            None => Self::from_self_signed(&wanted.names, self_signed, serving, now, warnings)?,
                        };
                        Self { awaited: Some(Awaited { files, until_then: *until_then }), ..entry }
                    }
                }
            }
        };
        Ok(Some(entry))
    }

    fn from_files(
        names: &[HostPattern],
        files: &CertificateFiles,
        origin: CertificateOrigin,
        serving: &[Entry],
        now: SystemTime,
        warnings: &mut Vec<CertificateWarning>,
    ) -> Result<Self, CertificateError> {
        let previous = serving.iter().find(|entry| entry.follows(files));
        // Before reading: a change in between then shows at the next look.
        let seen = PairStamp::of(files);
        let entry = match (Certificate::load_with(files, validity(origin, now)), previous) {
            (Ok(certificate), previous) => Self {
                names: names.into(),
                warned: previous.filter(|entry| entry.certificate.is_same(&certificate)).and_then(|entry| entry.warned),
                certificate,
                source: Source::Files { files: files.clone(), seen, settled: false, origin },
                awaited: None,
                failure: None,
            },
            (Err(error), Some(previous)) => {
                warnings.push(CertificateWarning::Kept { host: text_of_first(names), error: error.clone() });
                Self { names: names.into(), failure: Some(Failure { error, told: true }), ..previous.clone() }
            }
            (Err(error), None) => return Err(error),
        };
        let uncovered = entry.certificate.uncovered(names);
        warnings.extend(
            uncovered
                .into_iter()
                .map(|name| CertificateWarning::Uncovered { name: text(name), chain_file: files.chain_file.clone() }),
        );
        Ok(entry)
    }

    /// What serves these names already, by somebody's word, and goes on until the gate has its own: nobody who changes
    /// from certbot to the gate is shown a warning in between.
    fn standing_in(names: &[HostPattern], serving: &[Entry], now: SystemTime) -> Option<Self> {
        let is_good = |entry: &&Entry| {
            matches!(entry.source, Source::Files { .. })
                && entry.certificate.uncovered(names).is_empty()
                && now <= entry.certificate.not_after()
        };
        let entry = serving.iter().find(is_good)?.clone();
        Some(Self { names: names.into(), ..entry })
    }

    fn from_self_signed(
        names: &[HostPattern],
        files: CertificateFiles,
        serving: &[Entry],
        now: SystemTime,
        warnings: &mut Vec<CertificateWarning>,
    ) -> Result<Self, CertificateError> {
        // What is served comes first, for it may not be on disk (a full or read-only one).
        let previous = serving.iter().find(|entry| {
            matches!(&entry.source, Source::SelfSigned { files: own, .. } if *own == files)
                && !self_signed::is_due(&entry.certificate, names, now)
        });
        if let Some(previous) = previous {
            return Ok(Self { names: names.into(), awaited: None, ..previous.clone() });
        }
        let (certificate, unsaved) = match self_signed::load(&files) {
            Ok(certificate) if !self_signed::is_due(&certificate, names, now) => (certificate, None),
            found => {
                if let Err(error) = found
                    && (files.chain_file.exists() || files.key_file.exists())
                {
                    warnings.push(CertificateWarning::SelfSignedReplaced { host: text_of_first(names), error });
                }
                let (certificate, pair) = self_signed::make(names, &files, now)?;
                (certificate, Some(Arc::new(pair)))
            }
        };
        let source = Source::SelfSigned { files, unsaved };
        Ok(Self { names: names.into(), certificate, source, awaited: None, failure: None, warned: None })
    }

    /// Writes a self-signed certificate that is not on disk yet. The error is also remembered, and
    /// the next look tries again.
    pub(super) fn save(&mut self) -> Result<(), CertificateError> {
        let Source::SelfSigned { files, unsaved } = &mut self.source else { return Ok(()) };
        let Some(pair) = unsaved else { return Ok(()) };
        if let Err(error) = self_signed::save(files, pair) {
            self.failure = Some(Failure { error: error.clone(), told: true });
            return Err(error);
        }
        *unsaved = None;
        self.failure = None;
        Ok(())
    }

    /// Looks at the files and the age; see [`RefreshOutcome`] for what can come of it.
    pub(super) fn look(&mut self, now: SystemTime) -> Vec<RefreshOutcome> {
        if let Some(issued) = self.look_for_issued() {
            return vec![issued];
        }
        let news = match self.source.clone() {
            Source::Files { files, seen, settled, origin } => self.look_at_files(&files, &seen, settled, origin, now),
            Source::SelfSigned { files, unsaved } => self.look_at_self_signed(&files, unsaved, now),
        };
        let aging = self.look_at_age(now);
        news.into_iter().chain(aging).collect()
    }

    /// An issued certificate that has come takes over. One that cannot be used is nothing yet: who wrote it has
    /// checked it before, so it will be written again.
    fn look_for_issued(&mut self) -> Option<RefreshOutcome> {
        let files = &self.awaited.as_ref()?.files;
        let seen = PairStamp::of(files);
        let certificate = Certificate::load_with(files, Validity::Ignored).ok()?;
        self.source = Source::Files { files: files.clone(), seen, settled: false, origin: CertificateOrigin::Acme };
        self.awaited = None;
        self.failure = None;
        self.replace(certificate)
    }

    fn look_at_files(
        &mut self,
        files: &CertificateFiles,
        seen: &PairStamp,
        settled: bool,
        origin: CertificateOrigin,
        now: SystemTime,
    ) -> Option<RefreshOutcome> {
        let stamp = PairStamp::of(files);
        let has_changed = stamp != *seen;
        if !has_changed && settled && self.failure.is_none() {
            return None;
        }
        // What was just found changed is read once more at the next look, whatever its stamp says:
        // a second write within one tick of the file system's clock does not show in the stamp.
        self.source = Source::Files { files: files.clone(), seen: stamp, settled: !has_changed, origin };
        match Certificate::load_with(files, validity(origin, now)) {
            Ok(certificate) => {
                self.failure = None;
                self.replace(certificate)
            }
            Err(error) => self.fail(error),
        }
    }

    fn look_at_self_signed(
        &mut self,
        files: &CertificateFiles,
        unsaved: Option<Arc<PemPair>>,
        now: SystemTime,
    ) -> Option<RefreshOutcome> {
        if let Some(pair) = unsaved {
            return match self_signed::save(files, &pair) {
                Ok(()) => {
                    self.failure = None;
                    self.source = Source::SelfSigned { files: files.clone(), unsaved: None };
                    None
                }
                Err(error) => self.fail(error),
            };
        }
        if !self_signed::is_due(&self.certificate, &self.names, now) {
            return None;
        }
        // Saved before it is served: clients should not learn to trust one that a restart forgets.
        let made = self_signed::make(&self.names, files, now)
            .and_then(|(certificate, pair)| self_signed::save(files, &pair).map(|()| certificate));
        match made {
            Ok(certificate) => {
                self.failure = None;
                self.certificate = certificate;
                Some(RefreshOutcome::Renewed { host: self.host(), not_after: self.certificate.not_after() })
            }
            Err(error) => self.fail(error),
        }
    }

    fn look_at_age(&mut self, now: SystemTime) -> Option<RefreshOutcome> {
        let (not_before, not_after) = (self.certificate.not_before(), self.certificate.not_after());
        let life = not_after.duration_since(not_before).unwrap_or_default();
        let is_expired = now > not_after;
        let left = not_after.duration_since(now).unwrap_or_default();
        if left > EXPIRY_WARNING.min(life / 3) {
            self.warned = None;
            return None;
        }
        let is_told = self.warned.is_some_and(|warned| {
            let is_recent = now.duration_since(warned).is_ok_and(|since| since < WARNING_INTERVAL);
            is_recent && (!is_expired || warned > not_after)
        });
        if is_told {
            return None;
        }
        self.warned = Some(now);
        let host = self.host();
        Some(match is_expired {
            true => RefreshOutcome::Expired { host, not_after },
            false => RefreshOutcome::ExpiresSoon { host, not_after },
        })
    }

    fn replace(&mut self, certificate: Certificate) -> Option<RefreshOutcome> {
        if certificate.is_same(&self.certificate) {
            return None;
        }
        self.certificate = certificate;
        Some(RefreshOutcome::Replaced {
            host: self.host(),
            not_after: self.certificate.not_after(),
            uncovered: self.certificate.uncovered(&self.names).into_iter().map(text).collect(),
        })
    }

    /// Remembers `error` and keeps the certificate.
    ///
    /// The first failure after good looks is not told yet. Chain and key are two files (with
    /// certbot two links) that are written one after the other, and a look in between finds a pair
    /// that does not match, half a file or none. That is over by the next look; what still fails
    /// then is told, once for each distinct error.
    fn fail(&mut self, error: CertificateError) -> Option<RefreshOutcome> {
        let is_new = !self.failure.as_ref().is_some_and(|last| last.told && last.error == error);
        let told = self.failure.is_some();
        self.failure = Some(Failure { error: error.clone(), told });
        (told && is_new).then(|| RefreshOutcome::Failed { host: self.host(), error })
    }

    pub(super) fn names(&self) -> &[HostPattern] {
        &self.names
    }

    /// What clients are shown; `None` ends their handshake.
    pub(super) fn certificate(&self) -> Option<&Certificate> {
        let refuses = self.awaited.as_ref().is_some_and(|awaited| awaited.until_then == OnFailure::Refuse);
        let is_refused = refuses && matches!(self.source, Source::SelfSigned { .. });
        (!is_refused).then_some(&self.certificate)
    }

    pub(super) fn host(&self) -> String {
        text_of_first(&self.names)
    }

    /// `None` while there is nothing to show.
    pub(super) fn facts(&self) -> Option<CertificateFacts> {
        let certificate = self.certificate()?;
        Some(CertificateFacts {
            host: self.host(),
            names: self.names.iter().map(text).collect(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            origin: match self.source {
                Source::SelfSigned { .. } => CertificateOrigin::SelfSigned,
                Source::Files { origin, .. } => origin,
            },
            sha256: certificate.sha256(),
            last_error: self.failure.as_ref().filter(|last| last.told).map(|last| last.error.to_string()),
        })
    }

    fn follows(&self, wanted: &CertificateFiles) -> bool {
        matches!(&self.source, Source::Files { files, .. } if files == wanted)
    }
}

/// What the gate was issued is served to the end and beyond: it knows best when to ask again, and this machine's clock
/// may be wrong for a moment after power-on.
fn validity(origin: CertificateOrigin, now: SystemTime) -> Validity {
    match origin {
        CertificateOrigin::Acme => Validity::Ignored,
        CertificateOrigin::Files | CertificateOrigin::SelfSigned => Validity::At(now),
    }
}

fn text_of_first(names: &[HostPattern]) -> String {
    names.first().map(text).unwrap_or_default()
}

/// certbot renews 30 days before the end, so one week left means it has failed for three.
const EXPIRY_WARNING: Duration = Duration::from_secs(7 * 24 * 3600);

const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests;
