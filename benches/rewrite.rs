//! A listing of 1,000 keys, its sizes rewritten as the handler does it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use s3veil::s3::rewrite::{Encoding, Segment, Splitter};
use s3veil::seal::{Layout, SealedLen};

fn listing() -> Vec<u8> {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>",
    );
    for at in 0..1000 {
        xml.push_str(&format!(
            "<Contents><Key>some/folder/of/keys/{at:08}</Key><LastModified>2026-11-23T00:00:00.000Z</LastModified>\
             <ETag>&quot;0123456789abcdef0123456789abcdef&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            100_000 + at
        ));
    }
    xml.push_str("</ListBucketResult>");
    xml.into_bytes()
}

fn rewrite(listing: &[u8]) -> usize {
    let mut splitter = Splitter::new(Encoding::Url);
    let mut out = 0;
    // As it comes from a connection.
    for piece in listing.chunks(16_384) {
        for segment in splitter.push(piece).unwrap() {
            out += match segment {
                Segment::Raw(bytes) => bytes.len(),
                Segment::Entry(entry) => match entry.size.and_then(|size| SealedLen::new(size).layout()) {
                    Some(Layout::Stream(plain)) => entry.with_size(plain.get()).len(),
                    _ => entry.into_bytes().len(),
                },
            };
        }
    }
    out + splitter.finish().unwrap().len()
}

fn benches(criterion: &mut Criterion) {
    let listing = listing();
    let mut group = criterion.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1,000 keys", |bencher| bencher.iter(|| rewrite(&listing)));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
