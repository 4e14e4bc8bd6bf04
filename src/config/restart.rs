//! Which differences between two configurations a reload cannot bring about.
//!
//! What is bound, opened or spawned once at the start is named here; every other key is live.

use super::Config;

impl Config {
    /// The dotted keys whose new values take effect only after a restart, in the order of the file.
    pub fn keys_needing_restart(&self, new: &Config) -> Vec<&'static str> {
        let differences = [
            ("listen.https", self.listen.https != new.listen.https),
            ("listen.http", self.listen.http != new.listen.http),
            ("listen.proxy_protocol_from", self.listen.proxy_protocol_from != new.listen.proxy_protocol_from),
            ("listen.public_port", self.listen.public_port != new.listen.public_port),
            ("admin.listen", self.admin.listen != new.admin.listen),
            ("admin.token", self.admin.token != new.admin.token),
            ("admin.socket", self.admin.socket != new.admin.socket),
            ("state_directory", self.state_directory != new.state_directory),
            ("access_log.enabled", self.access_log.enabled != new.access_log.enabled),
            ("access_log.file", self.access_log.file != new.access_log.file),
            ("access_log.redact", self.access_log.redact != new.access_log.redact),
            ("access_log.queue", self.access_log.queue != new.access_log.queue),
            ("reload.watch", self.reload.watch != new.reload.watch),
            ("reload.interval", self.reload.interval != new.reload.interval),
            ("guard.bans.capacity", self.guard.bans.capacity != new.guard.bans.capacity),
        ];
        differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
