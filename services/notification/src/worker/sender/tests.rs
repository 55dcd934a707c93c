use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use serde_json::json;

use super::*;
use crate::fixture::{World, registered, updated};
use crate::mail::smtp::{Smtp, SmtpServer};

/// A server that answers every RCPT with `answer`, as often as it is asked.
fn smtp(answer: &'static str) -> Mailer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            stream.write_all(b"220 test\r\n").unwrap();
            for line in lines.map_while(Result::ok) {
                let answer = match line.get(..4).unwrap_or_default() {
                    "EHLO" | "MAIL" => "250 ok",
                    "RCPT" => answer,
                    "QUIT" => "221 bye",
                    _ => "503 what",
                };
                if stream.write_all(format!("{answer}\r\n").as_bytes()).is_err() {
                    break;
                }
            }
        }
    });
    mailer(port)
}

fn mailer(port: u16) -> Mailer {
    let server = SmtpServer::parse(&format!("smtp://127.0.0.1:{port}")).unwrap();
    Mailer::Smtp(Smtp::new(server, Duration::from_secs(5)))
}

fn nobody() -> Mailer {
    mailer(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port())
}

async fn welcome() -> World {
    let world = World::new();
    world.read(registered("e1", 1, "anna")).await.unwrap();
    world
}

fn only(world: &World) -> Mail {
    let mails = world.mails();
    assert_eq!(mails.len(), 1);
    mails[0].clone()
}

