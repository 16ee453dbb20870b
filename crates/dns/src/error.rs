//! What can be wrong with a query, where, and what is answered to it.

use crate::outcome::Rcode;

/// Why a message was not accepted as a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {at}", kind.what())]
pub struct QueryError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Offset in the message of the field that is wrong.
    pub at: usize,
}

/// The kinds of [`QueryError`]: a bounded set, used as a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorKind {
    /// Shorter than the 12 bytes of a header (RFC 1035 §4.1.1).
    Short,
    /// The QR bit is set.
    Response,
    /// An opcode other than QUERY.
    Opcode,
    /// Not exactly one question.
    QuestionCount,
    /// Records in the answer or authority section of a query.
    UnexpectedRecords,
    /// A label longer than 63 bytes, or of a reserved type.
    Label,
    /// A compression pointer in the question's name.
    Pointer,
    /// A name longer than 255 bytes.
    NameLength,
    /// The message ends inside a field.
    Truncated,
    /// A question for OPT, or of type 0.
    QuestionType,
    /// The OPT record's owner is not the root (RFC 6891 §6.1.2).
    OptName,
    /// More than one OPT record (RFC 6891 §6.1.1).
    OptTwice,
    /// An EDNS version above 0.
    EdnsVersion,
    /// An EDNS option runs over the end of its OPT record.
    OptionLength,
    /// Two client subnet options.
    EcsTwice,
    /// A client subnet option shorter than its fixed part (RFC 7871 §6).
    EcsShort,
    /// An unknown address family.
    EcsFamily,
    /// A source prefix longer than the family's addresses.
    EcsSource,
    /// A scope other than 0 in a query.
    EcsScope,
    /// Not as many address bytes as the source prefix needs.
    EcsAddress,
    /// Bits set beyond the source prefix.
    EcsBits,
    /// A cookie option that is neither 8 nor 16 to 40 bytes long (RFC 7873 §5.2.2).
    CookieLength,
    /// A keepalive option with data in a query (RFC 7828 §3.2.1).
    KeepaliveData,
    /// A keepalive option over QUIC, a protocol error that ends the connection (RFC 9250 §4.3.3).
    KeepaliveQuic,
    /// Bytes after the last record.
    TrailingBytes,
}

impl ErrorKind {
    /// Every kind, in the order of their discriminants.
    pub const ALL: [ErrorKind; 25] = [
        ErrorKind::Short,
        ErrorKind::Response,
        ErrorKind::Opcode,
        ErrorKind::QuestionCount,
        ErrorKind::UnexpectedRecords,
        ErrorKind::Label,
        ErrorKind::Pointer,
        ErrorKind::NameLength,
        ErrorKind::Truncated,
        ErrorKind::QuestionType,
        ErrorKind::OptName,
        ErrorKind::OptTwice,
        ErrorKind::EdnsVersion,
        ErrorKind::OptionLength,
        ErrorKind::EcsTwice,
        ErrorKind::EcsShort,
        ErrorKind::EcsFamily,
        ErrorKind::EcsSource,
        ErrorKind::EcsScope,
        ErrorKind::EcsAddress,
        ErrorKind::EcsBits,
        ErrorKind::CookieLength,
        ErrorKind::KeepaliveData,
        ErrorKind::KeepaliveQuic,
        ErrorKind::TrailingBytes,
    ];

    /// Snake-case label for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Short => "short",
            ErrorKind::Response => "response",
            ErrorKind::Opcode => "opcode",
            ErrorKind::QuestionCount => "question_count",
            ErrorKind::UnexpectedRecords => "unexpected_records",
            ErrorKind::Label => "label",
            ErrorKind::Pointer => "pointer",
            ErrorKind::NameLength => "name_length",
            ErrorKind::Truncated => "truncated",
            ErrorKind::QuestionType => "question_type",
            ErrorKind::OptName => "opt_name",
            ErrorKind::OptTwice => "opt_twice",
            ErrorKind::EdnsVersion => "edns_version",
            ErrorKind::OptionLength => "option_length",
            ErrorKind::EcsTwice => "ecs_twice",
            ErrorKind::EcsShort => "ecs_short",
            ErrorKind::EcsFamily => "ecs_family",
            ErrorKind::EcsSource => "ecs_source",
            ErrorKind::EcsScope => "ecs_scope",
            ErrorKind::EcsAddress => "ecs_address",
            ErrorKind::EcsBits => "ecs_bits",
            ErrorKind::CookieLength => "cookie_length",
            ErrorKind::KeepaliveData => "keepalive_data",
            ErrorKind::KeepaliveQuic => "keepalive_quic",
            ErrorKind::TrailingBytes => "trailing_bytes",
        }
    }

    /// What is wrong, for people.
    pub fn what(self) -> &'static str {
        match self {
            ErrorKind::Short => "message shorter than a header",
            ErrorKind::Response => "a response where a query was expected",
            ErrorKind::Opcode => "opcode other than QUERY",
            ErrorKind::QuestionCount => "not exactly one question",
            ErrorKind::UnexpectedRecords => "answer or authority records in a query",
            ErrorKind::Label => "label longer than 63 bytes or of a reserved type",
            ErrorKind::Pointer => "compression pointer in the question",
            ErrorKind::NameLength => "name longer than 255 bytes",
            ErrorKind::Truncated => "message ends inside a field",
            ErrorKind::QuestionType => "question of a type that cannot be asked for",
            ErrorKind::OptName => "OPT record whose owner is not the root",
            ErrorKind::OptTwice => "second OPT record",
            ErrorKind::EdnsVersion => "EDNS version above 0",
            ErrorKind::OptionLength => "EDNS option longer than what is left of its record",
            ErrorKind::EcsTwice => "second client subnet option",
            ErrorKind::EcsShort => "client subnet option shorter than 4 bytes",
            ErrorKind::EcsFamily => "client subnet of an unknown address family",
            ErrorKind::EcsSource => "client subnet with a source prefix out of range",
            ErrorKind::EcsScope => "client subnet with a scope in a query",
            ErrorKind::EcsAddress => "client subnet with a wrong number of address bytes",
            ErrorKind::EcsBits => "client subnet with bits set beyond its prefix",
            ErrorKind::CookieLength => "cookie neither 8 nor 16 to 40 bytes long",
            ErrorKind::KeepaliveData => "keepalive option with a timeout in a query",
            ErrorKind::KeepaliveQuic => "keepalive option over QUIC",
            ErrorKind::TrailingBytes => "bytes after the last record",
        }
    }

    /// The response code it is answered with; `None` when it must not be answered at all: to answer
    /// a response makes two servers talk for ever.
    pub fn rcode(self) -> Option<Rcode> {
        match self {
            ErrorKind::Short | ErrorKind::Response => None,
            ErrorKind::Opcode => Some(Rcode::NotImp),
            ErrorKind::EdnsVersion => Some(Rcode::BadVers),
            _ => Some(Rcode::FormErr),
        }
    }

    /// At an offset.
    pub(crate) fn at(self, at: usize) -> QueryError {
        QueryError { kind: self, at }
    }
}

impl QueryError {
    /// The label of its kind.
    pub fn kind(&self) -> &'static str {
        self.kind.as_str()
    }
}
