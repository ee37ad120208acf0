//! The access log: which id it names. Alone in its file, since other tests would race for what is logged.

mod support;

use std::sync::Arc;

use support::client::get;
use support::memory::MemoryStore;
use support::proxy::{Proxy, SEALED};

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_log_has_the_id_that_the_client_sees() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _on_this_thread = tracing::subscriber::set_default(log);
    let store = MemoryStore::start().await;
    let proxy = Proxy::start(&store.endpoint, SEALED).await;
    for (path, own) in [("/b/none", false), ("/b/.s3veil/k", true)] {
        lines.0.lock().unwrap().clear();
        let reply = get(proxy.address, path).await;
        let seen = reply.header("x-amz-request-id");
        let expected = if own { format!(" id=\"{seen}\"") } else { " store_id=\"THESTORE\"".to_owned() };
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains(&expected) && text.contains("store_id") != own, "{path} {seen}: {text}");
    }
}
