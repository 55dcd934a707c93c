use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::mail::compose::tests::composer;
use crate::model::mail::tests::mail;

const TIMEOUT: Duration = Duration::from_millis(300);

/// What the server says when a line begins so; nothing means that it says nothing, `DROP` that it hangs up.
type Script = &'static [(&'static str, &'static str)];

const DROP: &str = "drop";

/// Serves one connection by a script; gives its port and what the client said.
fn server(script: Script) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = sync_channel(1000);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut in_message = false;
        if !reply(&mut stream, script, "greeting", "220 test") {
            return;
        }
        while let Some(Ok(line)) = lines.next() {
            said.send(line.clone()).unwrap();
            let (verb, usual) = match line.split([' ', ':']).next().unwrap() {
                "." if in_message => ("message", "250 taken"),
                _ if in_message => continue,
                "EHLO" => ("EHLO", "250-test\r\n250 AUTH PLAIN"),
                "MAIL" => ("MAIL", "250 ok"),
                "RCPT" => ("RCPT", "250 ok"),
                "DATA" => ("DATA", "354 go on"),
                "AUTH" => ("AUTH", "235 ok"),
                _ => ("other", "221 bye"),
            };
            in_message = verb == "DATA";
            if !reply(&mut stream, script, verb, usual) {
                return;
            }
        }
    });
    (port, heard)
}

fn reply(stream: &mut TcpStream, script: Script, verb: &str, usual: &str) -> bool {
    let answer = script.iter().find(|(of, _)| *of == verb).map_or(usual, |(_, answer)| answer);
    match answer {
        DROP => false,
        "" => true,
        answer => stream.write_all(format!("{answer}\r\n").as_bytes()).is_ok(),
    }
}

async fn attempt(script: Script, login: &str) -> (Delivery, Vec<String>) {
    let (port, heard) = server(script);
    let server = SmtpServer::parse(&format!("smtp://{login}127.0.0.1:{port}")).unwrap();
    let composed = composer().compose(&mail()).unwrap();
    let delivery = Smtp::new(server, TIMEOUT).deliver(&composed, &CancellationToken::new()).await;
    (delivery, heard.try_iter().collect())
}

async fn outcome(script: Script) -> (Outcome, bool) {
    let (delivery, _) = attempt(script, "").await;
    (delivery.outcome, delivery.server_works)
}

#[tokio::test]
async fn a_mail_that_is_taken_is_accepted() {
    let (delivery, heard) = attempt(&[], "").await;
    assert_eq!(delivery, answered(Outcome::Accepted));
    assert!(heard.contains(&"RCPT TO:<anna@example.com>".to_owned()), "{heard:?}");
    assert!(heard.contains(&"MAIL FROM:<ottla@example.org>".to_owned()));
    assert!(heard.contains(&"Auto-Submitted: auto-generated".to_owned()));
}

#[tokio::test]
async fn user_and_password_are_decoded_before_they_are_sent() {
    let (delivery, heard) = attempt(&[], "ottla:a%40b%2Fc@").await;
    assert_eq!(delivery.outcome, Outcome::Accepted);
    let auth = heard.iter().find_map(|line| line.strip_prefix("AUTH PLAIN ")).unwrap();
    assert_eq!(auth, "AG90dGxhAGFAYi9j");
}

