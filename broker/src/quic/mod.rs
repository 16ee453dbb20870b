//! What the broker's QUIC endpoints have in common.
//!
//! | file | does |
//! |---|---|
//! | [`endpoint`] | binds sockets with secrets that outlive the process |
//! | [`gate`] | bounds how many connections there are at once, in all and of one network |
//! | [`rate`] | a token bucket |

pub mod endpoint;
pub mod gate;
pub mod rate;

pub use endpoint::EndpointError;
