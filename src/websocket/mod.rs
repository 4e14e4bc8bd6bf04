//! A WebSocket after its 101: the two raw streams leave the HTTP machinery and are copied until one side ends.
//!
//! [`handover`] gets the streams out of a request, [`relay`] copies, [`frames`] knows where one frame ends and the
//! next begins, so that a close frame of ours never lands inside a message.

pub mod frames;
pub mod handover;
pub mod relay;
