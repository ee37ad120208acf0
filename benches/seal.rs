//! How fast bodies are sealed and opened, as the proxy does it: a chunk is copied into a buffer, sealed or opened
//! there, and the buffer is used again. And how long an envelope takes.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use s3veil::seal::{Dek, Envelope, Header, Layout, MAGIC, Place, PlainLen, PlainRange, Sse, Trailer};

const PLACE: Place<'static> = Place { bucket: "bucket", key: "some/folder/object" };
const TRAILER: Trailer = Trailer { crc64: 0, client: None };
const SIZES: [(&str, usize); 4] =
    [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)];

fn dek() -> Dek {
    Dek::from([7; 32])
}

fn length(bytes: usize) -> PlainLen {
    PlainLen::new(bytes as u64).expect("shorter than 5 TiB")
}

fn header(bytes: usize) -> Header {
    Header {
        layout: Layout::Stream(length(bytes)),
        kms: "kes".into(),
        ek: "my-key".into(),
        ek_version: None,
        wrapped_dek: vec![1; 76],
        sse: Sse::Kms,
        context: None,
    }
}

/// Seals a body, envelope and all, and hands each piece on.
fn seal(plain: &[u8], buffer: &mut BytesMut, mut give: impl FnMut(&[u8])) -> Envelope {
    let (envelope, fresh) = Envelope::seal(header(plain.len()), &dek(), PLACE).expect("sealed");
    let mut sealer = fresh.into_sealer().expect("a stream");
    give(&MAGIC);
    let mut left = plain;
    while let Some(len) = sealer.next_len() {
        buffer.clear();
        buffer.extend_from_slice(&left[..len]);
        sealer.seal(buffer).expect("the right length");
        give(buffer);
        left = &left[len..];
    }
    let trailer = sealer.finish(&TRAILER).expect("the last chunk is sealed");
    give(&trailer.expect("a stream has a trailer"));
    envelope
}

fn open(envelope: &Envelope, body: &[u8], buffer: &mut BytesMut, plain: usize) {
    let opened = envelope.open(&dek(), PLACE).expect("the same place");
    let mut opener = opened.into_opener(PlainRange::whole(length(plain))).expect("a stream");
    let mut left = body;
    while let Some(len) = opener.next_len() {
        buffer.clear();
        buffer.reserve(len);
        buffer.extend_from_slice(&left[..len]);
        opener.open(buffer).expect("authentic");
        black_box(&buffer[..]);
        left = &left[len..];
    }
    black_box(opener.open_trailer(left).expect("authentic"));
}

fn bodies(c: &mut Criterion) {
    let mut buffer = BytesMut::with_capacity(70_000);
    for (name, size) in SIZES {
        let plain = vec![0x5a; size];
        let mut body = Vec::new();
        let envelope = seal(&plain, &mut buffer, |piece| body.extend_from_slice(piece));

        let mut group = c.benchmark_group("body");
        group.sample_size(if size > 1 << 20 { 10 } else { 50 });
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("seal", name), |b| {
            b.iter(|| {
                seal(&plain, &mut buffer, |piece| {
                    black_box(piece);
                })
            });
        });
        group.bench_function(BenchmarkId::new("open", name), |b| {
            b.iter(|| open(&envelope, &body, &mut buffer, size))
        });
        group.finish();
    }
}

fn envelopes(c: &mut Criterion) {
    c.bench_function("envelope/make", |b| {
        b.iter(|| Envelope::seal(header(1), &dek(), PLACE).expect("sealed").0.encode());
    });
    let text = Envelope::seal(header(1), &dek(), PLACE).expect("sealed").0.encode();
    c.bench_function("envelope/read", |b| {
        b.iter(|| Envelope::parse(&text).expect("just made").open(&dek(), PLACE).expect("the same place"));
    });
}

criterion_group!(benches, bodies, envelopes);
criterion_main!(benches);