#[tokio::test]
async fn before_the_message_a_failure_is_tried_again() {
    let scripts: [Script; 9] = [
        &[("greeting", DROP)],
        &[("greeting", "")],
        &[("greeting", "554 no service")],
        &[("EHLO", DROP)],
        &[("MAIL", "421 closing")],
        &[("RCPT", DROP)],
        &[("RCPT", "")],
        &[("DATA", DROP)],
        &[("DATA", "")],
    ];
    for script in scripts {
        let (outcome, server_works) = outcome(script).await;
        assert!(matches!(outcome, Outcome::Later(_)), "{script:?}: {outcome:?}");
        assert!(!server_works, "{script:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_server_s_matter_and_not_the_mail_s() {
    let (delivery, _) = attempt(&[("AUTH", "535 wrong")], "ottla:pass@").await;
    assert!(matches!(delivery.outcome, Outcome::Later(_)), "{delivery:?}");
    assert!(!delivery.server_works);
}

#[tokio::test]
async fn a_4xx_is_tried_again_and_a_5xx_is_final() {
    for verb in ["MAIL", "RCPT", "DATA", "message"] {
        let later: Script = match verb {
            "MAIL" => &[("MAIL", "451 busy")],
            "RCPT" => &[("RCPT", "450 full")],
            "DATA" => &[("DATA", "451 busy")],
            _ => &[("message", "452 full")],
        };
        let (answer, works) = outcome(later).await;
        assert!(matches!(answer, Outcome::Later(_)) && works, "{verb}: {answer:?}");
        let refused: Script = match verb {
            "MAIL" => &[("MAIL", "550 no")],
            "RCPT" => &[("RCPT", "550 nobody here")],
            "DATA" => &[("DATA", "554 no")],
            _ => &[("message", "554 spam")],
        };
        let (answer, works) = outcome(refused).await;
        assert!(matches!(&answer, Outcome::Refused(reason) if reason.contains("55")), "{answer:?}");
        assert!(works, "{verb}");
    }
}

#[tokio::test]
async fn without_an_answer_to_the_message_its_fate_is_unknown() {
    let scripts: [Script; 2] = [&[("message", DROP)], &[("message", "")]];
    for script in scripts {
        let (outcome, server_works) = outcome(script).await;
        assert!(matches!(outcome, Outcome::Unclear(_)), "{script:?}: {outcome:?}");
        assert!(!server_works);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = SmtpServer::parse(&format!("smtp://127.0.0.1:{port}")).unwrap();
    let composed = composer().compose(&mail()).unwrap();
    let delivery = Smtp::new(server, TIMEOUT).deliver(&composed, &CancellationToken::new()).await;
    assert!(
        matches!(&delivery.outcome, Outcome::Later(reason) if reason.contains("cannot be used"))
    );
    assert!(!delivery.server_works);
}

#[tokio::test]
async fn a_stop_ends_an_attempt_at_once_and_leaves_no_doubt_before_the_message() {
    let scripts: [(Script, bool); 2] = [(&[("RCPT", "")], true), (&[("message", "")], false)];
    for (script, sure) in scripts {
        let (port, heard) = server(script);
        let server = SmtpServer::parse(&format!("smtp://127.0.0.1:{port}")).unwrap();
        let composed = composer().compose(&mail()).unwrap();
        let (smtp, stop) = (Smtp::new(server, Duration::from_mins(1)), CancellationToken::new());
        let last = if sure { "RCPT TO:<anna@example.com>" } else { "." };
        let stopping = async {
            let heard = tokio::task::spawn_blocking(move || heard.iter().find(|line| line == last));
            heard.await.unwrap().unwrap();
            stop.cancel();
        };
        let (delivery, ()) = tokio::join!(smtp.deliver(&composed, &stop), stopping);
        match delivery.outcome {
            Outcome::Later(_) => assert!(sure),
            Outcome::Unclear(_) => assert!(!sure),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_url_names_host_port_and_login() {
    let parsed = |url| SmtpServer::parse(url).map(|server| (server.host, server.port, server.tls));
    assert_eq!(parsed("smtp://mail.example.org"), Ok(("mail.example.org".to_owned(), 25, false)));
    assert_eq!(parsed("smtp://a:b@[::1]:2525"), Ok(("::1".to_owned(), 2525, false)));
    assert_eq!(parsed("smtp://a:b@host"), Ok(("host".to_owned(), 587, false)));
    assert_eq!(parsed("smtps://a:b@host"), Ok(("host".to_owned(), 465, true)));
    for (url, error) in [
        ("mail.example.org", SmtpUrlError::NoUrl),
        ("http://host", SmtpUrlError::Scheme),
        ("smtp://", SmtpUrlError::Host),
        ("smtp://host/path", SmtpUrlError::Path),
        ("smtp://user@host", SmtpUrlError::Login),
        ("smtp://:pass@host", SmtpUrlError::Login),
        ("smtp://user:%ff@host", SmtpUrlError::Login),
    ] {
        assert_eq!(parsed(url), Err(error), "{url}");
    }
}

#[test]
fn a_password_in_the_clear_stays_on_this_machine() {
    let is_loopback = |url| SmtpServer::parse(url).unwrap().is_loopback();
    assert!(is_loopback("smtp://localhost") && is_loopback("smtp://[::1]:25"));
    assert!(!is_loopback("smtp://mail.example.org") && !is_loopback("smtp://10.0.0.1"));
}
