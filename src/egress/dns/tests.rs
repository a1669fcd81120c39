use super::*;
use crate::egress::fuzzing;

fn datagram(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii("Api.Example.test.").unwrap(), RecordType::A));
    change(&mut message);
    message.to_vec().unwrap()
}

fn question(datagram: &[u8]) -> Question {
    fuzzing::dns(datagram);
    match read(datagram) {
        Asked::Question(question) => question,
        other => panic!("{other:?}"),
    }
}

/// The code of an answer that was given without looking at the name.
fn code(datagram: &[u8]) -> ResponseCode {
    fuzzing::dns(datagram);
    match read(datagram) {
        Asked::Answer(bytes) => {
            let message = Message::from_vec(&bytes).unwrap();
            assert!(message.queries.is_empty() && message.id == 0x1234);
            message.metadata.response_code
        }
        other => panic!("{other:?}"),
    }
}

/// A question for a name given as its labels.
fn raw(labels: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(*label);
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn an_allowed_name_is_answered_with_the_given_addresses_and_nothing_more() {
    let question = question(&datagram(|_| {}));
    assert_eq!(question.host, HostName::parse("api.example.test"));
    assert_eq!(question.shown, "Api.Example.test");
    let addresses = [Ipv4Addr::new(93, 184, 215, 14), Ipv4Addr::new(1, 1, 1, 1)];
    let answer = Message::from_vec(&question.answer(&addresses, 30)).unwrap();
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    // The question comes back as it was spelled: clients compare it.
    assert_eq!(answer.queries[0].name().to_ascii(), "Api.Example.test.");
    let found: Vec<_> = answer.answers.iter().map(|r| (r.data.clone(), r.ttl)).collect();
    assert_eq!(found, addresses.map(|a| (RData::A(A(a)), 30)));
    assert!(answer.authorities.is_empty() && answer.additionals.is_empty());
    assert_eq!(answer.edns, None);
}

#[test]
fn other_kinds_of_an_allowed_name_are_answered_with_nothing() {
    for kind in [
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::SVCB,
        RecordType::MX,
        RecordType::TXT,
        RecordType::ANY,
    ] {
        let question = question(&datagram(|m| {
            m.queries[0].set_query_type(kind);
        }));
        assert!(!question.wants_ipv4);
        let bytes = question.answer(&[Ipv4Addr::LOCALHOST], 30);
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.answers.is_empty(), "{kind}");
    }
}

#[test]
fn an_answer_always_fits_and_says_what_became_of_the_name() {
    let label = [b'a'; 63];
    let question = question(&raw(&[&label, &label, &label, &[b'b'; 61]]));
    assert!(question.host.is_ok());
    let many = [Ipv4Addr::LOCALHOST; 100];
    let bytes = question.answer(&many, u32::MAX);
    assert!(bytes.len() <= 512, "{}", bytes.len());
    assert_eq!(Message::from_vec(&bytes).unwrap().answers.len(), ADDRESSES_MAX);
    for (bytes, code) in [
        (question.refused(), ResponseCode::Refused),
        (question.failed(), ResponseCode::ServFail),
        (question.absent(), ResponseCode::NXDomain),
    ] {
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!((message.metadata.response_code, message.answers.len()), (code, 0));
        assert_eq!(message.queries.len(), 1);
    }
}

#[test]
fn edns_is_answered_with_ours_and_without_options() {
    use hickory_proto::rr::rdata::opt::EdnsOption;
    let with_edns = |version: u8| {
        datagram(|m| {
            let mut edns = Edns::new();
            edns.set_version(version);
            edns.options_mut().insert(EdnsOption::Unknown(10, b"cookiecookie".to_vec()));
            m.set_edns(edns);
        })
    };
    let answer = question(&with_edns(0)).refused();
    assert!(!answer.windows(6).any(|w| w == b"cookie"));
    let edns = Message::from_vec(&answer).unwrap().edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (1_232, 0));
    // 16 is BADVERS here and BADSIG elsewhere.
    assert_eq!(u16::from(code(&with_edns(1))), 16);
}

#[test]
fn what_is_not_one_plain_question_gets_no_name_looked_up() {
    let query = || Query::query(Name::from_ascii("a.test.").unwrap(), RecordType::A);
    let record = || Record::from_rdata(Name::root(), 0, RData::A(A(Ipv4Addr::LOCALHOST)));
    for (datagram, wanted) in [
        (datagram(|m| m.queries.clear()), ResponseCode::FormErr),
        (datagram(|m| m.queries.push(query())), ResponseCode::FormErr),
        (datagram(|m| m.answers.push(record())), ResponseCode::FormErr),
        (datagram(|m| m.authorities.push(record())), ResponseCode::FormErr),
        (datagram(|m| m.additionals.push(record())), ResponseCode::FormErr),
        (datagram(|m| m.metadata.truncation = true), ResponseCode::FormErr),
        (datagram(|m| m.metadata.op_code = OpCode::Status), ResponseCode::NotImp),
        (datagram(|m| m.metadata.op_code = OpCode::Notify), ResponseCode::NotImp),
        (
            datagram(|m| {
                m.queries[0].set_query_class(DNSClass::CH);
            }),
            ResponseCode::Refused,
        ),
        ([datagram(|_| {}), vec![0]].concat(), ResponseCode::FormErr),
        ([datagram(|_| {}), vec![0; 512]].concat(), ResponseCode::FormErr),
        (datagram(|_| {})[..20].to_vec(), ResponseCode::FormErr),
        // A name that points to itself.
        ([&raw(&[])[..12], &[0xc0, 12, 0, 1, 0, 1]].concat(), ResponseCode::FormErr),
    ] {
        assert_eq!(code(&datagram), wanted, "{datagram:?}");
    }
    for datagram in
        [vec![], vec![0; 11], datagram(|m| m.metadata.message_type = MessageType::Response)]
    {
        assert_eq!(read(&datagram), Asked::Silence);
    }
}

#[test]
fn a_name_that_is_no_host_is_known_as_such_and_shown_safely() {
    for (labels, shown) in [
        (vec![&b"_dmarc"[..], b"example", b"test"], "_dmarc.example.test"),
        // A dot or NUL inside of a label could turn into another name on its way.
        (vec![b"api.example", b"test"], "api.example.test"),
        (vec![b"api\0", b"evil", b"test"], "api\\x00.evil.test"),
        (vec![b"b\xc3\xbccher", b"test"], "b\\xc3\\xbccher.test"),
        (vec![b"a b", b"test"], "a b.test"),
        (vec![], ""),
    ] {
        let question = question(&raw(&labels));
        assert!(question.host.is_err(), "{labels:?}");
        assert_eq!(question.shown, shown);
    }
    let told = question(&raw(&[b"0x7f", b"1"])).host.unwrap_err().to_string();
    assert!(told.contains("127.0.0.1"), "{told}");
}
