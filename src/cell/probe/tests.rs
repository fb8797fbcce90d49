use std::net::TcpListener;
use std::thread;

use proptest::prelude::*;

use super::*;

/// A server that reads a request's first bytes, answers with `answer`, and waits for the end.
fn server(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 256];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(&answer).unwrap();
        let _ = stream.read(&mut buffer);
    });
    address
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn rpc(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

const XID: u32 = 0x6265_7274;

#[test]
fn a_server_that_runs_the_null_procedure_serves_nfs() {
    let address = server(rpc(&[0x8000_0018, XID, 1, 0, 0, 0, 0]));
    ask_at(Protocol::Nfs, address, soon()).unwrap();
}

#[test]
fn an_rpc_answer_in_fragments_is_put_together() {
    let address = server(rpc(&[8, XID, 1, 0x8000_0010, 0, 0, 0, 0]));
    ask_at(Protocol::Nfs, address, soon()).unwrap();
}

#[test]
fn each_refusal_of_rpc_is_named() {
    for (reply, words) in [
        (&[XID, 1, 0, 0, 0, 1][..], "no NFS"),
        (&[XID, 1, 0, 0, 0, 2, 3, 3], "no NFS version 4"),
        (&[XID, 1, 1, 0], "denied"),
        (&[XID + 1, 1, 0, 0, 0, 0], "no answer to the call"),
        (&[XID, 1, 0, 0, 400], "cut"),
        (&[XID, 1, 0, 0, u32::MAX], "cut"),
    ] {
        let error = nfs::judge(&rpc(reply)).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

fn smb_answer(status: u32, dialect: u16) -> Vec<u8> {
    let mut answer = vec![0; 64 + 65];
    answer[..4].copy_from_slice(&[0xfe, b'S', b'M', b'B']);
    answer[8..12].copy_from_slice(&status.to_le_bytes());
    answer[16] = 1;
    answer[64] = 65;
    answer[68..70].copy_from_slice(&dialect.to_le_bytes());
    answer
}

#[test]
fn a_server_that_agrees_on_a_dialect_serves_smb() {
    let mut packet = vec![0, 0, 0, 64 + 65];
    packet.extend(smb_answer(0, 0x0302));
    ask_at(Protocol::Smb, server(packet), soon()).unwrap();
}

#[test]
fn each_refusal_of_smb_is_named() {
    for (answer, words) in [
        (smb_answer(0xc000_0022, 0x0302), "0xc0000022"),
        (smb_answer(0, 0x02ff), "0x02ff"),
        (smb_answer(0, 0x0302)[..60].to_vec(), "cut"),
        (vec![0xff, b'S', b'M', b'B'], "no SMB2"),
    ] {
        let error = smb::judge(&answer).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_server_that_wants_a_newer_dialect_serves_smb() {
    assert_eq!(
        smb::judge(&smb_answer(0xc000_00bb, 0)).unwrap(),
        smb::Agreed::No
    );
}

#[test]
fn an_export_is_missed_only_where_the_walk_to_it_ends_short_of_it() {
    let walked = |status| nfs::judge_walk(&rpc(&[XID, 1, 0, 0, 0, 0, status, 0, 0]), XID, "/data");
    for good in [0, 10021] {
        walked(good).unwrap();
    }
    for busy in [10008, 10013, 10018] {
        assert_eq!(
            walked(busy).unwrap_err().kind(),
            io::ErrorKind::ResourceBusy
        );
    }
    let error = walked(2).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "/data is not exported");
    let error = walked(5).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "/data can't be reached: NFS status 5");
    // Of the call as a whole, or not understood: this says nothing of the export.
    for reply in [
        &[XID, 1, 0, 0, 0, 0][..],
        &[XID, 1, 0, 0, 0, 5],
        &[XID, 1, 1, 0],
    ] {
        let error = nfs::judge_walk(&rpc(reply), XID, "/data").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn a_share_is_missed_only_where_the_server_says_that_there_is_none() {
    let connected = |status| {
        let mut answer = smb_answer(status, 0);
        answer[12] = 3;
        smb::judge_tree(&answer, "data")
    };
    for good in [0, 0xc000_0022, 0xc000_0203] {
        connected(good).unwrap();
    }
    let error = connected(0xc000_00cc).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert_eq!(error.to_string(), "there is no share data");
}

#[test]
fn a_silent_server_is_left_at_the_deadline_and_an_endless_one_at_once() {
    for protocol in [Protocol::Nfs, Protocol::Smb] {
        let deadline = Instant::now() + Duration::from_millis(50);
        let error = ask_at(protocol, server(vec![]), deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), format!("{protocol}: no answer"));
    }
    let error = ask_at(Protocol::Nfs, server(rpc(&[0x7fff_ffff])), soon()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let error = ask_at(Protocol::Smb, server(rpc(&[0x00ff_ffff])), soon()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

/// A server that answers request after request.
fn patient_server(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        for answer in answers {
            let _ = stream.read(&mut buffer).unwrap();
            let mut packet = (answer.len() as u32).to_be_bytes().to_vec();
            packet.extend(answer);
            stream.write_all(&packet).unwrap();
        }
        // The next question is left unanswered.
        let _ = stream.read(&mut buffer);
        let _ = stream.read(&mut buffer);
    });
    address
}

#[test]
fn one_session_asks_for_many_shares() {
    let answer = |command: u8, status: u32| {
        let mut answer = smb_answer(status, 0x0302);
        answer[12] = command;
        answer
    };
    let address = patient_server(vec![
        answer(0, 0),
        answer(1, 0xc000_0016),
        answer(1, 0),
        answer(3, 0xc000_0022),
        answer(3, 0xc000_00cc),
        answer(3, 0),
    ]);
    let mut inquiry = Inquiry::begin(Protocol::Smb, address, soon()).unwrap();
    inquiry.find("one", soon()).unwrap();
    let error = inquiry.find("two", soon()).unwrap_err();
    assert_eq!(error.to_string(), "SMB: there is no share two");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    inquiry.find("three", soon()).unwrap();
    let error = inquiry.find("four", Instant::now() + Duration::from_millis(50));
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

proptest! {
    #[test]
    fn garbage_is_refused_without_a_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(nfs::judge(&answer).is_err());
        prop_assert!(smb::judge(&answer).is_err());
        prop_assert!(nfs::judge_walk(&answer, XID, "/data").is_err());
        prop_assert!(smb::judge_tree(&answer, "data").is_err());
    }
}
