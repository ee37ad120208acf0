//! SSE-C: objects under a key that the client brings along, and nobody keeps.

mod support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};
use s3veil::aws::sign::BodyHash;
use s3veil::s3::headers::ENVELOPE;
use support::client::{Reply, exchange, full, get, put, send, signed};
use support::memory::{Fault, MemoryStore};
use support::program::Program;
use support::proxy::{Proxy, pattern};
use support::upload::{Upload, document, inner};

const POLICY: &str = r#"
[[policy]]
bucket = "*"
ek = "s3veil-dev-key"
[[policy]]
bucket = "locked"
ek = "s3veil-dev-key"
locked = true
[[policy]]
bucket = "none"
ek = "s3veil-dev-key"
customer_keys = false
[[policy]]
bucket = "mixed"
ek = "s3veil-dev-key"
plaintext = "read"
[[policy]]
bucket = "plain"
mode = "passthrough"
"#;

const OWN: &str = "x-amz-server-side-encryption-customer-";
const SOURCE: &str = "x-amz-copy-source-server-side-encryption-customer-";
const CHUNK: usize = 65_536;

/// A client's key, and its headers.
struct Key(Vec<(String, String)>);

impl Key {
    fn new(fill: u8, begins: &str) -> Self {
        let key = [fill; 32];
        let fields = [
            ("algorithm", "AES256".to_owned()),
            ("key", BASE64_STANDARD.encode(key)),
            ("key-md5", BASE64_STANDARD.encode(Md5::digest(key))),
        ];
        Self(fields.into_iter().map(|(name, value)| (format!("{begins}{name}"), value)).collect())
    }

    fn with<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(more.iter().copied()).collect()
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.with(&[])
    }

    fn base64(&self) -> &str {
        &self.0[1].1
    }

    fn md5(&self) -> &str {
        &self.0[2].1
    }
}

async fn start() -> (MemoryStore, Proxy) {
    let store = MemoryStore::start().await;
    let proxy = Proxy::start_with(&store.endpoint, "min_part_bytes = 0", POLICY).await;
    (store, proxy)
}

fn is_of_customer(reply: &Reply, key: &Key) {
    assert_eq!(reply.header(&format!("{OWN}algorithm")), "AES256");
    assert_eq!(reply.header(&format!("{OWN}key-md5")), key.md5());
    assert_eq!(reply.header("x-amz-server-side-encryption"), "");
    assert!(!reply.headers.contains_key(format!("{OWN}key")));
}

#[tokio::test]
async fn an_object_opens_with_its_own_key_only() {
    let (store, proxy) = start().await;
    let (mine, other) = (Key::new(1, OWN), Key::new(2, OWN));
    let body = pattern(2 * CHUNK + 9);
    let written = send(proxy.address, "PUT", "/b/k", &mine.headers(), &body).await;
    assert_eq!(written.status, 200, "{}", written.code());
    is_of_customer(&written, &mine);

    let read = send(proxy.address, "GET", "/b/k", &mine.headers(), b"").await;
    assert_eq!(read.bytes(), body);
    is_of_customer(&read, &mine);
    let range = send(proxy.address, "GET", "/b/k", &mine.with(&[("range", "bytes=65530-65550")]), b"").await;
    assert_eq!((range.status.as_u16(), range.bytes()), (206, &body[65_530..=65_550]));
    let head = send(proxy.address, "HEAD", "/b/k", &mine.headers(), b"").await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, body.len().to_string().as_str()));
    is_of_customer(&head, &mine);
    let attributes = mine.with(&[("x-amz-object-attributes", "ObjectSize")]);
    let reply = send(proxy.address, "GET", "/b/k?attributes", &attributes, b"").await;
    assert_eq!(inner(&reply, "ObjectSize"), body.len().to_string());

    let wrong = send(proxy.address, "GET", "/b/k", &other.headers(), b"").await;
    assert_eq!((wrong.status.as_u16(), wrong.code().as_str()), (403, "AccessDenied"));
    let without = get(proxy.address, "/b/k").await;
    assert_eq!((without.status.as_u16(), without.code().as_str()), (400, "InvalidRequest"));
    assert_eq!(send(proxy.address, "HEAD", "/b/k", &[], b"").await.status, 400);
    // A listing needs no key: sizes are arithmetic.
    let listing = get(proxy.address, "/b?list-type=2").await;
    assert_eq!(inner(&listing, "Size"), body.len().to_string());

    // Under an EK, no key of a client's is of use.
    put(proxy.address, "/b/ek", b"x").await;
    let needless = send(proxy.address, "GET", "/b/ek", &mine.headers(), b"").await;
    assert_eq!((needless.status.as_u16(), needless.code().as_str()), (400, "InvalidRequest"));

    // The store never saw it, nor its MD5.
    for seen in store.take_seen() {
        for (name, value) in &seen.headers {
            assert!(!name.as_str().contains("customer"), "{name}");
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(!value.contains(mine.base64()) && !value.contains(mine.md5()), "{name}");
        }
    }
}

