//! Killed at any moment, it goes on where it was, and leaves nothing behind.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::Site;
use crate::support::client::get;
use crate::support::proxy::pattern;

const KILLS: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_lose_nothing() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    const SMALL: usize = 1_500;
    for number in 0..SMALL {
        site.direct("PUT", &format!("/box/{number:05}"), &[], format!("object {number}").as_bytes()).await;
    }
    let long = pattern(13 << 20);
    for number in 0..10 {
        site.direct("PUT", &format!("/box/{:05}-long", number * 150), &[], &long).await;
    }
    let arguments = ["migrate", "s3://box", "--apply", "--part-mib", "5", "--workers", "4"];
    let (mut kills, mut begun_anew) = (0, 0);
    for kill in 0..KILLS {
        let mut command = site.command(&site.configuration, &arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // Later each time, and never at the same place of what it does.
        let until = Instant::now() + Duration::from_millis(150 + kill * 37);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kills += u64::from(child.try_wait().unwrap().is_none());
        child.kill().ok();
        let said = child.wait_with_output().unwrap();
        begun_anew += usize::from(!String::from_utf8_lossy(&said.stdout).contains("goes on behind"));
        // Whoever reads in between finds each object whole.
        let number = (kill as usize * 71) % SMALL;
        assert_eq!(
            get(site.proxy.address, &format!("/box/{number:05}")).await.bytes(),
            format!("object {number}").as_bytes()
        );
    }
    let done = site.done(&arguments).await;
    assert!(kills >= KILLS / 2, "{kills} kills met it at work; {begun_anew} runs from the start");
    // A kill after the store has begun an upload, and before that is written down, leaves an empty one with its record.
    let (kept, uploads) = site.left("box").await;
    assert!(kept <= uploads, "{kept} objects of {uploads} uploads: {done:?}");
    assert_eq!(site.parts_left("box").await, 0, "{done:?}");
    for number in 0..SMALL {
        let path = format!("/box/{number:05}");
        assert_eq!(get(site.proxy.address, &path).await.bytes(), format!("object {number}").as_bytes());
    }
    for number in 0..10 {
        let path = format!("/box/{:05}-long", number * 150);
        assert!(get(site.proxy.address, &path).await.bytes() == long, "{path}");
    }
    assert_eq!(site.done(&["verify", "s3://box"]).await.count("good") as usize, SMALL + 10);
}

/// What was done is not looked at again; what could not be done is.
#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_where_it_was() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    for number in 0..200 {
        site.direct("PUT", &format!("/box/{number:03}"), &[], b"x").await;
    }
    // Sealed once, without its envelope now.
    site.client("PUT", "/box/0-stripped", b"x").await;
    let stripped = site.direct("GET", "/box/0-stripped", &[], b"").await.bytes().to_vec();
    site.direct("PUT", "/box/0-stripped", &[], &stripped).await;
    // Slow enough that a signal meets it at work.
    let slow = ["migrate", "s3://box", "--apply", "--max-rps", "150", "--workers", "2"];
    let mut command = site.command(&site.configuration, &slow);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !site.is_sealed("/box/040").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let stopped = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert!(!stopped.status.success());
    let errors = String::from_utf8_lossy(&stopped.stderr).into_owned();
    assert!(errors.contains("stopped by a signal. Run it again"), "{errors}");
    let done = site.run(&["migrate", "s3://box", "--apply"]).await;
    let (sealed, already) = (done.count("sealed"), done.count("already so"));
    assert!(sealed + already <= 160 && already <= 4, "{sealed} sealed, {already} looked at again");
    assert_eq!(done.problems(), [("s3://box/0-stripped", "InternalError")], "it was met by the first run");
    site.direct("DELETE", "/box/0-stripped", &[], b"").await;
    // One that came to its end begins at the beginning.
    assert_eq!(site.done(&["migrate", "s3://box", "--apply"]).await.count("already so"), 200);
    assert!(site.done(&["verify", "s3://box"]).await.count("good") == 200);
    assert_eq!(site.left("box").await, (0, 0));
}
