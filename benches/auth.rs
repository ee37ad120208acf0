//! What it costs to verify a request, and to take a signed aws-chunked body apart.

#[path = "../tests/auth_support/mod.rs"]
mod auth_support;

use std::hint::black_box;

use auth_support::{Draft, authenticator, now, signed_chunks};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use s3veil::body::chunked::Decoder;

fn verify(c: &mut Criterion) {
    let authenticator = authenticator();
    // As an SDK sends it.
    let draft = Draft::new("PUT", "/bucket/photos/2026/a photo.jpg")
        .header("content-type", "image/jpeg")
        .header("content-length", "1048576")
        .header("x-amz-meta-camera", "a camera")
        .header("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")
        .header("user-agent", "aws-sdk-rust/1.3 os/linux lang/rust/1.95")
        .unsigned("user-agent")
        .query("x-id", "PutObject");
    for (name, parts) in [("header", draft.clone().signed()), ("presigned", draft.clone().presigned("60"))] {
        c.bench_function(&format!("verify/{name}"), |b| {
            let verify =
                |parts| authenticator.verify(black_box(parts), now()).expect("the signature is good");
            b.iter_batched(|| parts.clone(), verify, BatchSize::SmallInput);
        });
    }
}

fn chunked(c: &mut Criterion) {
    let data = vec![7; 1 << 20];
    let draft = Draft::new("PUT", "/bucket/key")
        .content_sha256("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .header("x-amz-decoded-content-length", data.len().to_string());
    let (parts, seed) = draft.clone().signed_with_seed();
    let chunks: Vec<&[u8]> = data.chunks(1 << 16).collect();
    let body = Bytes::from([signed_chunks(&draft, &seed, &chunks).0.as_slice(), b"\r\n"].concat());
    let authenticator = authenticator();
    let decoder = || {
        let payload =
            authenticator.verify(parts.clone(), now()).expect("the signature is good").into_parts().payload;
        Decoder::new(payload.chunked.expect("it is aws-chunked"), data.len() as u64)
    };
    let mut group = c.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("signed, 64 KiB chunks", |b| {
        let decode = |mut decoder: Decoder| {
            let mut input = body.clone();
            while let Some(piece) = decoder.feed(&mut input).expect("the body is good") {
                black_box(piece);
            }
            decoder.finish().expect("the body is whole")
        };
        b.iter_batched(decoder, decode, BatchSize::SmallInput);
    });
}

criterion_group!(benches, verify, chunked);
criterion_main!(benches);
