//! What must be refused, and what must not: the numbers are those of the list of attacks on S3 gateways.

mod auth_support;

use std::time::{Duration, Instant, SystemTime};

use auth_support::{
    ACCESS_KEY, Draft, EMPTY_SHA256, TIME, authenticator, code, code_at, config, now, trusted, verify,
};
use http::HeaderValue;
use proptest::prelude::*;
use s3veil::auth::Who;
use s3veil::secret::SecretSource;

fn get() -> Draft {
    Draft::new("GET", "/bucket/key")
}

fn put() -> Draft {
    Draft::new("PUT", "/bucket/key").header("content-length", "3")
}

/// The XML of the error that a request must give.
fn xml(parts: http::request::Parts) -> String {
    verify(parts).map(|_| ()).unwrap_err().to_xml("/", "id")
}

#[test]
fn a_02_unsigned_x_amz_header() {
    for name in
        ["x-amz-acl", "x-amz-copy-source", "x-amz-meta-a", "x-amz-security-token", "x-amz-checksum-crc32"]
    {
        let draft = || put().header(name, "AAAAAA==").unsigned(name);
        assert_eq!(code(draft().signed()), "AccessDenied", "{name}");
        assert_eq!(code(draft().presigned("60")), "AccessDenied", "{name}");
        let xml = xml(draft().signed());
        assert!(xml.contains("There were headers present in the request which were not signed"), "{xml}");
        assert!(xml.contains(&format!("<HeadersNotSigned>{name}</HeadersNotSigned>")), "{xml}");
    }
    // The framing of a chunked body too, in the Authorization header.
    for name in ["x-amz-decoded-content-length", "x-amz-trailer", "x-amz-sdk-checksum-algorithm"] {
        assert_eq!(code(put().header(name, "3").unsigned(name).signed()), "AccessDenied", "{name}");
    }
    assert_eq!(code(put().unsigned("x-amz-date").signed()), "AccessDenied");
}

#[test]
fn a_02_what_is_excused_is_not_passed_on() {
    let verified = verify(put().unsigned("x-amz-content-sha256").signed()).unwrap();
    assert!(verified.payload().sha256.is_none());

    let presigned = put()
        .header("x-amz-content-sha256", EMPTY_SHA256)
        .unsigned("x-amz-content-sha256")
        .header("x-amz-sdk-checksum-algorithm", "CRC32")
        .unsigned("x-amz-sdk-checksum-algorithm");
    let verified = verify(presigned.presigned("60")).unwrap();
    assert!(verified.headers().keys().all(|name| !name.as_str().starts_with("x-amz-")));
    // A hash that nobody asked for is still one that the body must have.
    assert!(verified.payload().sha256.is_some());
}

#[test]
fn a_02_ordinary_headers_need_no_signature() {
    let draft =
        get().header("range", "bytes=0-1").unsigned("range").header("user-agent", "a").unsigned("user-agent");
    let draft = draft.header("content-type", "a/b").unsigned("content-type").header("x-amzn-trace-id", "1");
    let verified = verify(draft.unsigned("x-amzn-trace-id").signed()).unwrap();
    assert_eq!(verified.headers()["range"], "bytes=0-1");
    // Twice is fine, too.
    let draft = get().header("accept", "a").header("accept", "b").unsigned("accept");
    assert!(verify(draft.signed()).is_ok());
}

#[test]
fn a_03_the_host_must_be_signed() {
    assert_eq!(code(get().unsigned("host").signed()), "AccessDenied");
    assert_eq!(code(get().unsigned("host").header("a", "b").presigned("60")), "AccessDenied");
    assert_eq!(code(get().with(|d| drop(d.headers.remove(0))).signed()), "InvalidRequest");
    assert_eq!(code(get().header("host", "s3.amazonaws.com").signed()), "InvalidRequest");
}

#[test]
fn a_03_authority_and_host_must_agree() {
    let with_target = |target: &str, host: Option<&'static str>| {
        let mut parts = get().signed();
        parts.uri = format!("{target}/bucket/key").parse().unwrap();
        match host {
            Some(host) => drop(parts.headers.insert("host", HeaderValue::from_static(host))),
            None => drop(parts.headers.remove("host")),
        }
        parts
    };
    for target in ["http://s3.amazonaws.com", "http://S3.amazonaws.com:80", "https://s3.amazonaws.com:443"] {
        assert!(verify(with_target(target, Some("s3.amazonaws.com"))).is_ok(), "{target}");
    }
    // HTTP/2 without Host: the authority is what was signed.
    assert!(verify(with_target("https://s3.amazonaws.com", None)).is_ok());
    for target in
        ["http://evil.s3.amazonaws.com", "http://s3.amazonaws.com:8080", "https://s3.amazonaws.com:80"]
    {
        assert_eq!(code(with_target(target, Some("s3.amazonaws.com"))), "InvalidRequest", "{target}");
    }
    // Routing by another host than the signed one does not verify.
    assert_eq!(code(with_target("https://evil.s3.amazonaws.com", None)), "SignatureDoesNotMatch");
}

