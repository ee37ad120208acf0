//! A client's write that a store puts behind ours, though it ended later: MinIO gives a version its time before the write waits
//! for its turn.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::site::Site;
use crate::support::client::{get, send_as};
use crate::versions::{ENABLED, versions};

/// Before the store. Of the first write to `path`, with a condition or without, it holds the body back.
struct Gate {
    path: &'static str,
    condition: bool,
    store: SocketAddr,
    held: Notify,
    open: Notify,
}

impl Gate {
    async fn before(store: SocketAddr, path: &'static str, condition: bool) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Self { path, condition, store, held: Notify::new(), open: Notify::new() });
        let at = gate.clone();
        tokio::spawn(async move {
            while let Ok((command, _)) = listener.accept().await {
                tokio::spawn(at.clone().pass(command));
            }
        });
        (gate, address)
    }

    async fn pass(self: Arc<Self>, mut command: TcpStream) {
        let mut store = TcpStream::connect(self.store).await.unwrap();
        let ((mut asks, mut is_told), (mut answers, mut is_asked)) = (command.split(), store.split());
        let asking = async {
            let (mut buffer, begin) = (vec![0; 64 << 10], format!("PUT {} HTTP/1.1", self.path));
            loop {
                let len = asks.read(&mut buffer).await.unwrap_or(0);
                if len == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&buffer[..len]).to_lowercase();
                let head = text.find("\r\n\r\n").map(|at| at + 4);
                let head = head.filter(|at| text[..*at].contains("\r\nif-match: ") == self.condition);
                match head.filter(|_| buffer.starts_with(begin.as_bytes())) {
                    None => is_asked.write_all(&buffer[..len]).await.unwrap(),
                    Some(head) => {
                        is_asked.write_all(&buffer[..head]).await.unwrap();
                        self.held.notify_one();
                        self.open.notified().await;
                        // For the next ones it stays open.
                        self.open.notify_one();
                        is_asked.write_all(&buffer[head..len]).await.unwrap();
                    }
                }
            }
        };
        tokio::select! { () = asking => {}, _ = copy(&mut answers, &mut is_told) => {} }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_write_is_what_is_read_though_the_store_puts_it_behind() {
    let Some(site) = Site::minio().await else { return };
    assert_eq!(site.client("PUT", "/box", b"").await.status, 200);
    site.direct("PUT", "/box?versioning", &[], ENABLED).await;
    for path in ["/box/a", "/box/k", "/box/z"] {
        site.direct("PUT", path, &[], b"before").await;
    }
    let store = site.store.address();
    let (ours, through) = Gate::before(store, "/box/k", true).await;
    let (theirs, past) = Gate::before(store, "/box/k", false).await;
    let text = std::fs::read_to_string(&site.configuration).unwrap();
    let gated = site.configuration.with_file_name("gated.toml");
    assert!(text.contains(&store.to_string()));
    std::fs::write(&gated, text.replace(&store.to_string(), &through.to_string())).unwrap();

    let migrate = async {
        theirs.held.notified().await;
        site.run_with(&gated, &["migrate", "s3://box", "--apply"]).await
    };
    let client = async {
        let mut write =
            std::pin::pin!(send_as(site.store.signer(), past, "PUT", "/box/k", &[], b"a client's"));
        let begun = timeout(Duration::from_secs(60), async {
            tokio::select! { _ = &mut write => false, () = ours.held.notified() => true }
        });
        assert_eq!(begun.await, Ok(true), "both writes have begun");
        // While ours is being written, MinIO lets nobody read.
        let reads = || timeout(Duration::from_millis(500), site.try_direct("HEAD", "/box/k", &[], b""));
        while reads().await.is_ok() {}
        // It gives the client's its time now, and lets it wait.
        theirs.open.notify_one();
        let waits = timeout(Duration::from_secs(1), &mut write).await.is_err();
        ours.open.notify_one();
        assert!(waits, "MinIO did not let the client's write wait");
        assert_eq!(write.await.status, 200);
    };
    let (done, ()) = tokio::join!(migrate, client);
    assert!(done.good, "{done:?}");
    assert_eq!(done.count("sealed"), 3, "{done:?}");
    assert_eq!(get(site.proxy.address, "/box/k").await.bytes(), b"a client's");
    assert!(site.is_sealed("/box/k").await, "what the client wrote is sealed in its turn");
    // What was read first, what the client wrote, and that sealed. What had overtaken it is gone.
    let all = versions(&site, "box").await;
    assert_eq!(all.iter().filter(|(key, ..)| key == "k").count(), 3, "{all:?}");
    assert_eq!(get(site.proxy.address, "/box/a").await.bytes(), b"before");
    assert_eq!(site.left("box").await, (0, 0));
}
