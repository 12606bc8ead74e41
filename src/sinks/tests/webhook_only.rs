//! What only webhooks do: keys, answers, and what is sent again.

use std::net::TcpListener;
use std::time::Duration;

use super::delivered::Receiver;
use super::fixture::{Database, changes, plan, writer};
use crate::error::Report;
use crate::sinks::mark_file::failing;
use crate::sinks::sink::{SinkError, SinkMode, SinkTarget};
use crate::sinks::webhook::{WebhookSettings, WebhookTarget};

#[test]
fn a_request_says_whose_rows_it_carries_and_which() {
    let receiver = Receiver::new();
    writer(&receiver, &plan("id7", SinkMode::Changelog)).write("+a1 -a1 +_2").unwrap();
    let requests = receiver.requests.lock();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].key(), "id7:0-3");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(requests[0].headers["authorization"], "Bearer open sesame");
    assert_eq!(
        requests[0].body.to_string(),
        r#"{"next_offset":3,"offset":0,"ops":"+-+","rows":[{"k":"a","n":1},{"k":"a","n":1},{"k":null,"n":2}],"sink":"s"}"#
    );
}

#[test]
fn a_retry_has_the_key_of_the_first_attempt() {
    let receiver = Receiver::new();
    let mut writer = writer(&receiver, &plan("1", SinkMode::Append));
    let mut answers = vec![Some((503, "later")), Some((429, "slower")), None, Some((200, ""))];
    receiver.behave(move |_| answers.remove(0));
    for expected in ["HTTP 503", "HTTP 429", ""] {
        let error = writer.write("+a1 +b1").unwrap_err();
        assert!(!error.is_final(), "{error}");
        assert!(error.detail().unwrap().contains(expected), "{error:?}");
    }
    writer.write("+a1 +b1").unwrap();
    assert_eq!(receiver.keys(), ["0-2"; 4]);
    // The third request was taken although its answer was lost.
    assert_eq!(receiver.sql("SELECT k FROM t ORDER BY k"), ["a", "b"]);
}

#[test]
fn refused_rows_are_found_by_halving_and_the_order_is_kept() {
    let receiver = Receiver::new();
    receiver.behave(|request| {
        let rows = request.body["rows"].as_array().unwrap();
        let bad = rows.iter().any(|row| row["n"].as_i64() == Some(13));
        Some(if bad { (422, "13 is unlucky") } else { (200, "") })
    });
    let mut writer = writer(&receiver, &plan("1", SinkMode::Append));
    assert_eq!(writer.write("+a1 +b2 +c13 +d4 +e5 +f13").unwrap(), 4);
    let refused: Vec<(u64, &str, &str)> = writer
        .refused
        .iter()
        .map(|refused| (refused.offset, refused.code.as_str(), refused.row.as_str()))
        .collect();
    let row = |key: &str| format!(r#"{{"k":"{key}","n":13}}"#);
    assert_eq!(refused, [(2, "22P02", row("c").as_str()), (5, "22P02", row("f").as_str())]);
    assert!(writer.refused[0].reason.contains("13 is unlucky"));
    assert_eq!(receiver.sql("SELECT k FROM t"), ["a", "b", "d", "e"]);
    let keys = receiver.keys();
    assert_eq!(keys, ["0-6", "0-3", "0-1", "1-3", "1-2", "2-3", "3-6", "3-4", "4-6", "4-5", "5-6"]);
}

#[test]
fn an_answer_that_speaks_of_no_row_is_waited_out() {
    let receiver = Receiver::new();
    let mut writer = writer(&receiver, &plan("1", SinkMode::Append));
    for status in [301, 401, 403, 404, 405, 500] {
        receiver.behave(move |_| Some((status, "no")));
        let error = writer.write("+a1 +b1").unwrap_err();
        assert!(!error.is_final(), "{error}");
        assert!(error.detail().unwrap().contains(&status.to_string()), "{error:?}");
    }
    assert!(writer.refused.is_empty());
    receiver.behave(|_| Some((204, "")));
    writer.write("+a1 +b1").unwrap();
}

/// Ends the program before every call, in turn, then goes on with a new writer that has more rows to
/// send. What was delivered may come again, but under its own key.
#[test]
fn after_a_crash_at_any_call_a_range_comes_again_under_its_own_key() {
    let mut calls = 0;
    loop {
        let receiver = Receiver::new();
        let plan = plan("1", SinkMode::Append);
        let deliver = |target: &mut dyn SinkTarget, from: u64, to: u64| {
            let text: Vec<String> = (from..to).map(|n| format!("+a{n}")).collect();
            target.commit(&changes(from, &text.join(" ")), from, to, &mut |_| Ok(()))
        };
        failing::after(Some(calls));
        let mut target = receiver.target();
        let run = target.prepare(&plan).and_then(|offset| {
            deliver(&mut *target, offset, 2)?;
            deliver(&mut *target, 2, 4)
        });
        failing::after(None);
        let mut target = receiver.target();
        let mut offset = target.prepare(&plan).unwrap();
        // As the loop does: first the range that was promised, then all the rest at once.
        while offset < 7 {
            let to = target.promised().unwrap_or(7);
            deliver(&mut *target, offset, to).unwrap();
            offset = to;
        }
        let numbers = receiver.sql("SELECT n FROM t ORDER BY n");
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6"], "ended before call {calls}");
        if run.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 10, "{calls}");
}

#[test]
fn a_receiver_that_is_away_or_silent_is_worth_another_try() {
    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let marks = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let settings = WebhookSettings {
            url: format!("http://u:secret@{address}/"),
            authorization: None,
            timeout: Duration::from_millis(50),
            tls_ca: None,
        };
        let mut target = WebhookTarget::new(settings, marks.path().into());
        let offset = target.prepare(&plan("1", SinkMode::Append)).unwrap();
        let sent = target.commit(&changes(offset, "+a1"), 0, 1, &mut |_| Ok(()));
        let error = sent.unwrap_err();
        assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
