//! Locking and erasing as a client of S3 sees it, with any KMS (promise 4).

use s3veil::kms::Kms;

use super::common::ek;
use super::kms_contract::Limits;
use super::support::client::{get, put};
use super::support::memory::MemoryStore;
use super::support::proxy::Proxy;

const POLICY: &str = r#"
[[policy]]
bucket = "locked"
ek = "a"
[[policy]]
bucket = "other"
ek = "b"
[[policy]]
bucket = "plain"
mode = "passthrough"
"#;

/// `kms` is the one of `settings`, as `s3veil key` opens it, and has the EKs `a` and `b`.
pub async fn check(settings: &str, kms: &dyn Kms, limits: Limits) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with_kms(&store.endpoint, settings, POLICY).await;
    for bucket in ["locked", "other", "plain"] {
        let reply = put(proxy.address, &format!("/{bucket}/k"), b"hello").await;
        assert_eq!(reply.status, 200, "{bucket}: {}", reply.code());
    }
    if limits.can_lock {
        kms.disable(&ek("a")).await.unwrap();
        readable(&proxy, "locked").await; // Within the cache time.
        proxy.app.rooms.keys.flush().await;
        refused(&proxy, "KMS.DisabledException").await;
        kms.enable(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        readable(&proxy, "locked").await;
    }
    if limits.can_rotate {
        kms.rotate(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        readable(&proxy, "locked").await;
        assert_eq!(put(proxy.address, "/locked/new", b"hello").await.status, 200);
        assert_eq!(get(proxy.address, "/locked/new").await.bytes(), b"hello");
    }
    if limits.can_delete {
        kms.delete(&ek("a")).await.unwrap();
        proxy.app.rooms.keys.flush().await;
        refused(&proxy, "KMS.NotFoundException").await;
    }
}

async fn readable(proxy: &Proxy, bucket: &str) {
    let reply = get(proxy.address, &format!("/{bucket}/k")).await;
    assert_eq!(reply.bytes(), b"hello", "{bucket}: {}", reply.code());
}

/// Neither read nor written; what is not sealed under that EK goes on.
async fn refused(proxy: &Proxy, code: &str) {
    assert_eq!(get(proxy.address, "/locked/k").await.code(), code);
    assert_eq!(put(proxy.address, "/locked/k", b"more").await.code(), code);
    readable(proxy, "other").await;
    readable(proxy, "plain").await;
}
