//! Questions of a sandbox to its name server, which is us, and the answers.
//!
//! Invariants: a datagram that is not exactly one plain question of class IN gets no name looked
//! up; an answer holds the question, the given addresses and nothing else of the datagram; an
//! answer is never answered. Sources: RFC 1035, RFC 6891 (EDNS), RFC 8906 (how to refuse),
//! RFC 9619 (one question). Pure.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::A},
    serialize::binary::{BinDecodable, BinDecoder},
};

use crate::domain::{HostName, host::HostError};

/// Bytes of a question that are looked at: what every name server takes without EDNS.
pub(crate) const QUERY_BYTES_MAX: usize = 512;
/// Addresses in one answer: with the longest name it stays under 512 bytes, so nothing is cut.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// What we say we take (RFC 6891 section 6.2.5, the value that DNS flag day 2020 named).
const PAYLOAD_BYTES: u16 = 1_232;
/// Bytes of a name that is no host, as records show it.
const SHOWN_BYTES_MAX: usize = 255;

/// What a datagram is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A question, to be decided about.
    Question(Question),
    /// Not a question that is looked at; this is the answer.
    Answer(Vec<u8>),
    /// Not even that: nothing is sent. An answer to an answer could go round for ever.
    Silence,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// The host that is asked for, or why it is none.
    pub(crate) host: Result<HostName, HostError>,
    /// The name as it was written, bounded and escaped: for records.
    pub(crate) shown: String,
    /// Whether IPv4 addresses are wanted. Everything else about an allowed name is answered with
    /// nothing: there is no IPv6 inside, and no service record leads anywhere.
    pub(crate) wants_ipv4: bool,
    id: u16,
    is_recursion_desired: bool,
    query: Query,
    has_edns: bool,
}

/// Reads one datagram.
pub(crate) fn read(datagram: &[u8]) -> Asked {
    let Ok(header) = Header::read(&mut BinDecoder::new(datagram)) else { return Asked::Silence };
    let metadata = header.metadata;
    if metadata.message_type != MessageType::Query {
        return Asked::Silence;
    }
    let refuse = |code| {
        let mut message = Message::error_msg(metadata.id, metadata.op_code, code);
        message.metadata.recursion_desired = metadata.recursion_desired;
        if code.high() > 0 {
            // The code's upper half travels there.
            message.set_edns(own_edns());
        }
        message.to_vec().map_or(Asked::Silence, Asked::Answer)
    };
    if metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    let counts = header.counts;
    let is_plain = counts.queries == 1
        && counts.answers == 0
        && counts.authorities == 0
        && counts.additionals <= 1
        && !metadata.truncation;
    if !is_plain || datagram.len() > QUERY_BYTES_MAX {
        return refuse(ResponseCode::FormErr);
    }
    let mut decoder = BinDecoder::new(datagram);
    let Ok(message) = Message::read(&mut decoder) else { return refuse(ResponseCode::FormErr) };
    let is_whole = decoder.is_empty() && message.additionals.is_empty();
    let (Some(query), true) = (message.queries.first(), is_whole) else {
        return refuse(ResponseCode::FormErr);
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return refuse(ResponseCode::BADVERS);
    }
    if query.query_class() != DNSClass::IN {
        return refuse(ResponseCode::Refused);
    }
    let (host, shown) = host(query.name());
    Asked::Question(Question {
        host,
        shown,
        wants_ipv4: query.query_type() == RecordType::A,
        id: metadata.id,
        is_recursion_desired: metadata.recursion_desired,
        query: query.clone(),
        has_edns: message.edns.is_some(),
    })
}

/// Ours, without any option of the question.
fn own_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_BYTES);
    edns
}

/// The host behind a name on the wire, whose labels may hold any byte, dots included.
fn host(name: &Name) -> (Result<HostName, HostError>, String) {
    let mut text = String::new();
    let mut strange = None;
    for (at, label) in name.iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        for byte in label {
            if *byte == b'.' || !byte.is_ascii_graphic() {
                strange.get_or_insert(char::from(*byte));
            }
            text.extend(byte.escape_ascii().map(char::from));
        }
    }
    let host = match strange {
        Some(c) => Err(HostError::Character(c)),
        None => HostName::parse(&text),
    };
    text.truncate(SHOWN_BYTES_MAX);
    (host, text)
}

impl Question {
    /// These addresses, at most 8 of them; none means that the name has no address of the kind.
    pub(crate) fn answer(&self, addresses: &[Ipv4Addr], ttl_secs: u32) -> Vec<u8> {
        let mut message = self.message(ResponseCode::NoError);
        if self.wants_ipv4 {
            for address in addresses.iter().take(ADDRESSES_MAX) {
                let data = RData::A(A(*address));
                let record = Record::from_rdata(self.query.name().clone(), ttl_secs, data);
                message.add_answer(record);
            }
        }
        Self::bytes(&message)
    }

    /// The name is not for this sandbox.
    pub(crate) fn refused(&self) -> Vec<u8> {
        Self::bytes(&self.message(ResponseCode::Refused))
    }

    /// The name is allowed, and could not be looked up.
    pub(crate) fn failed(&self) -> Vec<u8> {
        Self::bytes(&self.message(ResponseCode::ServFail))
    }

    /// The name is allowed, and there is none.
    pub(crate) fn absent(&self) -> Vec<u8> {
        Self::bytes(&self.message(ResponseCode::NXDomain))
    }

    fn message(&self, code: ResponseCode) -> Message {
        let mut message = Message::error_msg(self.id, OpCode::Query, code);
        message.metadata.recursion_desired = self.is_recursion_desired;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        if self.has_edns {
            message.set_edns(own_edns());
        }
        message
    }

    /// The bytes to send. A message of ours always fits; if not, an empty datagram is what a
    /// client takes for no answer.
    fn bytes(message: &Message) -> Vec<u8> {
        message.to_vec().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
