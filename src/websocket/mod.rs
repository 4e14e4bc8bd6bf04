//! A WebSocket after its 101: the two raw streams leave the HTTP machinery and are copied until one side ends.
//!
//! [`handover`] gets the streams out of a request. Where an application logs in over the WebSocket, [`greet`] reads along
//! until the verdict: [`login`] is its state machine, over [`message`] and [`deflate`]. [`relay`] copies and reads
//! nothing; [`frames`] knows where one frame ends and the next begins, so that a close frame of ours never lands inside
//! a message.

pub mod deflate;
pub mod frames;
pub mod greet;
pub mod handover;
pub mod login;
pub mod message;
pub mod relay;

#[cfg(test)]
mod fixtures;