#[test]
fn a_04_signed_header_absent() {
    assert_eq!(code(get().with(|d| d.also_signed.push("x-amz-acl")).signed()), "SignatureDoesNotMatch");
    assert_eq!(code(get().with(|d| d.also_signed.push("range")).presigned("60")), "SignatureDoesNotMatch");
}

#[test]
fn a_05_duplicates_are_refused_and_never_anonymous() {
    assert_eq!(code(get().header("x-amz-acl", "a").header("x-amz-acl", "b").signed()), "InvalidRequest");
    assert_eq!(code(get().header("range", "a").header("range", "a").signed()), "InvalidRequest");
    for name in ["authorization", "x-amz-date", "x-amz-content-sha256", "content-md5", "content-length"] {
        let mut parts =
            put().header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==").unsigned("content-md5").signed();
        let value = parts.headers[name].clone();
        parts.headers.append(name, value);
        assert_eq!(code(parts), "InvalidRequest", "{name}");
    }
    let mut parts = get().signed();
    parts.headers.insert("authorization", HeaderValue::from_bytes(b"AWS4-HMAC-SHA256 \xff").unwrap());
    assert_eq!(code(parts), "InvalidRequest");
    // The same parameter of a signature twice, and in another case.
    for name in ["X-Amz-Signature", "x-amz-credential"] {
        let parts = get().query(name, "x").presigned("60");
        assert_eq!(code(parts), "AuthorizationQueryParametersError", "{name}");
    }
}

#[test]
fn a_06_header_and_query_together() {
    let query = get().presigned("60").uri;
    let mut parts = get().signed();
    parts.uri = query;
    let error = verify(parts).map(|_| ()).unwrap_err();
    assert_eq!(error.code().as_str(), "InvalidArgument");
    assert!(error.message().starts_with("Only one auth mechanism allowed"), "{error}");
    for name in ["X-Amz-Signature", "x-amz-credential", "X-Amz-Security-Token", "Signature", "AWSAccessKeyId"]
    {
        assert_eq!(code(get().query(name, "x").signed()), "InvalidArgument", "{name}");
    }
}

#[test]
fn a_07_unsigned_trailer_needs_a_good_signature_in_the_header() {
    let draft = |method, path| {
        Draft::new(method, path)
            .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .header("x-amz-decoded-content-length", "3")
            .header("x-amz-trailer", "x-amz-checksum-crc32")
            .header("content-encoding", "aws-chunked")
    };
    for (method, path) in
        [("PUT", "/b/k"), ("POST", "/b/k"), ("POST", "/b"), ("PUT", "/b"), ("DELETE", "/b/k")]
    {
        for query in ["uploadId", "partNumber", "delete", "x-id"] {
            let draft = || draft(method, path).query(query, "1");
            assert!(verify(draft().signed()).is_ok(), "{method} {path}");
            assert_eq!(code(draft().with(|d| d.secret.push('x')).signed()), "SignatureDoesNotMatch");
            assert_eq!(code(draft().with(|d| d.secret.push('x')).presigned("60")), "SignatureDoesNotMatch");
            // In the query, signed or not, as a header or hoisted.
            let (name, value) = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
            assert_eq!(code(draft().header(name, value).presigned("60")), "InvalidRequest");
            assert_eq!(code(draft().query(name, value).presigned("60")), "InvalidRequest");
            let unsigned = draft().content_sha256("UNSIGNED-PAYLOAD").header(name, value).unsigned(name);
            assert_eq!(code(unsigned.presigned("60")), "InvalidRequest");
        }
    }
}