fn after(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    start + jiff::SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn pending_mails_become_files_and_each_is_published_once() {
    let world = World::new();
    world.read(updated("e1")).await.unwrap();
    let (sender, mut breaker) = (world.file_sender(), Breaker::default());
    assert_eq!(sender.step(&mut breaker).await, Next::Look);
    assert_eq!(sender.step(&mut breaker).await, Next::Look);
    assert_eq!(sender.step(&mut breaker).await, Next::Wait(LOOK_AGAIN));
    assert!(world.mails().iter().all(|mail| mail.status == Status::Sent && mail.attempts == 1));
    assert!(world.outbox.path("e1-1.eml").is_file() && world.outbox.path("e1-2.eml").is_file());
    let published = world.testing.published();
    assert_eq!(published.len(), 2);
    assert_eq!(published[0].0, "notification.sent");
    let payload = json!({"channel": "email", "status": "sent"});
    assert_eq!(published[0].1["payload"], payload);
    assert_eq!(published[0].1["causeEventId"], "e1");
    assert_eq!(published[0].1["causeEventType"], "task.updated");
    let headers = &world.testing.records()[0].headers;
    assert!(headers.contains(&("correlation-id".to_owned(), b"cause".to_vec())), "{headers:?}");
}

#[tokio::test]
async fn an_attempt_over_smtp_whose_end_nobody_saw_is_unknown_and_never_repeated() {
    let world = welcome().await;
    let sender = world.sender(smtp("250 ok"));
    let begun = sender.change(&only(&world), |mail, _| mail.begin(Route::Smtp)).await.unwrap();
    assert_eq!(begun.unwrap().status, Status::Sending);
    let restarted = world.sender(smtp("250 ok"));
    assert!(restarted.recover().await);
    assert_eq!(only(&world).status, Status::Unknown);
    assert_eq!(restarted.step(&mut Breaker::default()).await, Next::Wait(LOOK_AGAIN));
    assert_eq!(only(&world).status, Status::Unknown);
    assert_eq!(world.testing.published()[0].1["status"], "unknown");
}

#[tokio::test]
async fn an_attempt_in_a_file_whose_end_nobody_saw_is_looked_up() {
    for arrived in [true, false] {
        let world = welcome().await;
        let sender = world.file_sender();
        let mail = only(&world);
        if arrived {
            let composed = sender.composer.compose(&mail).unwrap();
            world.outbox.deliver(&composed).await;
        }
        sender.change(&mail, |mail, _| mail.begin(Route::File)).await.unwrap();
        // The next start may send over SMTP; what was begun in a file is still looked up there.
        assert!(world.sender(nobody()).recover().await);
        let recovered = only(&world);
        assert_eq!(recovered.status, if arrived { Status::Sent } else { Status::Pending });
        assert_eq!(recovered.attempts, u32::from(arrived));
    }
}

#[tokio::test]
async fn a_refused_mail_fails_and_a_postponed_one_is_tried_again_when_its_time_comes() {
    let world = welcome().await;
    let busy = world.sender(smtp("451 busy"));
    let mut breaker = Breaker::default();
    assert_eq!(busy.step(&mut breaker).await, Next::Look);
    let postponed = only(&world);
    assert_eq!((postponed.status, postponed.attempts), (Status::Pending, 1));
    assert_eq!(postponed.next_attempt_at, Some(after(5)));
    assert_eq!(busy.step(&mut breaker).await, Next::Wait(Duration::from_secs(5)));
    assert_eq!(breaker, Breaker::default());
    world.testing.clock.set(after(5));
    let refusing = world.sender(smtp("550 nobody of that name"));
    assert_eq!(refusing.step(&mut breaker).await, Next::Look);
    let failed = only(&world);
    assert_eq!((failed.status, failed.attempts), (Status::Failed, 2));
    assert!(failed.error.unwrap().contains("nobody of that name"));
    assert_eq!(world.testing.published().len(), 1);
    assert_eq!(world.testing.published()[0].1["status"], "failed");
}

#[tokio::test]
async fn a_server_that_is_away_is_left_alone_and_the_mail_fails_after_three_days() {
    let world = welcome().await;
    let (sender, mut breaker) = (world.sender(nobody()), Breaker::default());
    let mut seconds = 0;
    let mut steps = 0;
    while only(&world).status == Status::Pending {
        if let Next::Wait(wait) = sender.step(&mut breaker).await {
            seconds += i64::try_from(wait.as_secs()).unwrap().max(1);
            world.testing.clock.set(after(seconds));
        }
        steps += 1;
        assert!(steps < 10_000);
    }
    let failed = only(&world);
    assert_eq!(failed.status, Status::Failed);
    assert_eq!(failed.finished_at, Some(after(72 * 3600)));
    assert!(failed.attempts > 50, "{}", failed.attempts);
    assert!(failed.error.unwrap().contains("cannot be used"));
    assert_eq!(world.testing.published().len(), 1);
}

#[tokio::test]
async fn an_address_that_is_none_fails_at_once() {
    let world = World::new();
    world.read(registered("e1", 1, "an na")).await.unwrap();
    assert_eq!(world.sender(nobody()).step(&mut Breaker::default()).await, Next::Look);
    let failed = only(&world);
    assert_eq!((failed.status, failed.attempts), (Status::Failed, 0));
}

#[tokio::test]
async fn old_mails_are_forgotten_with_their_files() {
    let world = welcome().await;
    let (sender, mut breaker) = (world.file_sender(), Breaker::default());
    sender.step(&mut breaker).await;
    world.testing.clock.set(after(30 * 24 * 3600));
    sender.step(&mut breaker).await;
    assert!(world.outbox.path("e1-1.eml").is_file());
    world.testing.clock.set(after(30 * 24 * 3600 + 1));
    assert_eq!(sender.step(&mut breaker).await, Next::Look);
    assert_eq!(world.mails(), []);
    assert!(!world.outbox.path("e1-1.eml").exists());
    world.read(registered("e1", 1, "anna")).await.unwrap();
    assert_eq!(world.mails(), []);
}

#[tokio::test]
async fn without_a_broker_nothing_is_attempted() {
    let world = welcome().await;
    world.testing.set_status(kit::Status::Disconnected);
    let sender = world.file_sender();
    assert_eq!(sender.step(&mut Breaker::default()).await, Next::NoBroker);
    assert_eq!(only(&world).status, Status::Pending);
    assert!(!world.outbox.path("e1-1.eml").exists());
}

#[tokio::test]
async fn the_running_sender_is_woken_by_new_mails_and_ends_when_it_is_told_to() {
    let world = World::new();
    let sender = world.file_sender();
    let stop = sender.stop.clone();
    let feeding = async {
        world.read(updated("e1")).await.unwrap();
        let sent = async {
            while world.testing.published().len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(4), sent).await.unwrap();
        stop.cancel();
    };
    tokio::join!(sender.run(), feeding);
}

#[tokio::test]
async fn a_mail_whose_beginning_was_not_confirmed_is_looked_for_again() {
    let world = welcome().await;
    let (sender, mut breaker) = (world.file_sender(), Breaker::default());
    let commit = &world.testing.commit;
    let (started, has_started) = tokio::sync::oneshot::channel();
    let (go_on, may_go_on) = std::sync::mpsc::sync_channel(1);
    let mut started = Some(started);
    drop(commit.run(move |_| {
        started.take().map(|started| started.send(())).unwrap().unwrap();
        may_go_on.recv().map_err(drop)
    }));
    has_started.await.unwrap();
    let sending = only(&world).begin(Route::File).unwrap();
    let begun = commit.run(move |tx| {
        tx.put(&sending);
        Ok::<_, ()>(())
    });
    // More than wait at once: the sender's own command has no place, and is not done.
    for _ in 0..2000 {
        drop(commit.run(|_| Ok::<_, ()>(())));
    }
    let mut recovered = true;
    assert_eq!(sender.turn(&mut recovered, &mut breaker).await, Next::NoBroker);
    go_on.send(()).unwrap();
    begun.await.unwrap();
    assert_eq!(only(&world).status, Status::Sending);
    while sender.turn(&mut recovered, &mut breaker).await != Next::Wait(LOOK_AGAIN) {}
    assert_eq!(only(&world).status, Status::Sent);
}