#[tokio::test]
async fn an_object_under_a_customers_key_is_bound_to_its_place_like_any_other() {
    let (store, proxy) = start().await;
    let mine = Key::new(1, OWN);
    send(proxy.address, "PUT", "/b/k", &mine.headers(), b"secret").await;
    let object = store.get("/b/k").unwrap();
    store.put("/b/moved", object.clone());
    assert_eq!(send(proxy.address, "GET", "/b/moved", &mine.headers(), b"").await.code(), "AccessDenied");
    for at in [0, 16, 20, object.body.len() - 1] {
        let mut damaged = object.clone();
        damaged.body[at] ^= 1;
        store.put("/b/k", damaged);
        let reply = send(proxy.address, "GET", "/b/k", &mine.headers(), b"").await;
        assert_eq!(reply.status, 500, "byte {at}");
    }
}

#[tokio::test]
async fn a_bad_key_is_refused_before_anything_is_stored() {
    let (store, proxy) = start().await;
    let mine = Key::new(1, OWN);
    let all = mine.headers();
    for (at, value, code) in [
        (0, "AES128", "InvalidEncryptionAlgorithmError"),
        (1, "c2hvcnQ=", "InvalidArgument"),
        (2, "AAAAAAAAAAAAAAAAAAAAAA==", "InvalidArgument"),
    ] {
        let mut wrong = all.clone();
        wrong[at].1 = value;
        let reply = send(proxy.address, "PUT", "/b/k", &wrong, b"x").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, code), "{value}");
        let mut missing = all.clone();
        missing.remove(at);
        let reply = send(proxy.address, "PUT", "/b/k", &missing, b"x").await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "InvalidArgument"), "without {at}");
    }
    let both = mine.with(&[("x-amz-server-side-encryption", "AES256")]);
    assert_eq!(send(proxy.address, "PUT", "/b/k", &both, b"x").await.code(), "InvalidArgument");
    for bucket in ["locked", "none"] {
        for (method, query) in [("PUT", ""), ("POST", "?uploads")] {
            let path = format!("/{bucket}/k{query}");
            let reply = send(proxy.address, method, &path, &all, b"").await;
            assert_eq!((reply.status.as_u16(), reply.code().as_str()), (403, "AccessDenied"), "{path}");
        }
    }
    assert!(store.paths().is_empty() && store.uploads().is_empty());
}

