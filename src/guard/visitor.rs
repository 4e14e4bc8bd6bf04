//! May this request pass? The ordered list of what the guard asks, cheapest first, as pure functions.

use std::time::Duration;

use crate::app::Reach;
use crate::client::{ClientAddr, ClientKey};
use crate::config::{RequestClass, Surface};
use crate::denial::Denial;

/// By whom something is counted: strangers by their address, known devices by themselves, so that neither pays for
/// what the other does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    Client(ClientKey),
    Device(u64),
}

impl Who {
    pub fn is_stranger(self) -> bool {
        matches!(self, Self::Client(_))
    }
}

/// Who asks, as far as the guard can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    pub client: ClientAddr,
    /// It has shown a credential that was accepted once, by which it is counted apart from strangers.
    pub device: Option<u64>,
    /// That credential is good now.
    pub is_proven: bool,
    /// A session was proven from this address, recently enough to read by it.
    pub may_read: bool,
    /// A session was proven from this address by a device that is still known.
    pub is_home: bool,
    /// Its address is in force of a ban; never set for addresses that are never banned.
    pub banned: Option<Duration>,
}

impl Visitor {
    pub fn who(&self) -> Who {
        self.device.map_or(Who::Client(self.client.key()), Who::Device)
    }
}

/// What is asked, in the guard's terms.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub class: RequestClass,
    pub reach: Reach,
    /// GET or HEAD.
    pub is_read: bool,
    pub is_upgrade: bool,
    /// It opens a WebSocket in whose first message the client says who it is.
    pub says_later: bool,
    /// It carries a credential that is yet to be proven.
    pub will_be_proven: bool,
    /// It may be a guess.
    pub is_attempt: bool,
}

/// What a host shows to whom.
#[derive(Debug, Clone, Copy)]
pub struct Exposure {
    pub surface: Surface,
    pub onboarding: bool,
}

/// Whether a ban holds for this request. Behind a banned address with a home, what carries no guess may be read, and a
/// WebSocket may say who it is.
pub fn check_ban(visitor: &Visitor, asked: &Asked) -> Result<(), (Denial, Duration)> {
    let Some(left) = visitor.banned.filter(|_| visitor.device.is_none()) else { return Ok(()) };
    let harmless = asked.is_read && !asked.is_attempt && !asked.will_be_proven;
    // The apps report where they are without any proof but the address of the hook.
    let reports = asked.class == RequestClass::Webhook && asked.reach == Reach::Capability;
    if visitor.is_home && (harmless || reports || asked.says_later) {
        return Ok(());
    }
    Err((Denial::Banned, left))
}

/// Whether the host shows this to the visitor.
pub fn check_surface(visitor: &Visitor, asked: &Asked, exposure: Exposure) -> Result<(), Denial> {
    if asked.reach == Reach::Onboarding && !exposure.onboarding {
        return Err(Denial::Onboarding);
    }
    if exposure.surface != Surface::Login || visitor.is_proven {
        return Ok(());
    }
    match asked.reach {
        Reach::Login | Reach::Capability | Reach::Onboarding => Ok(()),
        Reach::Odd => Err(Denial::OddPath),
        Reach::Session if visitor.may_read && asked.is_read && !asked.is_upgrade => Ok(()),
        Reach::Session if asked.will_be_proven => Ok(()),
        Reach::Session if asked.class == RequestClass::Api => Err(Denial::Unproven),
        Reach::Session => Err(Denial::NotPublic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger() -> Visitor {
        Visitor {
            client: ClientAddr::new([203, 0, 113, 9].into()),
            device: None,
            is_proven: false,
            may_read: false,
            is_home: false,
            banned: None,
        }
    }

    fn asked(class: RequestClass, reach: Reach) -> Asked {
        Asked {
            class,
            reach,
            is_read: true,
            is_upgrade: false,
            says_later: false,
            will_be_proven: false,
            is_attempt: false,
        }
    }

    const LOGIN: Exposure = Exposure { surface: Surface::Login, onboarding: false };

    #[test]
    fn a_stranger_reaches_the_login_and_nothing_behind_it() {
        let surface = |reach| check_surface(&stranger(), &asked(RequestClass::Api, reach), LOGIN);
        assert_eq!(surface(Reach::Login), Ok(()));
        assert_eq!(surface(Reach::Capability), Ok(()));
        assert_eq!(surface(Reach::Session), Err(Denial::Unproven));
        assert_eq!(surface(Reach::Odd), Err(Denial::OddPath));
        assert_eq!(surface(Reach::Onboarding), Err(Denial::Onboarding));
        let page = asked(RequestClass::Page, Reach::Session);
        assert_eq!(check_surface(&stranger(), &page, LOGIN), Err(Denial::NotPublic));
    }

    #[test]
    fn a_known_device_reaches_everything_but_onboarding_and_its_neighbours_may_read() {
        let device = Visitor { device: Some(1), is_proven: true, ..stranger() };
        let expired = Visitor { device: Some(1), ..stranger() };
        let neighbour = Visitor { may_read: true, ..stranger() };
        let session = asked(RequestClass::Api, Reach::Session);
        let post = Asked { is_read: false, ..session };
        assert_eq!(check_surface(&device, &post, LOGIN), Ok(()));
        assert_eq!(check_surface(&expired, &session, LOGIN), Err(Denial::Unproven));
        assert_eq!(check_surface(&neighbour, &session, LOGIN), Ok(()));
        let upgrade = Asked { is_upgrade: true, ..session };
        assert_eq!(check_surface(&neighbour, &upgrade, LOGIN), Err(Denial::Unproven));
        assert_eq!(check_surface(&neighbour, &post, LOGIN), Err(Denial::Unproven));
        for (reach, device_may, neighbour_may) in [
            (Reach::Odd, Ok(()), Err(Denial::OddPath)),
            (Reach::Onboarding, Err(Denial::Onboarding), Err(Denial::Onboarding)),
        ] {
            assert_eq!(check_surface(&device, &asked(RequestClass::Api, reach), LOGIN), device_may);
            assert_eq!(check_surface(&neighbour, &asked(RequestClass::Api, reach), LOGIN), neighbour_may);
        }
    }

    #[test]
    fn a_ban_leaves_known_devices_alone_and_lets_a_home_read() {
        let left = Duration::from_secs(60);
        let banned = Visitor { banned: Some(left), ..stranger() };
        let home = Visitor { is_home: true, ..banned };
        let device = Visitor { device: Some(1), ..banned };
        let read = asked(RequestClass::Page, Reach::Login);
        let guess = Asked { is_attempt: true, ..read };
        let login = Asked { is_upgrade: true, says_later: true, is_attempt: true, ..read };
        let upgrade = Asked { is_upgrade: true, will_be_proven: true, ..read };
        let report = Asked { is_read: false, ..asked(RequestClass::Webhook, Reach::Capability) };
        assert_eq!(check_ban(&banned, &read), Err((Denial::Banned, left)));
        assert_eq!(check_ban(&banned, &upgrade), Err((Denial::Banned, left)));
        assert_eq!(check_ban(&home, &read), Ok(()));
        assert_eq!(check_ban(&home, &login), Ok(()));
        assert_eq!(check_ban(&home, &report), Ok(()));
        assert_eq!(check_ban(&home, &upgrade), Err((Denial::Banned, left)));
        assert_eq!(check_ban(&banned, &report), Err((Denial::Banned, left)));
        assert_eq!(check_ban(&home, &guess), Err((Denial::Banned, left)));
        for asked in [read, guess, upgrade] {
            assert_eq!(check_ban(&device, &asked), Ok(()));
        }
    }
}