#[test]
fn a_08_content_sha256() {
    assert_eq!(code(get().with(|d| d.content_sha256 = None).signed()), "InvalidRequest");
    assert!(xml(get().with(|d| d.content_sha256 = None).signed()).contains("x-amz-content-sha256"));
    assert_eq!(code(get().content_sha256("unsigned-payload").signed()), "InvalidArgument");
    assert_eq!(code(get().content_sha256(&EMPTY_SHA256[1..]).signed()), "InvalidArgument");
    for value in
        ["STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"]
    {
        assert_eq!(code(put().content_sha256(value).signed()), "NotImplemented");
    }
    let verified = verify(put().content_sha256(EMPTY_SHA256).signed()).unwrap();
    assert_eq!(verified.payload().sha256.map(hex::encode).as_deref(), Some(EMPTY_SHA256));
    // Another hash than the signed one.
    let mut parts = put().content_sha256(EMPTY_SHA256).unsigned("x-amz-content-sha256").signed();
    parts.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    assert_eq!(code(parts), "SignatureDoesNotMatch");
    // A presigned URL may sign one.
    let presigned =
        put().query("X-Amz-Content-Sha256", EMPTY_SHA256).content_sha256(EMPTY_SHA256).presigned("60");
    assert!(verify(presigned).unwrap().payload().sha256.is_some());
}

#[test]
fn a_08_chunked_framing() {
    let chunked = |sha: &str| put().content_sha256(sha).header("content-encoding", "aws-chunked");
    let signed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    assert_eq!(code(chunked(signed).signed()), "MissingContentLength");
    assert_eq!(
        code(chunked(signed).header("x-amz-decoded-content-length", "-1").signed()),
        "InvalidArgument"
    );
    // An envelope that would be stored as data.
    assert_eq!(code(chunked("UNSIGNED-PAYLOAD").signed()), "InvalidRequest");
    assert_eq!(code(chunked(EMPTY_SHA256).signed()), "InvalidRequest");
    assert_eq!(code(chunked("UNSIGNED-PAYLOAD").presigned("60")), "InvalidRequest");
    // Trailers where none can come.
    let trailer = |sha| put().content_sha256(sha).header("x-amz-decoded-content-length", "3");
    let trailer = |sha| trailer(sha).header("x-amz-trailer", "x-amz-checksum-crc32");
    assert_eq!(code(trailer(signed).signed()), "InvalidRequest");
    assert_eq!(code(trailer("UNSIGNED-PAYLOAD").signed()), "InvalidRequest");
    // minio-go leaves the coding out.
    let verified = verify(trailer("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER").signed()).unwrap();
    assert!(verified.payload().chunked.is_some() && verified.payload().length == Some(3));
    assert!(verified.headers().keys().all(|name| !name.as_str().starts_with("x-amz-")));
}