#[tokio::test]
async fn copies_with_keys_on_either_side() {
    let (store, proxy) = start().await;
    let (one, two) = (Key::new(1, OWN), Key::new(2, OWN));
    let source = Key::new(1, SOURCE);
    let body = pattern(CHUNK + 1);
    send(proxy.address, "PUT", "/b/one", &one.headers(), &body).await;
    put(proxy.address, "/b/ek", &body).await;

    let plain_to_two = two.with(&[("x-amz-copy-source", "/b/ek")]);
    let copied = send(proxy.address, "PUT", "/b/to-two", &plain_to_two, b"").await;
    assert_eq!(copied.status, 200, "{}", copied.code());
    is_of_customer(&copied, &two);
    assert_eq!(send(proxy.address, "GET", "/b/to-two", &two.headers(), b"").await.bytes(), body);

    let from_one = source.with(&[("x-amz-copy-source", "/b/one")]);
    assert_eq!(send(proxy.address, "PUT", "/b/to-ek", &from_one, b"").await.status, 200);
    assert_eq!(get(proxy.address, "/b/to-ek").await.bytes(), body);

    let mut both = two.with(&[("x-amz-copy-source", "/b/one")]);
    both.extend(source.headers());
    assert_eq!(send(proxy.address, "PUT", "/b/rekeyed", &both, b"").await.status, 200);
    assert_eq!(send(proxy.address, "GET", "/b/rekeyed", &two.headers(), b"").await.bytes(), body);
    assert_eq!(store.get("/b/rekeyed").unwrap().body, store.get("/b/one").unwrap().body, "the body stays");

    // Onto itself, for another key.
    assert_eq!(send(proxy.address, "PUT", "/b/one", &both, b"").await.status, 200);
    assert_eq!(send(proxy.address, "GET", "/b/one", &two.headers(), b"").await.bytes(), body);

    // Without the source's key, or with another.
    let missing = [("x-amz-copy-source", "/b/one")];
    assert_eq!(send(proxy.address, "PUT", "/b/x", &missing, b"").await.status, 400);
    assert_eq!(send(proxy.address, "PUT", "/b/x", &from_one, b"").await.status, 403);
    // To a place that does not seal the plaintext goes through.
    let source_two = Key::new(2, SOURCE);
    let out = source_two.with(&[("x-amz-copy-source", "/b/one")]);
    assert_eq!(send(proxy.address, "PUT", "/plain/out", &out, b"").await.status, 200);
    assert_eq!(store.get("/plain/out").unwrap().body, body);
    for seen in store.take_seen() {
        let names: Vec<_> = seen.headers.keys().filter(|name| name.as_str().contains("customer")).collect();
        assert!(names.is_empty(), "{} {}: {names:?}", seen.method, seen.path);
    }
}

#[tokio::test]
async fn an_upload_takes_its_key_with_each_part_and_completes_without() {
    let (store, proxy) = start().await;
    let (mine, other) = (Key::new(1, OWN), Key::new(2, OWN));
    for with_key in [false, true] {
        let created = send(proxy.address, "POST", "/b/k?uploads", &mine.headers(), b"").await;
        assert_eq!(created.status, 200, "{}", created.code());
        is_of_customer(&created, &mine);
        let upload = Upload { to: proxy.address, path: "/b/k".into(), id: inner(&created, "UploadId") };
        let parts = [pattern(CHUNK + 1), pattern(77)];
        let mut list = Vec::new();
        for (number, part) in (1..).zip(&parts) {
            assert_eq!(upload.send_part(number, &[], part).await.code(), "InvalidRequest", "without");
            assert_eq!(
                upload.send_part(number, &other.headers(), part).await.code(),
                "InvalidRequest",
                "another"
            );
            let reply = upload.send_part(number, &mine.headers(), part).await;
            assert_eq!(reply.status, 200, "{}", reply.code());
            is_of_customer(&reply, &mine);
            list.push((number, reply.header("etag").to_owned()));
        }
        assert_eq!(upload.list().await.status, 200);
        // What is kept of the upload leads nobody to the client's key, and is no envelope of the object.
        for path in store.paths().into_iter().filter(|path| path.contains(".s3veil/")) {
            let kept = store.get(&path).unwrap();
            let text = String::from_utf8_lossy(&kept.body).into_owned();
            assert!(!text.contains(mine.base64()) && !text.contains(mine.md5()), "{text}");
        }
        let headers = if with_key { mine.headers() } else { Vec::new() };
        let done = upload.complete_with(&list, &headers).await;
        assert_eq!(done.status, 200, "{}", done.code());
        assert_eq!(store.paths(), ["/b/k"], "nothing is kept of it");
        let whole = parts.concat();
        assert_eq!(send(proxy.address, "GET", "/b/k", &mine.headers(), b"").await.bytes(), whole);
        let ranged = mine.with(&[("range", "bytes=65000-65600")]);
        let range = send(proxy.address, "GET", "/b/k", &ranged, b"").await;
        assert_eq!(range.bytes(), &whole[65_000..=65_600]);
        let second = send(proxy.address, "GET", "/b/k?partNumber=2", &mine.headers(), b"").await;
        assert_eq!(second.bytes(), parts[1]);
        assert_eq!(send(proxy.address, "GET", "/b/k", &other.headers(), b"").await.code(), "AccessDenied");
        assert_eq!(get(proxy.address, "/b/k").await.code(), "InvalidRequest");
        // Asked again, it answers as before to whoever has the key.
        let again = upload.complete_with(&list, &mine.headers()).await;
        assert_eq!(again.status, 200, "{}", again.code());
        assert_eq!(upload.complete(&list).await.code(), "NoSuchUpload");
        assert_eq!(get(proxy.address, "/b?list-type=2").await.status, 200, "listed, though none can open it");
        store.take_seen();
    }
}

