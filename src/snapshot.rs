//! Everything derived from one accepted configuration. Immutable; a request keeps the one it began with.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;

use crate::acme::Authority;
use crate::config::{self, App, ByteSize, Config, HostPattern};
use crate::dns::Dns;
use crate::guard::{self, Exposure, Policy};
use crate::routing::HostTable;
use crate::tls::ClientAuth;
use crate::upstream::Upstream;

/// One generation of the configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts accepted configurations since the start, from 1.
    pub generation: u64,
    pub config: Config,
    pub routes: HostTable<Route>,
    /// In the order of the file.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The accounts of `dns`; the same as before as long as they are configured alike.
    pub dns: Arc<Dns>,
    /// Whom certificates are asked of; `None` if no host wants any.
    pub authority: Option<Arc<Authority>>,
}

/// What is done with the requests for one host.
#[derive(Debug)]
pub struct Route {
    /// As configured; the only spelling that reaches metrics.
    pub name: Arc<str>,
    pub app: App,
    pub upstream: Arc<Upstream>,
    /// The largest request body.
    pub body_size: Option<ByteSize>,
    pub strict_transport_security: Option<HeaderValue>,
    pub security_headers: bool,
    /// What the guard goes by.
    pub policy: Arc<Policy>,
    /// Paths that strangers may read besides those of a login.
    pub public_paths: Vec<String>,
    /// A closed host: connections must have been made with these settings.
    pub client_auth: Option<Arc<ClientAuth>>,
}

impl Snapshot {
    /// Whether the two do the same, whatever their generations.
    pub fn is_like(&self, other: &Self) -> bool {
        let same_upstreams = self.upstreams.iter().zip(&other.upstreams).all(|(a, b)| Arc::ptr_eq(a, b));
        let auth = |snapshot: &Self| -> Vec<_> {
            let routes = snapshot.config.hosts.iter().filter_map(|host| snapshot.routes.named(&host.name));
            routes.map(|route| route.client_auth.as_ref().map(Arc::as_ptr)).collect()
        };
        let same_authority = match (&self.authority, &other.authority) {
            (Some(own), Some(others)) => own.is_like(others),
            (own, others) => own.is_none() && others.is_none(),
        };
        self.config == other.config && same_upstreams && auth(self) == auth(other) && same_authority
    }

    /// Compiles `config`. `upstreams` belong to its hosts, in the same order; `client_auth` to those that are closed.
    pub fn new(
        generation: u64,
        config: Config,
        upstreams: Vec<Arc<Upstream>>,
        client_auth: &HashMap<HostPattern, Arc<ClientAuth>>,
        dns: Arc<Dns>,
        authority: Option<Arc<Authority>>,
    ) -> Self {
        let mut routes = HostTable::default();
        let shared = Arc::new(config.guard.clone());
        for (host, upstream) in config.hosts.iter().zip(&upstreams) {
            let max_age = host.strict_transport_security.as_secs();
            let route = Arc::new(Route {
                name: upstream.host.clone(),
                app: host.app,
                upstream: upstream.clone(),
                body_size: host.body_size,
                strict_transport_security: (max_age > 0).then(|| {
                    HeaderValue::try_from(format!("max-age={max_age}")).expect("digits are a valid field value")
                }),
                security_headers: host.security_headers,
                policy: Arc::new(policy(host, &upstream.host, &shared)),
                public_paths: host.public_paths.clone(),
                client_auth: client_auth.get(&host.name).cloned(),
            });
            for name in std::iter::once(&host.name).chain(&host.aliases) {
                routes.insert(name, route.clone());
            }
        }
        Self { generation, config, routes, upstreams, dns, authority }
    }
}

fn policy(host: &config::Host, name: &Arc<str>, shared: &Arc<config::Guard>) -> Policy {
    Policy {
        guard: shared.clone(),
        host: name.clone(),
        exposure: Exposure { surface: host.surface, onboarding: host.onboarding },
        rate_limits: host.rate_limits,
        host_id: guard::host_id(name),
        has_own_limits: host.rate_limits != shared.rate_limits,
    }
}