#[test]
fn a_10_checksum_headers() {
    let crc = |draft: Draft| draft.header("x-amz-checksum-crc32", "AAAAAA==");
    let payload = |draft: Draft| verify(draft.signed()).unwrap().into_parts().payload;
    assert_eq!(payload(crc(put())).checksum.unwrap().to_base64(), "AAAAAA==");
    assert_eq!(code(crc(put()).header("x-amz-checksum-crc32c", "AAAAAA==").signed()), "InvalidRequest");
    assert_eq!(code(put().header("x-amz-checksum-crc32", "AAAA").signed()), "InvalidRequest");
    assert!(
        xml(put().header("x-amz-checksum-sha1", "x").signed())
            .contains("Value for x-amz-checksum-sha1 header is invalid.")
    );
    assert_eq!(code(put().header("x-amz-checksum-new", "AAAA").signed()), "NotImplemented");
    let streaming = put()
        .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("x-amz-decoded-content-length", "3");
    let trailer = |name: &str| streaming.clone().header("x-amz-trailer", name);
    assert_eq!(code(crc(trailer("x-amz-checksum-crc32")).signed()), "InvalidRequest");
    assert_eq!(code(trailer("x-amz-meta-a").signed()), "InvalidRequest");
    assert_eq!(code(trailer("x-amz-checksum-crc32,x-amz-checksum-sha1").signed()), "InvalidRequest");
    assert_eq!(code(put().header("content-md5", "AAAA").signed()), "InvalidDigest");
    assert_eq!(code(put().header("content-md5", "?").signed()), "InvalidDigest");
    assert!(payload(put().header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")).md5.is_some());
    // How is not what; and the object's checksum is not that of the list of its parts.
    assert!(
        payload(put().header("x-amz-checksum-mode", "ENABLED").header("x-amz-checksum-type", "FULL_OBJECT"))
            .checksum
            .is_none()
    );
    let complete =
        Draft::new("POST", "/b/k").query("uploadId", "1").header("x-amz-checksum-crc32", "AAAAAA==-2");
    assert!(payload(complete).checksum.is_none());
}

#[test]
fn a_11_skew() {
    let verify_at = |offset: i64| {
        let now = if offset < 0 {
            now() - Duration::from_secs(offset.unsigned_abs())
        } else {
            now() + Duration::from_secs(offset as u64)
        };
        authenticator().verify(get().signed(), now).map(|_| ()).map_err(|error| error.code().as_str())
    };
    assert!(verify_at(900).is_ok() && verify_at(-900).is_ok());
    assert_eq!(verify_at(901), Err("RequestTimeTooSkewed"));
    assert_eq!(verify_at(-901), Err("RequestTimeTooSkewed"));
}

#[test]
fn a_11_dates() {
    assert_eq!(code(get().with(|d| d.day = "20130523".into()).signed()), "AuthorizationHeaderMalformed");
    assert_eq!(
        code(get().with(|d| d.day = "20130523".into()).presigned("60")),
        "AuthorizationQueryParametersError"
    );
    assert_eq!(code(get().with(|d| d.time = "2013-05-24T00:00:00Z".into()).signed()), "AccessDenied");
    // Without x-amz-date, Date is what was signed.
    let with_date = |date: &'static str| {
        let mut parts = get().header("date", date).unsigned("x-amz-date").signed();
        parts.headers.remove("x-amz-date");
        parts
    };
    assert!(verify(with_date("Fri, 24 May 2013 00:00:00 GMT")).is_ok());
    assert_eq!(code(with_date("yesterday")), "AccessDenied");
}

#[test]
fn a_11_expiry() {
    let at = |expires: &str, now: SystemTime| {
        authenticator().verify(get().presigned(expires), now).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(at("60", now() + Duration::from_secs(60)).is_ok());
    assert_eq!(at("60", now() + Duration::from_secs(61)), Err("AccessDenied: Request has expired".into()));
    assert!(at("604800", now() + Duration::from_secs(604_800)).is_ok());
    assert!(at("60", now() - Duration::from_secs(900)).is_ok());
    assert_eq!(
        at("60", now() - Duration::from_secs(901)),
        Err("AccessDenied: Request is not valid yet".into())
    );
    assert_eq!(at("0", now() + Duration::from_secs(1)), Err("AccessDenied: Request has expired".into()));
    for expires in ["604801", "-1", "", "1e3", "+5", "99999999999999999999"] {
        assert_eq!(code(get().presigned(expires)), "AuthorizationQueryParametersError", "{expires}");
    }
}

#[test]
fn a_11_scope() {
    type Change = fn(&mut Draft);
    let changes: [(&str, Change); 3] = [
        ("region", |d| d.region = "eu-west-1".into()),
        ("service", |d| d.service = "sts".into()),
        ("terminator", |d| d.terminator = "aws5_request".into()),
    ];
    for (what, change) in changes {
        assert_eq!(code(get().with(change).signed()), "AuthorizationHeaderMalformed", "{what}");
        assert_eq!(code(get().with(change).presigned("60")), "AuthorizationQueryParametersError", "{what}");
    }
    let xml = xml(get().with(|d| d.region = "eu-west-1".into()).signed());
    assert!(
        xml.contains("the region &apos;eu-west-1&apos; is wrong; expecting &apos;us-east-1&apos;"),
        "{xml}"
    );
    assert!(xml.contains("<Region>us-east-1</Region>"), "{xml}");
    let mut any = config();
    any.region = "*".into();
    let any = any.build().unwrap();
    assert!(any.verify(get().with(|d| d.region = "mars-1".into()).signed(), now()).is_ok());
}

#[test]
fn a_11_algorithm_and_form() {
    for (algorithm, expected) in [
        ("AWS4-HMAC-SHA1", "InvalidRequest"),
        ("aws4-hmac-sha256", "InvalidRequest"),
        ("AWS4-ECDSA-P256-SHA256", "NotImplemented"),
    ] {
        assert_eq!(code(get().with(|d| d.algorithm = algorithm.into()).signed()), expected, "{algorithm}");
        assert_eq!(
            code(get().with(|d| d.algorithm = algorithm.into()).presigned("60")),
            expected,
            "{algorithm}"
        );
    }
    let good = get().signed().headers["authorization"].to_str().unwrap().to_owned();
    let with = |value: &str| {
        let mut parts = get().signed();
        parts.headers.insert("authorization", value.parse().unwrap());
        parts
    };
    assert!(verify(with(&good.replace(',', ", "))).is_ok());
    let scope = format!("Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request");
    for bad in [
        good.replace(&format!("{scope},"), ""),
        good.replace("SignedHeaders", "Headers"),
        good.replace("Signature=", "Signature=0"),
        format!("{good},{scope}"),
        format!("{good},"),
        good.replace("host;", "Host;"),
        good.replace("host;", "host;host;"),
        good.replace("host;", "host;;"),
        "AWS4-HMAC-SHA256".into(),
    ] {
        assert_eq!(code(with(&bad)), "AuthorizationHeaderMalformed", "{bad}");
    }
    for name in [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    ] {
        let mut parts = get().presigned("60");
        parts.uri = parts.uri.to_string().replace(name, "x-other").parse().unwrap();
        assert_eq!(code(parts), "AuthorizationQueryParametersError", "{name}");
    }
}

#[test]
fn a_12_paths_are_exact() {
    let key = |draft: Draft| verify(draft.signed()).unwrap().key().unwrap().as_str().to_owned();
    for path in [
        "/b/a//b",
        "/b//a",
        "/b/./a",
        "/b/../a",
        "/b/a+b",
        "/b/a b",
        "/b/%2F",
        "/b/é",
        "/b/e\u{301}",
        "/b/a/",
        "/b/~*'()!$&=,;:@",
    ] {
        assert_eq!(key(Draft::new("PUT", path)), path[3..], "{path}");
    }
    // As clients write them: what can be read otherwise, is read once.
    for (raw, decoded) in [
        ("/b/a%2Fb", "/b/a/b"),
        ("/b/a%2fb", "/b/a/b"),
        ("/b/a+b", "/b/a+b"),
        ("/b/%7Ea%2Db", "/b/~a-b"),
        ("/b/a%252Fb", "/b/a%2Fb"),
        ("/b/(a)", "/b/(a)"),
        ("/b%2Fk", "/b/k"),
    ] {
        assert_eq!(
            key(Draft::new("PUT", decoded).with(|d| d.raw_path = Some(raw.into()))),
            decoded[3..],
            "{raw}"
        );
    }
    for raw in ["/b/%", "/b/%4", "/b/%zz", "/b/%ff", "/b/%c3%28"] {
        assert_eq!(
            code(Draft::new("PUT", "/").with(|d| d.raw_path = Some(raw.into())).signed()),
            "InvalidURI",
            "{raw}"
        );
    }
    assert_eq!(code(Draft::new("PUT", &format!("/b/{}", "k".repeat(1025))).signed()), "KeyTooLongError");
    // Signing one key and asking for another.
    for raw in ["/b/a/b", "/b//a/b", "/b/a%2f%2fb", "/b/./a/b"] {
        let parts = Draft::new("PUT", "/b/x").with(|d| d.raw_path = Some(raw.into())).signed();
        assert_eq!(code(parts), "SignatureDoesNotMatch", "{raw}");
    }
}

#[test]
fn a_12_virtual_hosts() {
    let verified = verify(Draft::new("PUT", "//k").host("My-Bucket.s3.amazonaws.com:9000").signed()).unwrap();
    assert_eq!(verified.bucket().unwrap().as_str(), "my-bucket");
    assert_eq!(verified.key().unwrap().as_str(), "/k");
    assert_eq!(code(Draft::new("PUT", "/b ad/k").signed()), "InvalidBucketName");
}

#[test]
fn a_13_queries() {
    let draft = get().query("b", "2").query("a", "").query("b", "10").query("a-b", "x y/é+").query("A", "1");
    let verified = verify(draft.clone().signed()).unwrap();
    let pairs: Vec<_> = verified.query().iter().collect();
    assert_eq!(pairs, [("b", "2"), ("a", ""), ("b", "10"), ("a-b", "x y/é+"), ("A", "1")]);
    assert!(verify(draft.presigned("60")).unwrap().query().has("a-b"));
    // As URLSearchParams and Go write a space, and without an equals sign.
    let raw =
        get().query("prefix", "a b").query("acl", "").with(|d| d.raw_query = Some("acl&prefix=a+b".into()));
    assert_eq!(verify(raw.signed()).unwrap().query().get("prefix"), Some("a b"));
    assert_eq!(code(get().with(|d| d.raw_query = Some("more=1".into())).signed()), "SignatureDoesNotMatch");
    assert_eq!(code(get().with(|d| d.raw_query = Some("a=%".into())).signed()), "InvalidURI");
}

#[test]
fn a_14_header_values_are_bytes() {
    let verified = verify(put().header("x-amz-meta-a", b"\xff\xfe\x80").signed()).unwrap();
    assert_eq!(verified.headers()["x-amz-meta-a"].as_bytes(), b"\xff\xfe\x80");
    // What is signed is trimmed, and each run of spaces is one.
    let mut parts = put().header("x-amz-meta-a", "é  b").signed();
    assert_eq!(code(parts.clone()), "SignatureDoesNotMatch");
    parts = put().header("x-amz-meta-a", "é b").signed();
    parts.headers.insert("x-amz-meta-a", HeaderValue::from_bytes("  é \t  b ".as_bytes()).unwrap());
    assert!(verify(parts).is_ok());
}

#[test]
fn a_15_unknown_access_key() {
    let unknown = || get().with(|d| d.access_key = "AKIAUNKNOWN".into());
    assert_eq!(code(unknown().signed()), "InvalidAccessKeyId");
    assert_eq!(code(unknown().presigned("60")), "InvalidAccessKeyId");
    assert_eq!(code(get().with(|d| d.secret.push('x')).signed()), "SignatureDoesNotMatch");
    // The work is the same: the quickest of many rounds, so that a busy machine does not matter.
    let authenticator = authenticator();
    let round = |parts: &http::request::Parts| {
        let start = Instant::now();
        (0..20).for_each(|_| drop(authenticator.verify(parts.clone(), now())));
        start.elapsed()
    };
    let quickest = |parts| (0..100).map(|_| round(&parts)).min().unwrap();
    let (known, unknown) =
        (quickest(get().with(|d| d.secret.push('x')).signed()), quickest(unknown().signed()));
    assert!(unknown < known * 2 && known < unknown * 2, "{known:?} {unknown:?}");
}

#[test]
fn a_15_errors_tell_no_secret() {
    let parts = get().with(|d| d.secret.push('x')).signed();
    let given =
        parts.headers["authorization"].to_str().unwrap().split("Signature=").nth(1).unwrap().to_owned();
    let good = get().signed().headers["authorization"]
        .to_str()
        .unwrap()
        .split("Signature=")
        .nth(1)
        .unwrap()
        .to_owned();
    let error = verify(parts).map(|_| ()).unwrap_err();
    let all = format!("{} {error:?} {error}", error.to_xml("/", "id"));
    for hidden in
        [auth_support::SECRET_KEY, &given, &good, "StringToSign", "CanonicalRequest", "AWS4-HMAC-SHA256\n"]
    {
        assert!(!all.contains(hidden), "{all}");
    }
    let verified = format!("{:?} {:?}", verify(get().signed()).unwrap(), authenticator());
    assert!(!verified.contains(auth_support::SECRET_KEY) && verified.contains("***"), "{verified}");
}

#[test]
fn a_15_customer_keys_are_not_printed() {
    for name in
        ["x-amz-server-side-encryption-customer-key", "x-amz-copy-source-server-side-encryption-customer-key"]
    {
        for parts in [get().header(name, "c2VjcmV0").signed(), get().query(name, "c2VjcmV0").presigned("60")]
        {
            let verified = verify(parts).unwrap();
            assert_eq!(verified.headers()[name], "c2VjcmV0");
            assert!(!format!("{verified:?}").contains("c2VjcmV0"));
        }
    }
}

#[test]
fn a_16_framing() {
    for (name, value, expected) in
        [("transfer-encoding", "chunked", "InvalidRequest"), ("content-length", "3", "InvalidRequest")]
    {
        assert_eq!(
            code(put().unsigned("content-length").header(name, value).unsigned(name).signed()),
            expected,
            "{name}"
        );
    }
    for coding in ["gzip, chunked", "\tchunked, identity", "identity", "xchunked"] {
        let draft = get().header("transfer-encoding", coding).unsigned("transfer-encoding");
        assert_eq!(code(draft.signed()), "NotImplemented", "{coding}");
    }
    assert_eq!(code(get().header("content-length", "+3").signed()), "InvalidArgument");
    // aws-chunked inside of HTTP's own chunks, as SDKs send it.
    let both = Draft::new("PUT", "/b/k")
        .header("transfer-encoding", "chunked")
        .unsigned("transfer-encoding")
        .content_sha256("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .header("content-encoding", "gzip,aws-chunked")
        .header("x-amz-decoded-content-length", "3");
    let verified = verify(both.signed()).unwrap();
    assert_eq!(verified.payload().length, Some(3));
    assert_eq!(verified.headers()["content-encoding"], "gzip");
    // No length at all is for the handler to judge.
    assert_eq!(verify(Draft::new("PUT", "/b/k").signed()).unwrap().payload().length, None);
}

#[test]
fn a_17_only_what_may_be_passed_on() {
    let hop = [
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "1"),
        ("te", "trailers"),
        ("trailer", "a"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("proxy-authorization", "a"),
        ("proxy-connection", "a"),
    ];
    let mut draft = put().header("x-amz-meta-a", "1").header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    for (name, value) in hop {
        draft = draft.header(name, value).unsigned(name);
    }
    let verified = verify(draft.signed()).unwrap();
    let mut names: Vec<_> = verified.headers().keys().map(|name| name.as_str()).collect();
    names.sort();
    assert_eq!(names, ["content-md5", "x-amz-meta-a"]);
    // Connection can't make a header that counts disappear.
    let verified =
        verify(put().header("connection", "x-amz-acl").header("x-amz-acl", "private").signed()).unwrap();
    assert!(verified.headers().contains_key("x-amz-acl"));
}

#[test]
fn a_17_hoisted_headers_are_headers() {
    let draft = put().query("x-amz-acl", "public-read").query("X-Amz-Meta-A", "é").query("partNumber", "1");
    let verified = verify(draft.presigned("60")).unwrap();
    assert_eq!(verified.headers()["x-amz-acl"], "public-read");
    assert_eq!(verified.headers()["x-amz-meta-a"].as_bytes(), "é".as_bytes());
    assert_eq!(verified.query().to_canonical(), "partNumber=1");
    // Also where the signature is in a header, or there is none.
    for parts in
        [get().query("X-Amz-Copy-Source", "/a/b").signed(), get().query("X-Amz-Copy-Source", "/a/b").plain()]
    {
        assert_eq!(verify(parts).unwrap().headers()["x-amz-copy-source"], "/a/b");
    }
    let contradiction =
        put().query("x-amz-acl", "private").header("x-amz-acl", "public-read").presigned("60");
    assert_eq!(code(contradiction), "InvalidArgument");
    assert_eq!(code(put().query("x-amz-checksum-crc32", "AAAA").presigned("60")), "InvalidRequest");
}

#[test]
fn a_17_the_envelope_is_reserved() {
    let header = || put().header("X-Amz-Meta-S3veil", "AA");
    let hoisted = || put().query("X-AMZ-META-s3VEIL", "AA");
    for parts in [
        header().signed(),
        header().plain(),
        hoisted().presigned("60"),
        hoisted().signed(),
        hoisted().plain(),
    ] {
        assert_eq!(code(parts.clone()), "InvalidArgument");
        assert_eq!(code_at(&trusted(), parts), "InvalidArgument");
    }
    assert!(xml(header().signed()).contains("reserved"));
}

#[test]
fn a_18_session_tokens() {
    let mut config = config();
    config.identities[0].session_token = Some(SecretSource::from("token+/="));
    let with_token = config.build().unwrap();
    let header = |token: &str| get().header("x-amz-security-token", token).signed();
    let query = |token: &str| get().query("X-Amz-Security-Token", token).presigned("60");
    for parts in [header("token+/="), query("token+/=")] {
        let verified = with_token.verify(parts.clone(), now()).unwrap();
        assert!(verified.headers().is_empty() && verified.query().is_empty());
        // An identity without a token takes none.
        assert_eq!(code(parts), "InvalidToken");
    }
    for parts in [header("token"), header(""), query("other"), get().signed(), get().presigned("60")] {
        assert_eq!(code_at(&with_token, parts), "InvalidToken");
    }
    // A token and nothing else is not anonymous.
    assert_eq!(code(get().header("x-amz-security-token", "t").plain()), "AccessDenied");
    assert_eq!(code(get().query("X-Amz-Security-Token", "t").plain()), "AuthorizationQueryParametersError");
}

#[test]
fn a_19_signature_version_2_is_off() {
    for parts in [
        get().header("authorization", "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=").plain(),
        get().query("AWSAccessKeyId", "A").query("Signature", "s").query("Expires", "1").plain(),
        get().header("authorization", "Basic YTpi").plain(),
        get().header("authorization", "").plain(),
    ] {
        let error = verify(parts).map(|_| ()).unwrap_err();
        assert_eq!(error.code().as_str(), "InvalidRequest");
        assert!(error.message().contains("Please use AWS4-HMAC-SHA256"), "{error}");
    }
}

#[test]
fn a_20_anonymous_is_a_value() {
    for method in ["GET", "OPTIONS", "PUT"] {
        let verified = verify(Draft::new(method, "/b/k").plain()).unwrap();
        assert!(matches!(verified.who(), Who::Anonymous));
        assert_eq!(verified.method().as_str(), method);
    }
    // A browser asks before it uses a presigned URL: the signature is that of the request to come.
    let verified = verify(with_method(put().presigned("60"), "OPTIONS")).unwrap();
    assert!(matches!(verified.who(), Who::Anonymous) && verified.query().is_empty());
    // What looks like half a signature is none.
    for name in ["X-Amz-Signature", "x-amz-signature", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"] {
        assert_eq!(code(get().query(name, "1").plain()), "AuthorizationQueryParametersError", "{name}");
    }
    let chunked = put().header("x-amz-decoded-content-length", "3");
    let signed = chunked.clone().header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert_eq!(code(signed.plain()), "InvalidRequest");
    assert!(
        verify(chunked.header("content-encoding", "aws-chunked").plain())
            .unwrap()
            .payload()
            .chunked
            .is_some()
    );
}

fn with_method(mut parts: http::request::Parts, method: &str) -> http::request::Parts {
    parts.method = method.parse().unwrap();
    parts
}

#[test]
fn trusted_mode_ignores_signatures_but_not_bodies() {
    let trusted = trusted();
    let bad = |d: &mut Draft| d.secret.push('x');
    for parts in [
        put().plain(),
        put().with(bad).signed(),
        put().with(bad).presigned("60"),
        put().header("authorization", "AWS a:b").plain(),
    ] {
        let verified = trusted.verify(parts, now() + Duration::from_secs(1 << 30)).unwrap();
        assert!(matches!(verified.who(), Who::Trusted));
        assert!(verified.query().is_empty());
        assert!(!verified.headers().contains_key("authorization"));
    }
    let verified = trusted.verify(put().content_sha256(EMPTY_SHA256).signed(), now()).unwrap();
    assert!(verified.payload().sha256.is_some());
    assert_eq!(code_at(&trusted, put().header("content-md5", "x").plain()), "InvalidDigest");
    let streaming = put()
        .content_sha256("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .header("x-amz-decoded-content-length", "3");
    assert!(trusted.verify(streaming.signed(), now()).unwrap().payload().chunked.is_some());
}

proptest! {
    /// for any key and query, what was signed is what is routed.
    #[test]
    fn a_12_what_is_signed_is_what_is_routed(
        key in "\\PC{1,200}",
        pairs in prop::collection::vec(("[a-z%+=&é -]{1,8}", "\\PC{0,20}"), 0..5),
        presigned: bool,
    ) {
        let mut draft = Draft::new("GET", &format!("/bucket/{key}"));
        for (name, value) in &pairs {
            draft = draft.query(name, value);
        }
        let verified = verify(if presigned { draft.presigned("60") } else { draft.signed() }).unwrap();
        prop_assert_eq!(verified.key().unwrap().as_str(), key);
        let got: Vec<_> = verified.query().iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(got, pairs);
    }

    /// Any change of any signed byte is refused.
    #[test]
    fn a_07_a_changed_byte_is_refused(position: prop::sample::Index, mask in 1u8..=127) {
        let good = get().query("prefix", "abc").presigned("60");
        let uri = good.uri.to_string();
        let mut bytes = uri.clone().into_bytes();
        let at = position.index(bytes.len());
        bytes[at] ^= mask;
        let changed = String::from_utf8(bytes).ok().and_then(|uri| uri.parse::<http::Uri>().ok());
        // Hex digits and parameter names may change their case.
        let same = |changed: &http::Uri| changed.to_string().eq_ignore_ascii_case(&uri);
        if let Some(changed) = changed.filter(|changed| !same(changed)) {
            let mut parts = good;
            parts.uri = changed;
            prop_assert!(verify(parts).map(|v| !matches!(v.who(), Who::Identity(_))).unwrap_or(true));
        }
    }
}

#[test]
fn the_time_of_the_examples() {
    assert_eq!(httpdate::fmt_http_date(now()), "Fri, 24 May 2013 00:00:00 GMT");
    assert_eq!(TIME, "20130524T000000Z");
}