/// The record of an upload holds its key sealed under an EK. At the object it is no envelope: else the store could make
/// an object readable without the client's key.
#[tokio::test]
async fn what_is_kept_of_an_upload_opens_no_object() {
    let (store, proxy) = start().await;
    let mine = Key::new(1, OWN);
    let created = send(proxy.address, "POST", "/b/k?uploads", &mine.headers(), b"").await;
    let upload = Upload { to: proxy.address, path: "/b/k".into(), id: inner(&created, "UploadId") };
    let part = upload.send_part(1, &mine.headers(), b"secret").await;
    let record = store.paths().into_iter().find(|path| path.ends_with("/record")).unwrap();
    let record = store.get(&record).unwrap().body;
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let kept = record["kept_key"].as_str().unwrap().to_owned();
    assert_eq!(upload.complete(&[(1, part.header("etag").to_owned())]).await.status, 200);
    store.change("/b/k", |object| {
        object.headers.insert(ENVELOPE, kept.parse().unwrap());
    });
    let reply = get(proxy.address, "/b/k").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "InternalError"));
}

/// A record that the store has altered completes nothing under another key than that of the parts.
#[tokio::test]
async fn a_record_with_the_key_of_another_upload_completes_nothing() {
    let (store, proxy) = start().await;
    let mine = Key::new(1, OWN);
    let mut records: Vec<(String, Upload, String, serde_json::Value)> = Vec::new();
    for path in ["/b/one", "/b/two"] {
        let created = send(proxy.address, "POST", &format!("{path}?uploads"), &mine.headers(), b"").await;
        let upload = Upload { to: proxy.address, path: path.into(), id: inner(&created, "UploadId") };
        let part = upload.send_part(1, &mine.headers(), b"secret").await;
        let of = store.paths().into_iter().filter(|path| path.ends_with("/record"));
        let at = of.filter(|at| !records.iter().any(|(seen, ..)| seen == at)).collect::<Vec<_>>().remove(0);
        let text: serde_json::Value = serde_json::from_slice(&store.get(&at).unwrap().body).unwrap();
        records.push((at, upload, part.header("etag").to_owned(), text));
    }
    let mut forged = records[0].3.clone();
    forged["kept_key"] = records[1].3["kept_key"].clone();
    store.change(&records[0].0, |object| object.body = forged.to_string().into_bytes());
    let (_, upload, etag, _) = &records[0];
    let reply = send(proxy.address, "POST", &upload.at(), &[], &document(&[(1, etag.clone())])).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (500, "InternalError"));
}

#[tokio::test]
async fn parts_are_copied_with_keys_on_either_side() {
    let (_store, proxy) = start().await;
    let (one, two) = (Key::new(1, OWN), Key::new(2, OWN));
    let body = pattern(CHUNK + 1);
    send(proxy.address, "PUT", "/b/source", &one.headers(), &body).await;
    let created = send(proxy.address, "POST", "/b/k?uploads", &two.headers(), b"").await;
    let upload = Upload { to: proxy.address, path: "/b/k".into(), id: inner(&created, "UploadId") };
    let source = Key::new(1, SOURCE);
    let copy = [("x-amz-copy-source", "/b/source"), ("x-amz-copy-source-range", "bytes=1-65536")];
    let mut headers = two.with(&copy);
    headers.extend(source.headers());
    let reply = upload.send_part(1, &headers, b"").await;
    assert_eq!(reply.status, 200, "{}", reply.code());
    is_of_customer(&reply, &two);
    let etag = inner(&reply, "ETag").replace("&quot;", "");
    assert_eq!(
        upload.send_part(2, &two.with(&copy), b"").await.code(),
        "InvalidRequest",
        "no key of the source"
    );
    assert_eq!(
        upload.send_part(2, &source.with(&copy), b"").await.code(),
        "InvalidRequest",
        "no key of the upload"
    );
    assert_eq!(upload.complete(&[(1, etag)]).await.status, 200);
    assert_eq!(send(proxy.address, "GET", "/b/k", &two.headers(), b"").await.bytes(), &body[1..]);
}

/// Clients that send their key along with everything exist.
#[tokio::test]
async fn no_other_operation_takes_the_key_to_the_store() {
    let (store, proxy) = start().await;
    let (mine, source) = (Key::new(1, OWN), Key::new(1, SOURCE));
    put(proxy.address, "/b/k", b"x").await;
    let mut headers = mine.headers();
    headers.extend(source.headers());
    for (method, path) in [
        ("GET", "/b/k?tagging"),
        ("PUT", "/b/k?acl"),
        ("GET", "/b/k?uploadId=none"),
        ("DELETE", "/b/k?uploadId=none"),
        ("DELETE", "/b/k"),
        ("GET", "/b?list-type=2"),
        ("GET", "/b?uploads"),
        ("GET", "/b?versioning"),
        ("GET", "/b?encryption"),
        ("DELETE", "/b"),
        ("OPTIONS", "/b/k"),
        ("DELETE", "/plain/k"),
    ] {
        send(proxy.address, method, path, &headers, b"").await;
    }
    let document = b"<Delete><Object><Key>k</Key></Object></Delete>";
    send(proxy.address, "POST", "/b?delete", &headers, document).await;
    let seen = store.take_seen();
    assert!(seen.len() > 10, "{}", seen.len());
    for seen in seen {
        let names: Vec<_> = seen.headers.keys().filter(|name| name.as_str().contains("customer")).collect();
        assert!(names.is_empty(), "{} {}: {names:?}", seen.method, seen.path);
    }
}

/// A key that comes along says that the object was sealed: the store must not get away with another one in its place, nor
/// be handed the key for it.
#[tokio::test]
async fn an_object_that_lost_its_envelope_is_not_served_to_who_has_its_key() {
    let (store, proxy) = start().await;
    let (mine, source) = (Key::new(1, OWN), Key::new(1, SOURCE));
    send(proxy.address, "PUT", "/mixed/k", &mine.headers(), b"secret").await;
    store.change("/mixed/k", |object| {
        object.headers.remove(ENVELOPE);
        object.body = b"of the store's making".to_vec();
    });
    store.take_seen();
    assert_eq!(get(proxy.address, "/mixed/k").await.status, 200, "the rule serves plain objects");
    for (method, path) in [("GET", "/mixed/k"), ("HEAD", "/mixed/k"), ("GET", "/mixed/k?attributes")] {
        let headers = mine.with(&[("x-amz-object-attributes", "ETag")]);
        assert_eq!(send(proxy.address, method, path, &headers, b"").await.status, 400, "{method} {path}");
    }
    let range = mine.with(&[("range", "bytes=1-2")]);
    assert_eq!(send(proxy.address, "GET", "/mixed/k", &range, b"").await.code(), "InvalidRequest");
    let copy = source.with(&[("x-amz-copy-source", "/mixed/k")]);
    for to in ["/plain/k", "/b/k"] {
        assert_eq!(send(proxy.address, "PUT", to, &copy, b"").await.code(), "InvalidRequest", "{to}");
    }
    for seen in store.take_seen() {
        assert!(
            !seen.headers.keys().any(|name| name.as_str().contains("customer")),
            "{} {}",
            seen.method,
            seen.path
        );
    }
}

/// F-18: whatever goes well or wrong with a client's key, the program's log does not have it, in no form and at no level.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_18_the_trace_log_has_no_clients_key() {
    let store = MemoryStore::start().await;
    let directory = tempfile::tempdir().unwrap();
    let settings = format!(
        "endpoint = \"{}\", credentials.default = {{ access_key = \"store\", secret_key = \"s\" }}",
        store.endpoint
    );
    let configuration = Program::configure(directory.path(), &settings, "").await;
    let trace = [("S3VEIL_LOG__LEVEL", "trace".to_owned())];
    let mut program = Program::start_with(&configuration, Program::free_address(), &trace);
    let to = program.address;
    let (mine, other, source) = (Key::new(0xc7, OWN), Key::new(0xd9, OWN), Key::new(0xc7, SOURCE));

    assert_eq!(send(to, "PUT", "/b/k", &mine.headers(), b"text").await.status, 200, "{}", program.log());
    assert_eq!(send(to, "GET", "/b/k", &mine.headers(), b"").await.bytes(), b"text");
    assert_eq!(send(to, "GET", "/b/k", &other.headers(), b"").await.status, 403);
    let mut both = other.with(&[("x-amz-copy-source", "/b/k")]);
    both.extend(source.headers());
    assert_eq!(send(to, "PUT", "/b/copy", &both, b"").await.status, 200);
    let created = send(to, "POST", "/b/up?uploads", &mine.headers(), b"").await;
    let upload = Upload { to, path: "/b/up".into(), id: inner(&created, "UploadId") };
    let part = upload.send_part(1, &mine.headers(), b"part").await.header("etag").to_owned();
    assert_eq!(upload.complete_with(&[(1, part)], &mine.headers()).await.status, 200);
    // What is refused: a body, a key that is not its MD5's, an operation that takes none, a method that there is not.
    let wrong = mine.with(&[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]);
    assert_eq!(send(to, "PUT", "/b/k", &wrong, b"text").await.code(), "BadDigest");
    let mut mixed = mine.headers();
    mixed[2].1 = other.md5();
    assert_eq!(send(to, "PUT", "/b/k", &mixed, b"text").await.code(), "InvalidArgument");
    send(to, "GET", "/b/k?tagging", &mine.headers(), b"").await;
    assert_eq!(send(to, "PATCH", "/b/k?acl", &mine.headers(), b"").await.status, 405);
    // And in the address, with a signature that does not fit.
    let parameter =
        |(name, value): (&str, &str)| format!("{name}={}", value.replace('=', "%3D").replace('+', "%2B"));
    let query = mine.headers().into_iter().map(parameter).collect::<Vec<_>>().join("&").replace('/', "%2F");
    let mut forged = signed(to, "GET", &format!("/b/k?{query}"), &[], BodyHash::Unsigned).map(|()| full(""));
    forged.headers_mut().insert("x-amz-date", "20260101T000000Z".parse().unwrap());
    assert!(exchange(to, forged).await.unwrap().status.is_client_error());
    // An object that was damaged, and a store that is away.
    store.change("/b/k", |object| object.body[20] ^= 1);
    assert_eq!(send(to, "GET", "/b/k", &mine.headers(), b"").await.status, 500);
    for _ in 0..2 {
        store.fail_next(Fault::Close);
    }
    assert_eq!(send(to, "GET", "/b/k", &mine.headers(), b"").await.status, 503);
    program.kill();

    let log = program.log();
    assert!(log.contains(" DEBUG "), "it is a trace log: {log}");
    for fill in [0xc7_u8, 0xd9] {
        let key = [fill; 32];
        let numbers = vec![fill.to_string(); 4].join(", ");
        for form in [BASE64_STANDARD.encode(key), hex::encode(key), hex::encode_upper(key), numbers] {
            // Without what stands last in it, which may be encoded.
            let form = form.trim_end_matches('=');
            assert!(!log.contains(form), "{form} is in the log");
        }
    }
}
